"""Methods for video at the budgets that their papers publish, on LLaVA-Video's shape: 64 frames of 13 x 13 tokens.

The encoder sees 27 x 27 patches of each frame, pooled to 169 tokens as LLaVA-Video pools them; widths are small and
weights random, which counts do not depend on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import cast

import pytest
import torch
import transformers

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.model import VLM
from meteor_bench.engine.calibrate import calibrate
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.load_model import resolve_model
from meteor_bench.engine.make_method import make_pruner
from meteor_bench.methods.none import NoPruning
from tests import hub_pieces, tiny
from tests.laws.cases import generate

FRAMES, TOKENS = 64, 13 * 13
METHODS = (
    "subsample",
    "vidcom2",
    "fastvid",
    "dycoke",
    "holitom",
    "framefusion",
    "prunevid",
    "flashvid",
    "earlytom",
)
SHARES = (0.25, 0.2, 0.15, 0.1)  # of all tokens: VidCom2, FastVID, HoliTom, FlashVID
PER_FRAME = (64, 32, 16)  # of 169 in each frame: EvoPrune's tables
QUICK = (("vidcom2", 1 - 16 / TOKENS),)


@cache
def video_model(folder: Path) -> VLM:
    """A checkpoint of LLaVA-Video's kind, as `--model` takes it."""
    side = {"height": 54, "width": 54}
    config = transformers.LlavaOnevisionConfig(
        vision_config=hub_pieces.siglip(
            hidden_size=16, intermediate_size=16, num_hidden_layers=3, image_size=54, patch_size=2
        ),
        text_config=hub_pieces.llama(model_type="qwen2", hidden_size=16, intermediate_size=16, num_attention_heads=2),
        image_token_index=hub_pieces.IMAGE,
        video_token_index=hub_pieces.VIDEO,
        image_grid_pinpoints=[[54, 54]],
    )
    processor = transformers.LlavaOnevisionProcessor(
        transformers.LlavaOnevisionImageProcessor(size=side, image_grid_pinpoints=[[54, 54]]),
        hub_pieces.tokenizer("<image>", "<video>", begin=False),
        transformers.LlavaOnevisionVideoProcessor(size=side),
        num_image_tokens=27 * 27,
        vision_feature_select_strategy="full",
        chat_template=hub_pieces.CHAT,
    )
    hub_pieces.quiet(
        hub_pieces.enliven(transformers.LlavaOnevisionForConditionalGeneration(config), 6).save_pretrained, folder
    )
    hub_pieces.quiet(processor.save_pretrained, folder)
    path = folder / "config.json"
    written = json.loads(path.read_text()) | {"mm_spatial_pool_mode": "average", "mm_newline_position": "grid"}
    path.write_text(json.dumps(written))
    card = resolve_model(str(folder), NoPruning())
    return cast("VLM", hub_pieces.quiet(card.build, "cpu", torch.float32, folder))


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> VLM:
    return video_model(tmp_path_factory.mktemp("video") / "tiny-llava-video")


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def params() -> list[object]:
    ratios = [1 - share for share in SHARES] + [1 - n / TOKENS for n in PER_FRAME]
    return [
        pytest.param(m, r, marks=() if (m, r) in QUICK else pytest.mark.slow, id=f"{m}-{round((1 - r) * TOKENS, 1)}")
        for m in METHODS
        for r in ratios
    ]


@pytest.mark.parametrize(("method", "ratio"), params())
def test_a_published_budget_of_64_frames_is_met_to_the_token(vlm: VLM, method: str, ratio: float) -> None:
    pruner, budget = make_pruner(method), TokenBudget.from_ratio(ratio)
    asked = tiny.requests(1, FRAMES)
    facts = calibrate(vlm, pruner, budget, asked) if pruner.needs_calibration else {}
    (generation,) = generate(Engine(vlm, pruner, budget, facts=facts), asked, new_tokens=1)
    trace = generation.trace
    assert trace.reference == FRAMES * TOKENS
    assert pruner.exact and trace.final == round((1 - ratio) * FRAMES * TOKENS)
    assert trace.llm[0] <= trace.reference and trace.llm == sorted(trace.llm, reverse=True)
