"""Compositions beside the libraries' own forwards, counts beside torch's counter, and METEOR's own model's numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import ModelError
from meteor_bench.core.model import VLM, VisionTower
from meteor_bench.core.registry import MODELS
from meteor_bench.core.tower_flops import tower_flops
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.flop_counter import FlopMeter
from meteor_bench.engine.load_model import random_model, resolve_model
from meteor_bench.engine.make_method import make_pruner
from meteor_bench.methods.none import NoPruning
from meteor_bench.models.checkpoint import randomise, skeleton
from meteor_bench.models.composed import encoders, parts
from meteor_bench.models.composed.shipped import METEOR_X4_7B
from meteor_bench.models.composed.towers import module_of, prepared, tower_of
from tests import composed, eagle, hub_pieces, tiny
from tests.laws import test_laws as laws
from tests.laws.cases import Case, generate, visual_of

VIT: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 2, "patch_size": 8}
PATCHES = (0, 7, 12, 3)  # of a picture, in no order

TOWERS: dict[str, parts.Tower] = {
    "clip": encoders.Clip(**VIT, image_size=32, intermediate_size=48, num_hidden_layers=3, layer=-1),
    "siglip": encoders.Siglip(**VIT, image_size=40, intermediate_size=48, num_hidden_layers=3),
    "siglip2": encoders.Siglip2(**VIT, image_size=48, intermediate_size=48, num_hidden_layers=3, num_patches=16),
    "dinov2": encoders.Dinov2(**VIT, image_size=40, num_hidden_layers=3),
    "dinov2 with registers": encoders.Dinov2(
        **VIT, image_size=40, num_hidden_layers=3, num_register_tokens=2, use_swiglu_ffn=True
    ),
    "dinov3": encoders.Dinov3(**VIT, image_size=48, intermediate_size=48, num_hidden_layers=3, use_gated_mlp=True),
}


def alive(part: parts.Tower) -> Any:
    """The library's module with weights that tell tokens apart."""
    with skeleton():
        model = module_of(part)
    randomise(model, "cpu", torch.float32)
    hub_pieces.enliven(model, 5)
    return model.eval().requires_grad_(False)


def librarys(part: parts.Tower, model: Any, pixels: Tensor) -> Tensor:
    """What the library's own forward makes of a tower's pixels, without class and register tokens."""
    if isinstance(part, encoders.Siglip2):
        p, n = part.patch_size, part.side
        patches = [
            pixels[:, :, y * p : (y + 1) * p, x * p : (x + 1) * p].permute(0, 2, 3, 1).flatten(1)
            for y in range(n)
            for x in range(n)
        ]
        rows = torch.stack(patches, 1)
        shapes = torch.full((len(pixels), 2), n)
        seen = torch.ones(rows.shape[:2], dtype=torch.long)
        return model(pixel_values=rows, pixel_attention_mask=seen, spatial_shapes=shapes).last_hidden_state  # type: ignore[no-any-return]
    out: Tensor = model(pixels).last_hidden_state
    return out[:, -(part.side**2) :]


def run(tower: VisionTower, pixels: Tensor) -> Tensor:
    tokens = tower.embed(pixels)
    where, x = tower.where(tokens), tokens.x
    for block in range(tower.depth):
        x = tower.feed(block, tower.attend(block, x, None, None, where))
    return tower.finish(tokens.with_x(x)).x


@pytest.mark.parametrize("name", TOWERS)
@torch.inference_mode()
def test_a_tower_is_the_librarys_forward_and_its_flops_are_counted(name: str) -> None:
    part = TOWERS[name]
    model = alive(part)
    tower = tower_of("it", part, model)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    own = composed.resized(pixels, part.pixels_side or 0)
    if part.pixels != "clip":
        mean, std = {"siglip": (0.5, 0.5), "imagenet": composed.IMAGENET[..., None, None]}[part.pixels]
        raw = pixels * composed.CLIP[1][:, None, None] + composed.CLIP[0][:, None, None]
        own = composed.resized((raw - mean) / std, part.pixels_side or 0)
    assert torch.allclose(prepared(pixels, part), own, atol=1e-5)
    expected = librarys(part, model, own)
    assert torch.allclose(run(tower, pixels), expected, atol=1e-4)
    assert expected.std(1).min() > 1e-3  # tokens differ
    with FlopMeter(torch.device("cpu")) as meter, meter.stage("it"):
        run(tower, pixels[:1])
    assert meter.read_flops()["it"] == tower_flops(tower, 64, 64)


