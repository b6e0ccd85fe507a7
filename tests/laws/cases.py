"""What the laws range over: every method of the table and some variants, times the tiny models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.model import VLM, Decoder, KVCache
from meteor_bench.core.pruner import Pruner
from meteor_bench.core.registry import METHODS
from meteor_bench.core.request import Request
from meteor_bench.core.tokens import Tokens
from meteor_bench.engine.calibrate import calibrate
from meteor_bench.engine.encode import encode
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.fuse import Visual, embed_questions, fuse
from meteor_bench.engine.generate import Generation, Likelihood, answer, score
from meteor_bench.engine.make_method import make_pruner
from tests import chosen, tiny

torch.set_num_threads(1)

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "meteor": [
        {"stages": ("encode", "fuse")},
        {"stages": ("encode",)},
        {"stages": ("fuse",), "fusion": "random"},
        {"stages": ("encode", "decode"), "stage3": "fixed", "budgets": "uniform", "middle": "deep"},
    ],
    "evoprune": [
        {"schedule": "mean", "attention": False},
        {"schedule": "content", "attention": False},
        {"temporal": True, "alike": -1.0, "across": 0.6},
    ],
    "fastv": [{"layer": 1}],
    "sparsevlm": [{"version": "v2"}],
    "oc-vtp": [{"weights": "random"}],
    "comp": [{"before": 1}],  # the tiny models have none of its own
}
COMPOSITIONS = ("evoprune+fastv", "cdpruner+pyramiddrop")
KEEPS = (0.5, 0.25, 0.06)


@dataclass(frozen=True)
class Case:
    """A method with hyperparameters on a tiny model."""

    method: str
    model: str
    options: tuple[tuple[str, Any], ...] = field(default=())

    def __str__(self) -> str:
        said = ",".join(f"{k}={'+'.join(v) if isinstance(v, tuple) else v}" for k, v in self.options)
        return f"{self.method}{f'({said})' if said else ''}-{self.model}"

    @property
    def pruner(self) -> Pruner:
        """The method."""
        return make_pruner(self.method, dict(self.options))

    def supports(self, keep: float = 0.5) -> bool:
        """Whether the method runs on the model."""
        try:
            self.pruner.points(shared_model(self.model), TokenBudget(keep))
        except UnsupportedError:
            return False
        return True


@cache
def shared_model(name: str, native: bool = False) -> VLM:
    """A model that all tests look at and none may change (law 7)."""
    return tiny.build(name, native=native)


QUICK = ("none", "evoprune", "meteor")  # on other models than pocket's kind, the others are slow
ON_FAMILIES = ("none", "meteor")
QUICKEST = ("meteor",)  # on five encoders, windows among them


def is_slow(case: Case, frames: int = 1) -> bool:
    """Whether a case is left to `make test-all`.

    By default every method runs on the tiny model of pocket's kind, variants on the one that they were made for; the
    quick ones also on clips, with a projector per encoder, on a single encoder, and some on the families. The rest is
    slow: minutes on two cores.
    """
    if case.model == "eagle":
        return case.method not in QUICKEST or bool(case.options) or frames > 1
    slow = case.method not in QUICK and (case.model != "shared" or frames > 1)
    slow |= bool(case.options) and case.model != ("independent" if case.method == "meteor" else "shared")
    slow |= case.model in tiny.FAMILIES and (frames > 1 or case.method not in ON_FAMILIES)
    return slow or case.model == "composed"  # two of its laws are quick in tests/models/composed


EVERY = [
    Case(method, model, tuple(options.items()))
    for method in [*METHODS.names(), *COMPOSITIONS]
    for options in [{}, *VARIANTS.get(method, [])]
    for model in (*tiny.MODELS, *tiny.FAMILIES)
]
# Models are made to know which cases are runnable, and each case is a dozen tests: minutes for what is left out anyway.
ALL = [case for case in EVERY if chosen.slow or not is_slow(case)]
RUNNABLE = [case for case in ALL if case.supports()]


def param(case: Case, frames: int | None = None) -> object:
    """A test's parameters: the case, and how many frames its clips have where the test is told that."""
    values = (case,) if frames is None else (case, frames)
    return pytest.param(*values, marks=[pytest.mark.slow] * is_slow(case, frames or 1))


cases = pytest.mark.parametrize("case", [param(case) for case in RUNNABLE], ids=str)


