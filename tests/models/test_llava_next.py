"""LLaVA-NeXT's tokens at real size: tiles, padding and newlines as its processor counts them."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from transformers import LlavaNextImageProcessor, LlavaNextProcessor

from meteor_bench.core.model import VLM
from meteor_bench.core.tokens import Grid
from meteor_bench.models.llava_next import LLAVA_NEXT_7B, LLAVA_NEXT_7B_CONFIG
from tests import hub_pieces


@pytest.fixture(scope="module")
def reference() -> LlavaNextProcessor:
    """The library's processor at real size."""
    pinpoints = LLAVA_NEXT_7B_CONFIG["image_grid_pinpoints"]
    images = LlavaNextImageProcessor(
        size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}, image_grid_pinpoints=pinpoints
    )
    strategy = {"vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return LlavaNextProcessor(images, hub_pieces.tokenizer("<image>"), patch_size=14, **strategy)


@pytest.fixture(scope="module")
def vlm() -> VLM:
    """Without storage."""
    assert LLAVA_NEXT_7B.random is not None
    return LLAVA_NEXT_7B.random("meta", torch.bfloat16)


@pytest.mark.parametrize("size", [(672, 672), (1000, 300), (123, 456), (640, 480), (50, 51)])
def test_tokens_are_those_that_the_processor_counts(
    reference: LlavaNextProcessor, vlm: VLM, size: tuple[int, int]
) -> None:
    image = Image.new("RGB", size)
    look = vlm.processor.look([image])
    at = vlm.at(look.scene)
    assert at.block is not None
    block = at.block(Grid(1, 1, 1))
    assert block is not None
    ids = reference(images=[image], text="<image>", return_tensors="pt")["input_ids"]
    assert block.length == int((ids == hub_pieces.IMAGE).sum())
    assert at.reference(Grid(1, 1, 1)) == len(block.slots) == block.length - len(block.special_slots)
    grids = {"clip": Grid(len(look.pixels), 24, 24)}
    cells = at.fusion.cells(grids)["clip"]
    assert cells.shape == (len(block.slots),) and at.fusion.common(grids).n == len(block.slots)
    if size == (672, 672):
        assert len(look.pixels) == 5 and len(block.slots) == LLAVA_NEXT_7B.tokens == 2880