@torch.inference_mode()
def test_rotations_follow_the_tokens_that_are_left() -> None:
    """DINOv3 on some of its patches: the library's layer on the same tokens with those patches' own rotations."""
    from meteor_bench.core.pick import pick

    part = TOWERS["dinov3"]
    model = alive(part)
    tower = tower_of("it", part, model)
    tokens = tower.embed(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    keep = tokens.special.clone()
    keep[0, [5 + i for i in PATCHES]] = True  # behind the class and four registers
    left = pick(tokens, keep)
    cos, sin = model.rope_embeddings(torch.empty(1, 3, part.pixels_side, part.pixels_side))
    at = sorted(PATCHES)
    expected = model.model.layer[0](left.x, position_embeddings=(cos[at], sin[at]))
    got = tower.feed(0, tower.attend(0, left.x, None, None, tower.where(left)))
    assert torch.allclose(got, expected, atol=1e-5)
    elsewhere = model.model.layer[0](left.x, position_embeddings=(cos[:4], sin[:4]))
    assert not torch.allclose(got, elsewhere, atol=1e-3)


@torch.inference_mode()
def test_a_projector_each_it_is_the_libraries_own_forward_and_its_flops_are_counted() -> None:
    """Unpruned, from pixels to greedy answers; and FLOPs under METEOR. All laws on it are slow tests."""
    laws.test_1_keep_all_equals_the_librarys_own_forward(Case("none", "composed"), 1)
    laws.test_4_closed_form_flops_equal_the_counter(Case("meteor", "composed"), 1)


# ---------------------------------------------------------------- joined along channels


def channels(folder: Path) -> Path:
    """The tests' towers on one grid, convnext's replaced by DINO's map folded."""
    said = yaml.safe_load(composed.FILE)
    said["fusion"] = {"kind": "channels", "grid": 3, "fold": ["dino"]}
    (folder / "weights").mkdir()
    state = {k: v for k, v in composed.modules().state_dict().items() if not k.startswith("projector.")}
    torch.manual_seed(6)
    projector = composed.mlp(32 + 4 * 32 + 20)
    state |= {f"projector.{key}": value for key, value in projector.state_dict().items()}
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "weights" / "model.safetensors")
    hub_pieces.tokenizer().save_pretrained(folder / "weights")
    file = folder / "joined.yaml"
    file.write_text(yaml.safe_dump(said, sort_keys=False))
    return file


@torch.inference_mode()
def test_joined_along_channels_it_is_towers_grid_projector(tmp_path: Path) -> None:
    file = channels(tmp_path)
    vlm = composed.build(file)
    asked = tiny.requests(2)
    engine = Engine(vlm, NoPruning(), TokenBudget(1.0))
    got = visual_of(engine, asked).tokens.x
    torch.manual_seed(6)
    projector = composed.mlp(32 + 4 * 32 + 20)
    own: Any = composed.modules()["towers"]
    for row, request in zip(got, asked, strict=True):
        found = composed.features(own, eagle.seen(request.media()[0], composed.IMAGE)[None])
        maps = {name: x[0].T.reshape(x.shape[-1], *[round(x.shape[1] ** 0.5)] * 2) for name, x in found.items()}
        dino = torch.stack([maps["dino"][:, y::2, x::2] for y in (0, 1) for x in (0, 1)], 1).flatten(0, 1)
        joined = [composed.resized(maps["clip"][None], 3)[0], dino, composed.resized(maps["conv"][None], 3)[0]]
        assert torch.allclose(row, projector(torch.cat(joined).flatten(1).T), atol=1e-4)
    (generation,) = generate(engine, asked[:1])
    assert generation.trace.fused == generation.trace.reference == 9
    pruned = Engine(vlm, make_pruner("fastv", {}), TokenBudget(0.5))
    assert generate(pruned, asked[:1])[0].trace.final == round(0.5 * 9)


# ---------------------------------------------------------------- weights


def weights(folder: Path, edit: Callable[[dict[str, Tensor]], None]) -> Path:
    """The tests' composition with other weights."""
    (folder / "weights").mkdir()
    state = load_file(composed.file().parent / "weights" / "model.safetensors")
    edit(state)
    save_file(state, folder / "weights" / "model.safetensors")
    hub_pieces.tokenizer().save_pretrained(folder / "weights")
    file = folder / "tiny.yaml"
    file.write_text(composed.FILE)
    return file


@pytest.mark.parametrize("key", ["towers.dino.norm.weight", "projector.conv.0.bias", "decoder.lm_head.weight"])
def test_a_missing_weight_is_named(key: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=key):
        composed.build(weights(tmp_path, lambda state: state.__delitem__(key)))


def test_without_a_tokenizer_it_reads_no_text(tmp_path: Path) -> None:
    file = weights(tmp_path, lambda state: None)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "weights" / name).unlink()
    with pytest.raises(ModelError, match="no tokenizer"):
        composed.build(file)


