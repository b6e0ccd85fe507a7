"""Law 10, graphs: what waits for nothing on a GPU can be captured from the pixels to the first logits.

Captures are those of the pretended GPU (`tests.pretend_graphs`), whose replays run none of the host's code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from meteor_bench.core.graphs import Graphs
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.static_first import Batch, captured, first, met
from meteor_bench.runs.latency.pretend_device import PretendGpu
from tests import hubs, tiny
from tests.laws.cases import Case, engine
from tests.laws.test_launches import CEILINGS, DEFAULTS, KEEP, of_pocket
from tests.pretend_graphs import PretendGraphs, pieces

pretended = pytest.mark.skipif(torch.cuda.is_available(), reason="a real GPU would be taken for the pretended one")
QUICK = ("none", "random", "fastv", "visionzip", "sparsevlm", "divprune", "pool", "oc-vtp")


def params(waiting: bool, quick: Sequence[str]) -> list[object]:
    cases = [case for case in DEFAULTS if of_pocket(case) and bool(CEILINGS[case.method].waits) == waiting]
    return [pytest.param(c, id=str(c), marks=[] if c.method in quick else [pytest.mark.slow]) for c in cases]


def batch(made: Engine, number: int, frames: int = 1) -> Batch:
    """Two pictures; those of two batches differ, and so do their questions, but for their lengths."""
    asked = tiny.requests(3, frames, seed=5 * number)[::2]
    prompts = tiny.prompts(made.vlm, asked)
    prompts = [one._replace(after=one.after[::-1]) for one in prompts] if number else prompts
    looks = [made.vlm.processor.look(request.media()) for request in asked]
    keys = tuple(f"{number}/{request.media_key}" for request in asked)
    return Batch(torch.stack([look.pixels for look in looks]), keys, prompts, looks[0].scene)


def on_gpu(gpu: PretendGpu, case: Case, keep: float = KEEP, frames: int = 1) -> tuple[Engine, list[Batch]]:
    made = engine(case, keep, count=4, frames=frames, vlm=tiny.build(case.model))
    batches = [batch(made, number, frames) for number in (0, 1)]
    for module in made.vlm.modules().values():
        gpu.move(module)
    return made, [replace(one, pixels=gpu.tensor(one.pixels)) for one in batches]


def check_replays(case: Case, keep: float = KEEP, frames: int = 1) -> None:
    with torch.inference_mode(), PretendGpu() as gpu:
        made, batches = on_gpu(gpu, case, keep, frames)
        graphs = PretendGraphs(gpu)
        plain = [first(made, one, 1) for one in batches]
        for one, wanted in zip([*batches, batches[0]], [*plain, plain[0]], strict=True):
            found = captured(graphs, made, one, 1)
            assert torch.equal(held(found.logits), held(wanted.logits)), graphs.refused
            assert found.traces == wanted.traces
        assert len(graphs.tapes) == (2 if graphs.tapes[0][1].drawn else 1)
        assert not graphs.ledger.waits and not graphs.ledger.copies, graphs.ledger.sites
        inputs = [static._pixels for static in graphs.kept.values()]
        weights = set(pieces([*made.vlm.modules().values(), inputs]))
        for tape, sent in graphs.tapes:
            assert len(tape) > 100
            kept = weights | set(pieces([[table.there for table in sent.tables], sent.constants]))
            assert tape.outside <= kept  # else a replay would read what may be gone
            for table in sent.tables:
                assert table.own or torch.equal(held(table.there), table.host)  # nobody has written to it


def held(tensor: Tensor) -> Tensor:
    return getattr(tensor, "held", tensor)


@pretended
@pytest.mark.parametrize("case", params(False, QUICK))
def test_10_a_replay_gives_what_the_pass_gives_and_sends_nothing(case: Case) -> None:
    check_replays(case)


# Left out: anyres images, whose rows end with a newline that is in no module, so that the pretended GPU does not get
# it; experts, whose kernel asks what GPU there is; compositions, where DINOv3 keeps coordinates in the library's cache.
MODELS = ("independent", "single", "qwen2_5_vl")
LEFT_OUT = ("llava_next", "llava_onevision", "qwen3_vl_moe")
SLOW = ("eagle", *(name for name in hubs.FAMILIES if name not in (*MODELS, *LEFT_OUT)))


@pretended
@pytest.mark.parametrize("model", [*MODELS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_10_models_are_captured(model: str) -> None:
    check_replays(Case("none", model))


@pretended
@pytest.mark.slow
@pytest.mark.parametrize("method", ["fastv", "visionzip"])
@pytest.mark.parametrize("model", ["eagle", "qwen2_5_vl", "qwen3_vl", "internvl", "smolvlm", "deepseek_vl_hybrid"])
def test_10_methods_are_captured_on_models(method: str, model: str) -> None:
    check_replays(Case(method, model))


@pretended
@pytest.mark.slow
@pytest.mark.parametrize(("keep", "frames"), [(0.5, 1), (0.06, 1), (0.24, 3)])
@pytest.mark.parametrize("method", ["fastv", "visionzip", "sparsevlm", "divprune", "pool", "subsample"])
def test_10_at_other_budgets_and_of_clips(method: str, keep: float, frames: int) -> None:
    check_replays(Case(method, "shared"), keep, frames)


@pretended
@pytest.mark.parametrize("case", params(True, ("meteor",)))
def test_10_what_waits_runs_as_ever(case: Case) -> None:
    with torch.inference_mode(), PretendGpu() as gpu:
        made, batches = on_gpu(gpu, case)
        graphs = PretendGraphs(gpu)
        for one in batches:
            assert torch.equal(held(captured(graphs, made, one, 1).logits), held(first(made, one, 1).logits))
            assert graphs.refused.startswith("called a synchronizing CUDA operation") and met(graphs, made, one, 1)


@pytest.mark.parametrize("method", [method for method in QUICK if method != "oc-vtp"])
@torch.inference_mode()
def test_10_on_a_cpu_the_same_pass_gives_the_same(method: str) -> None:
    made, graphs = engine(Case(method, "shared"), KEEP), Graphs()
    for one in (batch(made, 0), batch(made, 1)):
        found = captured(graphs, made, one, 1)
        assert torch.equal(found.logits, first(made, one, 1).logits) and not graphs.refused
    assert len(graphs.kept) == (2 if method == "random" else 1)
