"""Decoding over a cache of fixed size gives the tokens of decoding over one that grows, and asks the host nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from meteor_bench.core.graphs import Graphs
from meteor_bench.engine.encode import encode
from meteor_bench.engine.fuse import fuse
from meteor_bench.engine.generate import answer
from meteor_bench.runs.latency.ledger import Ledger
from meteor_bench.runs.latency.pretend_device import PretendGpu
from tests import tiny
from tests.laws.cases import Case, engine

TOKENS = 5
CASES = [Case("none", "single"), Case("fastv", "independent"), Case("evoprune", "independent"), Case("none", "qwen")]


@pytest.mark.parametrize("case", [case for case in CASES if case.model in (*tiny.MODELS, *tiny.FAMILIES)], ids=str)
@torch.inference_mode()
def test_the_tokens_are_the_same_and_nothing_moves(case: Case) -> None:
    made = engine(case, 0.5)
    graphs, places = Graphs(), []
    for seed in (0, 1):  # the second batch goes through the first one's tensors
        asked = tiny.requests(2, seed=seed)
        prompts, looks = tiny.prompts(made.vlm, asked), tiny.pixels(made.vlm, asked)

        def run(asked: list = asked, prompts: list = prompts, looks: torch.Tensor = looks) -> list:  # type: ignore
            visual = fuse(made, encode(made, looks, [r.key for r in asked]))
            return [g.ids for g in answer(made, visual, range(2), prompts, TOKENS, ignore_eos=True)]

        grown = run()
        with made.instrumented(graphs=graphs):
            assert run() == grown
        assert made.graphs is None and all(len(ids) == TOKENS for ids in grown)
        places.append([static.ids.data_ptr() for static, _ in graphs.kept.values()])
    assert places[0] == places[1][: len(places[0])]


class _Counting(Graphs):
    """Counts what a step would send a GPU."""

    def __init__(self, gpu: PretendGpu, ledger: Ledger) -> None:
        super().__init__()
        self.gpu, self.ledger, self.steps = gpu, ledger, 0

    def runner(self, step: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            with self.gpu.counting(self.ledger):
                step()
            self.steps += 1

        return run


@pytest.mark.skipif(torch.cuda.is_available(), reason="a real GPU would be taken for the pretended one")
@torch.inference_mode()
def test_a_step_waits_for_nothing() -> None:
    made = engine(Case("fastv", "single"), 0.5, vlm=tiny.build("single"))
    asked = tiny.requests(1)
    prompts, looks = tiny.prompts(made.vlm, asked), tiny.pixels(made.vlm, asked)
    ledger = Ledger()
    with PretendGpu() as gpu:
        for module in made.vlm.modules().values():
            gpu.move(module)
        graphs = _Counting(gpu, ledger)
        visual = fuse(made, encode(made, gpu.tensor(looks), [asked[0].key]))
        with made.instrumented(graphs=graphs):
            answer(made, visual, range(1), prompts, TOKENS, ignore_eos=True)
    assert graphs.steps == TOKENS - 1 and ledger.kernels[""] > 0
    assert not ledger.waits and not ledger.mixed