def test_without_weights_it_says_what_to_do() -> None:
    with pytest.raises(ModelError, match="--random-weights") as caught:
        METEOR_X4_7B.build("cpu", torch.float32, None)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_other_weights_or_another_file_is_another_model(tmp_path: Path) -> None:
    first, key = composed.build().digest, "projector.conv.0.bias"
    (tmp_path / "a").mkdir()
    other = composed.build(weights(tmp_path / "a", lambda state: state.update({key: state[key] + 1})))
    again = composed.build()
    assert first == again.digest != other.digest


# ---------------------------------------------------------------- the same encoder twice


def twins(folder: Path, twin: bool) -> VLM:
    """CLIP and DINO, and CLIP once more with the same weights."""
    said = yaml.safe_load(composed.FILE)
    del said["towers"]["conv"], said["weights"]
    said["reference"] = 48
    if twin:
        said["towers"]["again"] = {"same_as": "clip"}
    file = folder / f"twin-{twin}.yaml"
    file.write_text(yaml.safe_dump(said, sort_keys=False))
    vlm = random_model(resolve_model(str(file), NoPruning()), "cpu", "float32", None)
    for top in ("clip", "dino"):
        hub_pieces.enliven(vlm.towers[top], 3)
    hub_pieces.enliven(vlm.fusion, 4)
    return vlm


@torch.inference_mode()
def test_meteor_takes_the_tokens_of_an_encoder_that_is_there_twice(tmp_path: Path) -> None:
    """Each token of the twins is what the other twin says once more, so that stage 2 keeps DINO's instead."""
    kept = {}
    for twin in (False, True):
        vlm = twins(tmp_path, twin)
        if twin:
            assert vlm.towers["again"].model is vlm.towers["clip"].model  # type: ignore[comparison-overlap]
        pruner = make_pruner("meteor", {"stages": ("fuse",)})
        seen: dict[str, int] = {}

        def note(kind: str, point: int, tower: str, tokens: Any, seen: dict[str, int] = seen) -> None:
            if kind == "fuse":  # cells of the towers one after another
                origin = tokens.origin[0][tokens.visual[0]]
                seen["clip"] = int(((origin < 16) | (origin >= 52)).sum())
                seen["all"] = len(origin)

        engine = Engine(vlm, pruner, TokenBudget(0.5), recorder=note)
        visual_of(engine, tiny.requests(1))
        kept[twin] = seen["clip"] / seen["all"]
        assert seen["all"] == 24
    assert kept[True] < kept[False]


# ---------------------------------------------------------------- METEOR's own model


def narrow(name: str, folder: Path) -> VLM:
    """A shipped composition at its true grids and depths of the language model, next to no arithmetic."""
    said = yaml.safe_load((Path(parts.__file__).parents[1] / "compositions" / f"{name}.yaml").read_text())
    said["decoder"] |= {"vocab_size": 300, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    thin: dict[str, dict[str, Any]] = {
        "clip": {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "num_hidden_layers": 3},
        "convnext": {"dims": [4, 4, 4, 8], "depths": [1, 1, 1, 1]},
        "pix2struct": {"hidden_size": 8, "d_ff": 8, "d_kv": 8, "num_attention_heads": 1, "num_hidden_layers": 3},
        "eva02": {"hidden_size": 8, "num_heads": 1, "depth": 3, "global_blocks": []},
    }
    for tower in said["towers"].values():
        tower |= thin[tower["type"]]
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(said, sort_keys=False))
    return random_model(resolve_model(str(file), NoPruning()), "cpu", "float32", None)


@torch.inference_mode()
def test_meteors_own_model_has_the_papers_counts(tmp_path: Path) -> None:
    """7721 tokens of four encoders ▸ 1193 after stage 1 ▸ 576 after stage 2 ▸ 242 (its table's keep of 0.236)."""
    assert (MODELS.load("meteor-x4-7b").tokens, METEOR_X4_7B.fusion) == (24**2 + 32**2 + 45**2 + 64**2, "independent")
    vlm = narrow("meteor-x4-7b", tmp_path)
    pruner = make_pruner("meteor", {"budgets": "uniform", "stage3": "fixed"})
    (generation,) = generate(Engine(vlm, pruner, TokenBudget(0.236)), tiny.requests(1), new_tokens=1)
    trace = generation.trace
    assert sum(trace.towers.values()) == pytest.approx(1193, abs=16)  # windows of EVA-02 keep equally many (D8)
    assert trace.fused == pytest.approx(576, abs=1) and trace.final == 242
    assert trace.llm[0] == trace.fused and trace.llm[-1] == 242 and len(trace.llm) == 32
