"""Qwen3-VL: what its encoder's taps say of a cell goes where its token goes; against the library's own layers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.pruner import Decision
from meteor_bench.core.tokens import Tokens
from meteor_bench.engine.encode import encode
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.fuse import fuse
from meteor_bench.engine.make_method import make_pruner
from meteor_bench.engine.prefill import begin
from meteor_bench.models.qwen_vit import DeepTower
from tests import hubs, tiny

HEIGHT, WIDTH = 5, 3  # cells of an image


@torch.inference_mode()
def test_a_pruned_row_is_what_the_librarys_blocks_make_of_its_patches() -> None:
    tower, library = hubs.build("qwen3_vl").towers["vit"], hubs.library("qwen3_vl").model.model.visual
    assert isinstance(tower, DeepTower) and tower.taps == (0, 2)
    pixels = torch.randn(2, 6, HEIGHT * tower.cell, WIDTH * tower.cell, generator=torch.Generator().manual_seed(0))
    kept = [[0, 1, 4, 5, 7, 8, 10, 12, 14], [2, 3, 6, 9, 11, 13]]
    keep = torch.tensor([[i in row for i in range(HEIGHT * WIDTH)] for row in kept])
    tokens = apply(tower.embed(pixels), Decision(keep=keep))
    x, where = tokens.x, tower.where(tokens)
    for block in range(tower.depth):
        x = tower.feed(block, tower.attend(block, x, None, None, where))
    for row, cells in enumerate(kept):
        patch = torch.arange(4)
        place = torch.tensor(cells)[:, None]
        place = torch.stack([place // WIDTH * 2 + patch // 2, place % WIDTH * 2 + patch % 2], -1).flatten(0, 1)
        h = tokens.x[row, : len(cells)].reshape(-1, 32)
        rotary = library.rotary_pos_emb(h, place)
        for layer in library.blocks:
            h = layer(h, cu_seqlens=torch.tensor([0, len(h)], dtype=torch.int32), position_embeddings=rotary)
        assert torch.allclose(x[row, : len(cells)].reshape(-1, 32), h, atol=1e-5)


class Whole:
    """What the library makes of a request, as its language model gets it."""

    def __init__(self, reference: hubs.Reference, request: Any) -> None:
        inputs, seen = reference.inputs(request), {}
        self.model: Any = reference.model
        hook = self.model.model.language_model.register_forward_pre_hook(
            lambda _, args, more: seen.update(more), with_kwargs=True
        )
        self.model(**inputs)
        hook.remove()
        self.h, self.positions = seen["inputs_embeds"], seen["position_ids"]
        self.visual, self.deep = seen["visual_pos_masks"][0], seen["deepstack_visual_embeds"]

    def logits(self, kept: Tensor, before: int) -> Tensor:
        """Of the last token, layer by layer, with all visual tokens but ``kept`` (indices) gone from ``before`` on."""
        body = self.model.model.language_model
        h, positions, visual, deep = self.h, self.positions, self.visual, torch.stack(list(self.deep))
        for i, layer in enumerate(body.layers):
            if i == before:
                stay = ~visual
                stay[visual.nonzero()[kept, 0]] = True
                h, positions, visual, deep = h[:, stay], positions[:, :, stay], visual[stay], deep[:, kept]
            h = layer(h, position_embeddings=body.rotary_emb(h, positions), attention_mask=None)
            if i < len(deep):
                h = h.clone()
                h[:, visual] += deep[i]
        out: Tensor = self.model.lm_head(body.norm(h)[:, -1])
        return out


@pytest.mark.parametrize(
    ("method", "options", "before"),
    [("divprune", {}, 0), ("fastv", {"layer": 1}, 1), ("fastv", {"layer": 2}, 2)],
)
@pytest.mark.parametrize("frames", [1, 3])
@torch.inference_mode()
def test_what_is_added_to_a_token_stays_with_it(method: str, options: Any, before: int, frames: int) -> None:
    (request,) = tiny.requests(1, frames)
    left: list[Tokens] = []
    engine = Engine(
        hubs.build("qwen3_vl"),
        make_pruner(method, options),
        TokenBudget(0.4),
        recorder=lambda kind, point, tower, tokens: left.append(tokens),
    )
    look = engine.vlm.processor.look(request.media())
    visual = fuse(engine, encode(engine, look.pixels[None], ["a"], look.scene))
    start = begin(engine, visual, [0], tiny.prompts(engine.vlm, [request]), 1)
    kept = left[-1].origin[left[-1].origin >= 0]
    whole = Whole(hubs.Reference("qwen3_vl"), request)
    assert len(kept) < int(whole.visual.sum())
    assert torch.allclose(start.logits, whole.logits(kept, before), atol=1e-4)
    whole.deep = [torch.zeros_like(part) for part in whole.deep]
    assert not torch.allclose(start.logits, whole.logits(kept, before), atol=1e-2)


@pytest.mark.parametrize("taps", [[2, 0], [1, 1], [5]])
def test_taps_that_are_no_blocks_in_order_are_one_line(tmp_path: Path, taps: list[int]) -> None:
    assert re.search(
        r"deepstack_visual_indexes=.* from 0 to 4",
        hubs.refused("qwen3_vl", tmp_path / "odd", {"vision_config": {"deepstack_visual_indexes": taps}}),
    )
