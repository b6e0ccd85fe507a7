"""Qwen3-VL with experts: both layouts of its files, FLOPs of the chosen experts, what is not supported."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from meteor_bench.core.errors import ModelError
from meteor_bench.engine.factory import build
from meteor_bench.engine.flop_counter import FlopMeter
from meteor_bench.engine.kv_cache import LayerCache
from meteor_bench.models.qwen3_vl_moe import EXPERTS
from tests import hub_pieces, hubs, tiny
from tests.models.test_sizes import counted

FAMILY = "qwen3_vl_moe"


def changed(tmp_path: Path, change: Any) -> Path:
    """The tiny checkpoint with its weights changed."""
    folder = shutil.copytree(hubs.folder(FAMILY), tmp_path / "changed")
    weights = load_file(folder / "model.safetensors")
    save_file(
        {key: change(key, value) for key, value in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    return folder


def published(key: str, value: torch.Tensor) -> torch.Tensor:
    """As the hub's files hold it: [experts, inputs, outputs]."""
    return value.transpose(1, 2).contiguous() if key.endswith(EXPERTS) else value


def test_the_layout_of_the_published_files_is_read_as_the_librarys_own(tmp_path: Path) -> None:
    folder = changed(tmp_path, published)
    kind = type(hubs.library(FAMILY).model)
    model = hub_pieces.quiet(kind.from_pretrained, folder, dtype=torch.float32)  # the reference
    theirs, ours = model.state_dict(), {}
    vlm = hub_pieces.quiet(build, str(folder), "none").vlm
    for name, module in (("language_model", vlm.decoder.model.model), ("visual", vlm.towers["vit"].blocks)):
        ours |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    experts = [key for key in ours if key.endswith(EXPERTS)]
    assert len(experts) == 2 * vlm.decoder.depth
    for key in experts:
        assert torch.equal(ours[key], theirs[f"model.{key}"])
        assert torch.equal(ours[key], hubs.library(FAMILY).model.state_dict()[f"model.{key}"])


def test_a_shape_of_neither_layout_is_one_line(tmp_path: Path) -> None:
    folder = changed(tmp_path, lambda key, value: value[:, :-1].contiguous() if key.endswith(EXPERTS) else value)
    with pytest.raises(ModelError, match=r"_proj' has shape \[6, .*the model wants \[6, ") as caught:
        hub_pieces.quiet(build, str(folder), "none")
    assert "\n" not in str(caught.value)


@torch.inference_mode()
def test_a_layer_costs_what_its_router_and_the_chosen_experts_cost() -> None:
    decoder: Any = hubs.build(FAMILY).decoder
    h = torch.randn(1, 7, decoder.dim, generator=torch.Generator().manual_seed(0))
    rotary = decoder.rotary(h, torch.arange(7)[None])

    def layer() -> None:
        decoder.layer(0, h, rotary, None, LayerCache(decoder.depth), None)

    with FlopMeter(torch.device("cpu")) as meter, meter.stage("it"):
        layer()
    decoder.model.model.set_experts_implementation("eager")  # a product for each expert, which torch's own table knows
    assert meter.read_flops()["it"] == decoder.flops_layer(7, 7) == counted(layer)


ALL_LAYERS = r"mlp_only_layers=.*supported: \[\] and 1, experts in every layer"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mlp_only_layers": [1]}, ALL_LAYERS),
        ({"decoder_sparse_step": 2}, ALL_LAYERS),
        ({"num_experts_per_tok": 7}, r"num_experts_per_tok=7; expected at most num_experts \(6\)"),
    ],
)
def test_what_is_not_supported_is_one_line(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    assert re.search(said, hubs.refused(FAMILY, tmp_path / "odd", {"text_config": change}))


@torch.inference_mode()
def test_experts_change_the_answer() -> None:
    """Or else a test of equal answers would say nothing of them."""
    (request,) = tiny.requests(1)
    reference = hubs.Reference(FAMILY)
    inputs = reference.inputs(request)
    before = reference.model(**inputs).logits[0, -1]
    held = reference.model.model.language_model.layers[1].mlp.experts.down_proj
    kept = held.clone()
    held.mul_(-1.0)
    after = reference.model(**inputs).logits[0, -1]
    held.copy_(kept)
    assert (after - before).abs().max() > 0.1