@cache
def facts(case: Case, keep: float, count: int, frames: int, native: bool) -> Mapping[str, Any]:
    """What the method measures on ``tiny.requests(count, frames)``, {} where it needs nothing."""
    pruner = case.pruner
    if not pruner.needs_calibration:
        return {}
    vlm = shared_model(case.model, native)
    return calibrate(vlm, pruner, TokenBudget(keep), tiny.requests(count, frames))


def engine(case: Case, keep: float, *, count: int = 4, frames: int = 1, native: bool = False, **more: Any) -> Engine:
    """The case's engine, calibrated where needed."""
    vlm = more.pop("vlm", None) or shared_model(case.model, native)
    budget = TokenBudget(keep)
    return Engine(vlm, case.pruner, budget, facts=facts(case, keep, count, frames, native), **more)


def visual_of(engine: Engine, asked: Sequence[Request]) -> Visual:
    """Visual tokens of the requests' images, one row each."""
    text = embed_questions(engine, tiny.prompts(engine.vlm, asked))
    looks = [engine.vlm.processor.look(r.media()) for r in asked]
    pixels = torch.stack([look.pixels for look in looks])
    return fuse(engine, encode(engine, pixels, [r.key for r in asked], looks[0].scene), text=text)


def shown(tokens: Tokens) -> Tensor:
    """[B, N, D] from the first visual token to the last, of unpruned samples: a block may begin and end with text."""
    places = tokens.visual[0].nonzero()[:, 0]
    return tokens.x[:, places[0] : places[-1] + 1]


def generate(
    engine: Engine, asked: Sequence[Request], new_tokens: int = 3, visual: Visual | None = None
) -> list[Generation]:
    """Answers of a fixed length to all requests in one batch, whose visual tokens may be there already."""
    visual, prompts = visual or visual_of(engine, asked), tiny.prompts(engine.vlm, asked)
    return answer(engine, visual, range(len(asked)), prompts, new_tokens, ignore_eos=True)


def likelihoods(
    engine: Engine, asked: Sequence[Request], continuations: Sequence[Sequence[int]], visual: Visual | None = None
) -> list[Likelihood]:
    """How likely the continuations are, all in one batch, whose visual tokens may be there already."""
    visual, prompts = visual or visual_of(engine, asked), tiny.prompts(engine.vlm, asked)
    return score(engine, visual, range(len(asked)), prompts, continuations)


class Recorder(Decoder):
    """A decoder that notes what it is given: lengths and positions of each layer call, and its cache's length."""

    def __init__(self, inner: Decoder) -> None:
        super().__init__()
        self.inner = inner
        self.dim, self.depth, self.heads, self.kv_heads = inner.dim, inner.depth, inner.heads, inner.kv_heads
        self.axes = inner.axes
        self.lengths: dict[int, list[int]] = {}
        self.cached: dict[int, list[int]] = {}
        self.positions: dict[int, list[Tensor]] = {}
        self._now = torch.empty(0)

    def embed(self, ids: Tensor) -> Tensor:
        return self.inner.embed(ids)

    def rotary(self, h: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        self._now = positions.clone()
        return self.inner.rotary(h, positions)

    def layer(
        self,
        index: int,
        h: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: KVCache,
        probe: Any,
    ) -> Tensor:
        out = self.inner.layer(index, h, rotary, mask, cache, probe)
        self.lengths.setdefault(index, []).append(h.shape[1])
        self.positions.setdefault(index, []).append(self._now)
        self.cached.setdefault(index, []).append(cache.width(index))  # type: ignore[attr-defined]
        return out

    def peek(
        self, index: int, h: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None, probe: Any, scratch: KVCache
    ) -> None:
        self.inner.peek(index, h, rotary, mask, probe, scratch)

    def norm(self, h: Tensor) -> Tensor:
        return self.inner.norm(h)

    def head(self, h: Tensor) -> Tensor:
        return self.inner.head(h)

    def flops_layer(self, queries: int, keys: int) -> int:
        return self.inner.flops_layer(queries, keys)

    def flops_head(self, tokens: int) -> int:
        return self.inner.flops_head(tokens)


def recorded(case: Case, native: bool = False) -> tuple[VLM, Recorder]:
    """The case's model with a recorder in its decoder's place."""
    vlm = shared_model(case.model, native)
    recorder = Recorder(vlm.decoder)
    return VLM(**{**vars(vlm), "decoder": recorder}), recorder


def modules_of(vlm: VLM) -> list[tuple[str, nn.Module]]:
    """Every submodule by name."""
    return [(f"{top}.{name}", m) for top, module in vlm.modules().items() for name, m in module.named_modules()]
