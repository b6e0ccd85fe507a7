"""LLaVA-OneVision and LLaVA-Video: frames pooled, tokens as the processor counts them, newlines."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import nn
from transformers import LlavaOnevisionImageProcessor, LlavaOnevisionProcessor, LlavaOnevisionVideoProcessor

from meteor_bench.core.cells import densify
from meteor_bench.core.model import VLM, Clip, ModelCard
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.models.llava_onevision import LLAVA_ONEVISION_7B, LLAVA_VIDEO_7B, PooledFusion, frame_block
from tests import hub_pieces


def _empty(card: ModelCard) -> VLM:
    assert card.random is not None
    return card.random("meta", torch.bfloat16)


@pytest.fixture(scope="module")
def onevision() -> VLM:
    """Without storage."""
    return _empty(LLAVA_ONEVISION_7B)


@pytest.fixture(scope="module")
def reference() -> LlavaOnevisionProcessor:
    """The library's processor at real size."""
    return LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(),
        hub_pieces.tokenizer("<image>", "<video>"),
        LlavaOnevisionVideoProcessor(),
        num_image_tokens=729,
        vision_feature_select_strategy="full",
    )


@pytest.mark.parametrize("size", [(384, 384), (2304, 2304), (1000, 300), (123, 2000)])
def test_tokens_of_an_image_are_those_that_the_processor_counts(
    reference: LlavaOnevisionProcessor, onevision: VLM, size: tuple[int, int]
) -> None:
    at = onevision.at(onevision.processor.scene([Image.new("RGB", size)]))
    assert at.block is not None
    block = at.block(Grid(1, 1, 1))
    assert block is not None
    tall = (size[1], size[0])
    assert block.length == reference._get_num_multimodal_tokens(image_sizes=[tall])["num_image_tokens"][0]
    assert at.reference(Grid(1, 1, 1)) == block.length - len(block.special_slots)


def test_sixty_four_frames(onevision: VLM) -> None:
    scene = onevision.processor.scene(Clip([Image.new("RGB", (8, 8))] * 64))
    tower = Grid(64, *onevision.towers["siglip"].grid(384, 384)[1:])
    assert tower == Grid(64, 27, 27)
    assert onevision.at(scene).reference(tower) == 64 * 196
    video = _empty(LLAVA_VIDEO_7B).at(scene)
    assert video.reference(tower) == 64 * 169 and video.fusion.common({"siglip": tower}) == Grid(64, 13, 13)
    assert video.block is not None
    block = video.block(Grid(64, 13, 13))
    assert block is not None and len(block.special_slots) == 64 * 13 and block.length == 64 * 13 * 14


@pytest.mark.parametrize("mode", ["bilinear", "average"])
def test_pooling_is_by_frame(mode: str) -> None:
    fusion = PooledFusion(nn.Sequential(nn.Linear(3, 4)), "siglip", mode)
    tokens = Tokens.dense(torch.randn(2, 2 * 25, 3), Grid(2, 5, 5))
    grids = {"siglip": tokens.grid}
    pooled = fusion.align({"siglip": densify(tokens)}, grids)
    assert pooled.shape[1] == fusion.common(grids).n == {"bilinear": 18, "average": 8}[mode]
    projected = fusion.projector(tokens.x).reshape(2, 2, 5, 5, 4)
    if mode == "average":
        corner = projected[:, 1, 2:4, 0:2].mean((1, 2))  # of the second frame, second row
        assert torch.allclose(pooled[:, 4 + 2], corner, atol=1e-6)
    else:  # the middle cell of 3 x 3 lies on the middle cell of 5 x 5
        assert torch.allclose(pooled[:, 9 + 4], projected[:, 1, 2, 2], atol=1e-6)
    assert fusion.flops_align(grids) == 2 * 50 * 3 * 4


def test_newlines_of_frames() -> None:
    newline = torch.ones(4)
    one, each = (frame_block(Grid(2, 2, 3), newline, where) for where in ("one_token", "grid"))
    assert one.slots.tolist() == list(range(12)) and one.special_slots.tolist() == [12]
    assert each.slots.tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14]
    assert each.special_slots.tolist() == [3, 7, 11, 15] and each.special.shape == (4, 4)
