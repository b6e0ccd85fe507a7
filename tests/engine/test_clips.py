"""Encode points that see whole clips: attention stays within a frame, merges do not, empty frames cost nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.model import VLM
from meteor_bench.core.pruner import Decision, EncodePoint, EncodeView, Points, Pruner
from meteor_bench.engine.encode import encode
from meteor_bench.engine.engine import Engine
from tests import tiny

FRAMES = 3


@dataclass(frozen=True)
class IntoTheFirst(Pruner):
    """After two blocks and a half, every token joins the one at its place in the first frame."""

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        return Points(
            encode=(EncodePoint(after=dict.fromkeys(vlm.towers, 3), inside=True, attention="received"),), clips=True
        )

    def encode(self, views: Mapping[str, EncodeView]) -> Mapping[str, Decision]:
        out = {}
        for name, view in views.items():
            tokens, each = view.tokens, view.tokens.grid.n // FRAMES
            own = torch.arange(tokens.x.shape[1]).expand(tokens.origin.shape)
            specials = int(tokens.special[0].sum()) // FRAMES
            into = torch.where(tokens.visual, specials + tokens.origin % each, -1)
            out[name] = Decision(keep=tokens.visual & (into == own), merge_into=into)
        return out


@pytest.mark.parametrize("model", ["single", "bare"])
def test_blocks_run_on_frames_and_skip_those_without_tokens(model: str) -> None:
    vlm = tiny.build(model)
    ((name, tower),) = vlm.towers.items()
    engine = Engine(vlm, IntoTheFirst(), TokenBudget(0.3))
    pixels = torch.stack([vlm.processor.look(r.media()).pixels for r in tiny.requests(2, FRAMES)])
    shown: list[EncodeView] = []

    def watch(view: EncodeView) -> bool:
        shown.append(view)
        return False

    with torch.inference_mode(), engine.instrumented(observer=watch):  # type: ignore[arg-type]
        out = encode(engine, pixels, ["a", "b"])
        (view,) = shown
        each = view.tokens.x.shape[1] // FRAMES
        n = view.tokens.grid.n // FRAMES
        specials = each - n
        for b in range(2):
            halves = []
            for f in range(FRAMES):  # each frame alone, by the tower's own blocks
                x = tower.embed(pixels[b, f][None]).x
                for block in range(3):
                    x = tower.attend(block, x, None, None)
                    x = tower.feed(block, x) if block < 2 else x
                halves.append(x[0])
                assert torch.allclose(view.tokens.x[b, f * each : (f + 1) * each], x[0], atol=1e-5)
                assert view.attention is not None
                # What the queries of a frame give adds up to one each.
                given = view.attention[b, f * each : (f + 1) * each].sum()
                assert float(given) == pytest.approx(1.0, abs=1e-4)
            mean = torch.stack([half[specials:] for half in halves]).mean(0)
            x = torch.cat([halves[0][:specials], mean])[None]
            x = tower.feed(2, x)
            for block in range(3, tower.depth):
                x = tower.feed(block, tower.attend(block, x, None, None))
            if model == "bare":
                x = tower.model.post_layernorm(x)
            assert torch.allclose(out.tokens[name].x[b], x[0, specials:], atol=1e-5)
    assert out.tokens[name].group[0].tolist() == list(range(n)) * FRAMES
    want = FRAMES * tower.flops_embed(*pixels.shape[-2:]) + 2 * FRAMES * tower.flops_block(each, each)
    # Of the third block three frames have the attention and one the MLP; of the others there is one.
    want += tower.flops_block(each, each) + 2 * tower.flops_block(each, 0)
    want += (tower.depth - 3) * tower.flops_block(each, each)
    assert [row[f"encode.{name}"] for row in out.flops] == [want, want]


def test_images_and_their_tiles_are_no_clips() -> None:
    vlm = tiny.build("llava_next")
    engine = Engine(vlm, IntoTheFirst(), TokenBudget(0.3))
    (request,) = tiny.requests(1)
    look = vlm.processor.look(request.media())
    shown: list[EncodeView] = []

    def watch(view: EncodeView) -> bool:
        shown.append(view)
        return True

    with torch.inference_mode(), engine.instrumented(observer=watch):  # type: ignore[arg-type]
        encode(engine, look.pixels[None], ["a"], look.scene)
    assert len(look.pixels) > 1 and shown[0].frames is None and len(shown[0].tokens.x) == len(look.pixels)


@pytest.mark.parametrize("model", ["qwen2_5_vl", "qwen3_vl", "llava", "single"])
def test_images_of_equal_size_are_no_clip(model: str) -> None:
    """Frames of a video are; a plain sequence is several images (`Clip`), whose tokens do not merge with each other."""
    vlm = tiny.build(model)
    engine = Engine(vlm, IntoTheFirst(), TokenBudget(0.3))
    (request,) = tiny.requests(1, 4)
    shown: list[EncodeView] = []

    def watch(view: EncodeView) -> bool:
        shown.append(view)
        return True

    for media in (list(request.media()), request.media()):
        look = vlm.processor.look(media)
        with torch.inference_mode(), engine.instrumented(observer=watch):  # type: ignore[arg-type]
            encode(engine, look.pixels[None], ["a"], look.scene)
    images, clip = shown
    assert images.frames is None and len(images.tokens.x) == 4 and not images.layout.framed
    assert clip.frames is not None and len(clip.tokens.x) == 1 and clip.layout.framed
