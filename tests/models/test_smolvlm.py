"""SmolVLM2: its encoder pruned, against the library's own layers; what stands around images; real sizes; limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from meteor_bench.core.apply import apply
from meteor_bench.core.model import Clip, ModelCard
from meteor_bench.core.pruner import Decision
from meteor_bench.models.smolvlm import SMOLVLM2_2_2B, SMOLVLM2_256M, SMOLVLM2_500M, SmolProcessor
from tests import hub_pieces, hubs, tiny

FAMILY = "smolvlm"


@torch.inference_mode()
def test_a_pruned_row_is_what_the_librarys_layers_make_of_its_tokens() -> None:
    tower, library = hubs.build(FAMILY).towers["siglip"], hubs.library(FAMILY).model.model.vision_model
    pixels = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    whole = library.embeddings(pixels, torch.ones(2, 6, 6, dtype=torch.bool))
    kept = [[0, 1, 2, 5, 9, 35], [3, 4, 8, 10, 11, 14]]
    keep = torch.tensor([[i in row for i in range(36)] for row in kept])
    tokens = apply(tower.embed(pixels), Decision(keep=keep))
    x = tokens.x
    for block in range(tower.depth):
        x = tower.feed(block, tower.attend(block, x, None, None))
    done = tower.finish(tokens.with_x(x))
    for row, cells in enumerate(kept):
        h = whole[row : row + 1, cells]
        for layer in library.encoder.layers:
            h = layer(h, None)
        assert torch.allclose(done.x[row], library.post_layernorm(h)[0], atol=1e-5)
        assert done.origin[row].tolist() == cells


@pytest.mark.parametrize("frames", [2, 13, 130])
def test_a_videos_words_are_the_librarys(frames: int) -> None:
    """Also of a minute and more, which would take the model long."""
    processor, reference = hubs.build(FAMILY).processor, hubs.Reference(FAMILY)
    assert isinstance(processor, SmolProcessor)
    (request,) = tiny.requests(1)
    clip = Clip(request.media()[0].resize((16, 16)) for _ in range(frames))
    told = {"total_num_frames": frames, "fps": 2.0, "frames_indices": list(range(frames))}
    message = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": request.question}]}
    text = reference.processor.apply_chat_template([message], add_generation_prompt=True)
    shown = {"videos": [list(clip)], "do_sample_frames": False, "video_metadata": [told]}
    theirs = hub_pieces.quiet(reference.processor, text=text, return_tensors="pt", **shown)["input_ids"][0].tolist()
    before, after = processor.prompt(request.question)
    first, *others = processor.frames_said(processor.look(clip).scene.times)
    image = [reference.model.config.image_token_id] * 4
    ours = [*before, *first, *(i for text in others for i in (*image, *text)), *after]
    assert ours == theirs


def test_tiles_and_small_copies_are_counted_as_the_library_does() -> None:
    processor, (request,) = hubs.build(FAMILY).processor, tiny.requests(1)
    picture = request.media()[0]
    look = processor.look([picture.resize((90, 30)), picture.resize((30, 90)), picture])
    assert look.scene.sizes == ((1, 2), (2, 1), (2, 2))
    assert look.pixels.shape == (3 + 3 + 5, 3, 48, 48)


@pytest.mark.parametrize(
    ("card", "parameters", "tokens"),  # as the hub counts them
    [(SMOLVLM2_256M, 256_484_928, 64), (SMOLVLM2_500M, 507_482_304, 64), (SMOLVLM2_2_2B, 2_246_784_880, 81)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_real_sizes(card: ModelCard, parameters: int, tokens: int) -> None:
    assert card.random is not None
    vlm = card.random("meta", torch.bfloat16)
    assert sum(p.numel() for m in vlm.modules().values() for p in m.parameters()) == parameters
    assert vlm.reference(vlm.grid(1, *vlm.native)) == tokens and card.tokens == 17 * tokens


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scale_factor": 4}, r"scale_factor=4 on 6x6 patches; supported: a divisor of 6"),
        (
            {"vision_config": {"image_size": [48, 32]}},
            r"vision_config\.image_size=\[48, 32\]; expected a positive whole",
        ),
        ({"text_config": {"model_type": "gemma"}}, r"language model of type 'gemma'; supported: llama, qwen2, qwen3"),
    ],
)
def test_what_is_not_supported_is_one_line(tmp_path: Path, changes: Mapping[str, Any], said: str) -> None:
    assert re.search(said, hubs.refused(FAMILY, tmp_path / "odd", changes))
