"""A narrowed pocket: what it computes is what the masked whole one does, and it costs what torch counts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import ModelError
from meteor_bench.core.model import PLAIN, VLM
from meteor_bench.core.pruner import Pruner
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.flop_counter import FlopMeter
from meteor_bench.engine.gauge import Gauge, Shape
from meteor_bench.methods.comp import Comp
from meteor_bench.models.pocket.model import WEIGHTS, load
from meteor_bench.models.pocket.modules import PocketConfig, PocketVLM
from meteor_bench.models.pocket.narrow import HEAD_OUT, WAYS_IN, narrow
from tests import tiny
from tests.laws.cases import generate
from tests.models.pocket.harm import harmed

COMP = WEIGHTS / "pocket-comp"
SHAPE = Shape((1, 3, 128, 128), PLAIN)


def units(model: nn.Module) -> dict[str, int]:
    layers = dict(model.named_modules())
    found = {}
    for name, layer in layers.items():
        above, _, last = name.rpartition(".")
        if last in WAYS_IN and isinstance(layer, nn.Linear):
            found[name] = layer.in_features // (int(layers[above].head_dim) if last in HEAD_OUT else 1)
    return found


def some(model: nn.Module) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    keep = {name: torch.rand(n, generator=g) < 0.5 for name, n in units(model).items()}
    for stays in keep.values():
        stays[-1] = True
    return keep


@torch.no_grad()
def test_it_is_the_whole_model_with_zeros_where_units_left() -> None:
    torch.manual_seed(0)
    whole = PocketVLM(PocketConfig()).eval()
    slim = PocketVLM(PocketConfig()).eval()
    slim.load_state_dict(whole.state_dict())
    keep = some(whole)
    narrow(slim, keep)
    for name, stays in keep.items():  # nothing leaves by a channel whose weights are zero
        layer = whole.get_submodule(name)
        layer.weight[:, ~stays.repeat_interleave(layer.in_features // len(stays))] = 0
    pixels = torch.randint(0, 256, (2, 128, 128, 3), dtype=torch.uint8)
    tokens = [model.visual(pixels) for model in (whole, slim)]
    assert torch.allclose(*tokens, atol=1e-5)
    logits = [m.decoder(inputs_embeds=t).logits for m, t in zip((whole, slim), tokens, strict=True)]
    assert torch.allclose(*logits, atol=1e-4)
    assert sum(p.numel() for p in slim.parameters()) < 0.75 * sum(p.numel() for p in whole.parameters())
    assert len(keep) == 30


@pytest.mark.parametrize(
    ("name", "stays", "said"),
    [
        ("fusion.mlp.0", torch.ones(384), "is no layer that channels or heads leave by"),
        ("fusion.nothing", torch.ones(384), "is no layer that channels or heads leave by"),
        ("fusion.mlp.2", torch.ones(3), r"has 384 units; found a list of \[3\]"),
        ("decoder.model.layers.0.self_attn.o_proj", torch.ones(192), r"has 3 units; found a list of \[192\]"),
        ("fusion.mlp.2", torch.zeros(384), "without any unit"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, stays: Tensor, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        narrow(PocketVLM(PocketConfig()), {name: stays})


@pytest.fixture(scope="module")
def comp() -> VLM:
    return load("pocket-comp", "cpu", torch.float32)


@pytest.mark.parametrize("frames", [1, pytest.param(4, marks=pytest.mark.slow)])
@torch.inference_mode()
def test_its_flops_are_those_that_torch_counts(comp: VLM, frames: int) -> None:
    engine = Engine(comp, Comp(), TokenBudget(0.25))
    with FlopMeter(comp.device) as meter, engine.instrumented(clock=meter):
        (generation,) = generate(engine, tiny.requests(1, frames), new_tokens=3)
    counted = meter.read_flops()
    assert counted.pop("prune") > 0
    assert counted == generation.trace.flops
    assert generation.trace.final == 64


@torch.inference_mode()
def test_ratios_are_of_the_model_that_it_was_made_from(comp: VLM) -> None:
    whole, slim = (
        Gauge(Engine(vlm, Pruner(), TokenBudget(1.0))).measured(SHAPE, TokenBudget(1.0), 12)["flops"]
        for vlm in (load("pocket", "cpu", torch.float32), comp)
    )
    assert whole.whole == whole.kept == slim.whole
    assert slim.kept < 0.95 * whole.kept


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (harmed(lambda s: s.update({"x.keep": torch.ones(1, dtype=torch.bool)})), "'x' is no layer that channels"),
        (
            harmed(lambda s: s.update({"fusion.mlp.2.keep": torch.ones(384)})),
            "float32 of .*; expected a list of bool",
        ),
        (harmed(lambda s: [s.pop(key) for key in list(s) if key.endswith(".keep")]), "adds .* which is"),
    ],
)
def test_a_broken_checkpoint_is_one_line(tmp_path: Path, harm: Callable[[Path], None], said: str) -> None:
    folder = shutil.copytree(COMP, tmp_path / "mine")
    harm(folder)
    with pytest.raises(ModelError, match=said) as caught:
        load("x", "cpu", torch.float32, folder)
    assert "\n" not in str(caught.value)


def test_it_is_small() -> None:
    assert (COMP / "model.safetensors").stat().st_size < 1e6
