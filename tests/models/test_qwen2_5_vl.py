"""Qwen2.5-VL's tower against plain dense attention: pruned, padded, and what a probe reads; its positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.vision_utils import get_vision_window_index

from meteor_bench.core.apply import apply
from meteor_bench.core.attention_probe import Probe
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import MediaError
from meteor_bench.core.pruner import Decision
from meteor_bench.core.request import (
    Answer,
    Request,
)
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.engine.make_method import make_pruner
from meteor_bench.engine.session import Session
from meteor_bench.models.mrope_block import block_of
from meteor_bench.models.qwen_vit import QwenTower
from tests import hubs, tiny

HEIGHT, WIDTH = 5, 3  # cells of an image; windows are 2 x 2


@pytest.fixture(scope="module")
def tower() -> QwenTower:
    """The tiny checkpoint's."""
    found = hubs.build("qwen2_5_vl").towers["vit"]
    assert isinstance(found, QwenTower)
    return found


@pytest.fixture(scope="module")
def pruned(tower: QwenTower) -> Tokens:
    """Two images, 9 and 6 of 15 cells left."""
    g = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, 6, HEIGHT * tower.cell, WIDTH * tower.cell, generator=g)
    kept = [[0, 1, 4, 5, 7, 8, 10, 12, 14], [2, 3, 6, 9, 11, 13]]
    return apply(tower.embed(pixels), Decision(keep=torch.tensor([[i in row for i in range(15)] for row in kept])))


def _windows() -> Tensor:
    """Window of each cell, as the library cuts them."""
    order, ends = get_vision_window_index(torch.tensor([[1, 2 * HEIGHT, 2 * WIDTH]]), 2, 16, 4)
    window = torch.zeros(HEIGHT * WIDTH, dtype=torch.long)
    for i, (start, end) in enumerate(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)):
        window[order[start // 4 : end // 4]] = i
    return window


def _dense(tower: QwenTower, block: int, x: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One row's block on its patches [4·n, D] with an explicit softmax: output, attention [H, Q, K], keys."""
    layer: Any = tower.blocks[block]
    patch = torch.arange(4)
    place = torch.stack([cells[:, None] // WIDTH * 2 + patch // 2, cells[:, None] % WIDTH * 2 + patch % 2], -1)
    angle = (place.flatten(0, 1)[..., None] * tower.rotary.inv_freq).flatten(1)  # [4·n, d/2]
    cos, sin = angle.cos(), angle.sin()

    def turned(v: Tensor) -> Tensor:
        a, b = v.chunk(2, -1)
        return torch.cat([a * cos[:, None] - b * sin[:, None], b * cos[:, None] + a * sin[:, None]], -1)

    query, key, value = layer.attn.qkv(layer.norm1(x)).reshape(len(x), 3, 2, 16).unbind(1)
    query, key = turned(query).transpose(0, 1), turned(key).transpose(0, 1)
    scores = query @ key.transpose(1, 2) / 4
    window = _windows()[cells].repeat_interleave(4)
    if block not in (1, 4):
        scores = scores.masked_fill(window[:, None] != window, -torch.inf)
    attention = scores.softmax(-1)
    mixed = (attention @ value.transpose(0, 1)).transpose(0, 1).flatten(1)
    x = x + layer.attn.proj(mixed)
    return x + layer.mlp(layer.norm2(x)), attention, key


@pytest.mark.parametrize("block", [0, 1])
def test_a_pruned_row_is_what_plain_attention_over_its_patches_gives(
    tower: QwenTower, pruned: Tokens, block: int
) -> None:
    where = tower.where(pruned)
    probe = Probe(mode="received", queries=pruned.valid, want_keys=True)
    out = tower.feed(block, tower.attend(block, pruned.x, None, probe, where))
    assert probe.attention is not None and probe.keys is not None
    pairs = tower.pairs(block, where).tolist()
    for row, count in enumerate((9, 6)):
        cells = pruned.origin[row, :count]
        want, attention, key = _dense(tower, block, pruned.x[row, :count].reshape(-1, 32), cells)
        assert torch.allclose(out[row, :count].reshape(-1, 32), want, atol=1e-5)
        received = attention.mean((0, 1)).reshape(count, 4).sum(1)
        assert torch.allclose(probe.attention[row, :count], received, atol=1e-6)
        assert torch.allclose(probe.keys[row, :count], key.mean(0).reshape(count, 4, -1).mean(1), atol=1e-5)
        assert pairs[row] == int((attention[0] > 0).sum())


def test_positions_of_images_and_the_text_between_them() -> None:
    decoder = hubs.build("qwen2_5_vl").decoder
    block = block_of(decoder, Grid(2, 1, 3), [(), (8, 9), ()])
    assert block.slots.tolist() == [0, 1, 2, 5, 6, 7] and block.special_slots.tolist() == [3, 4]
    assert block.positions is not None and block.span == 3 + 2 + 3
    assert block.positions[:4].tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [3, 3, 3]]
    assert block.positions[4:].tolist() == [[4, 4, 4], [5, 5, 5], [5, 5, 6], [5, 5, 7]]
    assert torch.equal(block.special, decoder.embed(torch.tensor([8, 9])))
    video = block_of(decoder, Grid(3, 1, 2), [(), ()], 2.5)
    assert video.positions is not None and video.span == 2
    assert video.positions[:, 0].tolist() == [0, 0, 2, 2, 5, 5]


def mixed(key: str, *sizes: tuple[int, int]) -> Request:
    """A question about images of these widths and heights."""
    return Request(
        key, key, lambda: [tiny.picture(i).resize(size) for i, size in enumerate(sizes)], tiny.QUESTIONS[1], 3
    )


@pytest.mark.parametrize("method", ["random", "fastv", "evoprune", "tome", "divprune", "visionzip", "pool"])
def test_images_of_unequal_size_are_pruned_to_the_budget(method: str) -> None:
    """And a batch equals its rows run alone; that unpruned ones are the library's is in `test_hub`."""
    sizes = [(128, 128), (30, 90), (90, 41)]
    asked = [mixed("t/0", *sizes), mixed("t/1", *sizes), mixed("t/2", (64, 64)), mixed("t/3", *sizes[::-1])]
    session = Session(hubs.build("qwen2_5_vl"), make_pruner(method), TokenBudget.from_ratio(0.5))
    together: dict[str, Answer] = {}
    session.answer(asked, lambda request, answer: together.update({request.key: answer}))
    alone: dict[str, Answer] = {}
    session.answer(asked, lambda request, answer: alone.update({request.key: answer}), batch_size=1, reuse=False)
    cells = sum(h * w for h, w in session.vlm.processor.look(asked[0].media()).scene.sizes)
    for key in ("t/0", "t/1", "t/3"):
        tokens = together[key].tokens
        assert (tokens["reference"], tokens["final"]) == (cells, cells // 2)
    assert {k: (a.text, a.tokens, a.flops) for k, a in together.items()} == {
        k: (a.text, a.tokens, a.flops) for k, a in alone.items()
    }


@pytest.mark.parametrize(
    ("method", "sizes", "said"),
    [
        ("none", [(2000, 8)], "aspect ratio must be smaller than 200"),
        ("downsample", [(128, 128), (30, 90)], "Downsample cannot shrink images of unequal size together"),
    ],
)
def test_what_the_model_cannot_take_names_the_row(method: str, sizes: list[tuple[int, int]], said: str) -> None:
    budget = TokenBudget.from_ratio(0.0 if method == "none" else 0.5)
    session = Session(hubs.build("qwen2_5_vl"), make_pruner(method), budget)
    with pytest.raises(MediaError, match=rf"^t: row 7: 'tiny-qwen2_5_vl' cannot take its pictures .*{said}") as caught:
        session.answer([mixed("t/7", *sizes)], lambda request, answer: None)
    assert "\n" not in str(caught.value) and caught.value.media_key == "t/7"
