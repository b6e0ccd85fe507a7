"""A session whose method knows its constants and its budget: measured, and searched, on calibration samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import BudgetError, UnsupportedError
from meteor_bench.core.match import Measure
from meteor_bench.core.model import VLM
from meteor_bench.core.pruner import Pruner
from meteor_bench.core.request import Answer, Request
from meteor_bench.engine.calibrate import calibrate
from meteor_bench.engine.gauge import reference, shape_of
from meteor_bench.engine.match_budget import Calibrated, counted_alike, short
from meteor_bench.engine.session import Session, Target

__all__ = ["Calibration", "ready"]

Calibration = Callable[[], Sequence[Request]]
LOOKED_AT = 12  # calibration samples that tell whether a method's measure depends on what a picture shows
PART = 4  # of so many calibration samples one is looked at to tell where to search


def ready(
    vlm: VLM,
    pruner: Pruner,
    ratio: float,
    match: Measure = "tokens",
    *,
    method: str,
    positions: str | None = None,
    seed: int = 0,
    calibration: Calibration | None = None,
    measured: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> Session:
    """A session at a ratio of a measure; what was found for it is among the facts of its provenance.

    Args:
        match: what the ratio is of.
        method: its name, for messages.
        calibration: gives the samples for a method that must be calibrated.
        measured: as for `Session`.

    Raises:
        BudgetError, UnsupportedError, ConfigError: the method cannot run on this model at this ratio.
    """
    made = _Maker(vlm, pruner, method, positions, seed, calibration, provenance or {})
    budget = TokenBudget.from_ratio(ratio)
    if match == "tokens":
        return made.session(budget, measured)
    return made.matched(Target(match, ratio, f"method '{method}' on model '{vlm.name}'"), budget)


class _Maker:
    """Makes sessions of one method at several budgets."""

    def __init__(
        self,
        vlm: VLM,
        pruner: Pruner,
        method: str,
        positions: str | None,
        seed: int,
        calibration: Calibration | None,
        provenance: Mapping[str, Any],
    ) -> None:
        self._vlm, self._pruner, self._method = vlm, pruner, method
        self._positions, self._seed = positions, seed
        self._calibration, self._provenance = calibration, provenance
        self._requests: Sequence[Request] | None = None

    @property
    def requests(self) -> Sequence[Request]:
        """The calibration samples.

        Raises:
            UnsupportedError: there are none.
        """
        if self._requests is None:
            if self._calibration is None:
                raise UnsupportedError(
                    f"method '{self._method}' needs calibration and model '{self._vlm.name}' has no samples for it"
                )
            self._requests = [short(request) for request in self._calibration()]
        return self._requests

    def session(
        self,
        budget: TokenBudget,
        measured: bool,
        target: Target | None = None,
        facts: Mapping[str, Any] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Session:
        """At a budget, the method's constants measured at it unless they are given."""
        if facts is None:
            facts = self._facts(budget, None)
        return Session(
            self._vlm,
            self._pruner,
            budget,
            positions=self._positions,
            seed=self._seed,
            facts=facts,
            provenance={**self._provenance, "facts": {**facts, **(more or {})}},
            measured=measured,
            target=target,
        )

    def matched(self, target: Target, start: TokenBudget) -> Session:
        """At the budgets, or the budget, that meet a target."""
        if self._pruner.exact and not self._pruner.needs_calibration and self._alike(target.measure, start):
            session = self.session(TokenBudget(1.0), True, target)
            if self._calibration is not None:
                session.start_at(self.requests[0])
            return session
        facts: dict[float, Mapping[str, Any]] = {}
        every = PART if len(self.requests) > PART * LOOKED_AT else 1

        def answered(budget: TokenBudget, every: int) -> list[Answer]:
            requests = self.requests[::every]
            found = self._facts(budget, requests)
            facts[budget.keep] = found  # of all samples where those were asked last
            return self._answers(self.session(budget, True, None, found), requests)

        plain = Session(self._vlm, Pruner(), TokenBudget(1.0))
        most = max(reference(self._vlm, shape_of(plain.look(request))) for request in self.requests)
        budget, found = Calibrated(answered, every, most, *target).budget()
        session = self.session(budget, True, None, facts[budget.keep], {"match": found})
        session.start_at(self.requests[0])
        return session

    def _alike(self, measure: Measure, start: TokenBudget) -> bool:
        """Whether the measure depends on nothing but the shape of a sample."""
        if self._calibration is None:
            return True
        requests = self.requests[:: max(1, len(self.requests) // LOOKED_AT)]
        for budget in (start, TokenBudget(0.5)):
            try:
                session = self.session(budget, False)
                shapes = [shape_of(session.look(request)) for request in requests]
                return counted_alike(zip(shapes, self._answers(session, requests), strict=True), measure)
            except BudgetError:
                continue
        return True

    def _facts(self, budget: TokenBudget, requests: Sequence[Request] | None) -> Mapping[str, Any]:
        """The method's constants, measured on some of the samples; None: on all."""
        if not self._pruner.needs_calibration:
            return {}
        vlm, positions, seed = self._vlm, self._positions, self._seed
        return calibrate(vlm, self._pruner, budget, requests or self.requests, positions=positions, seed=seed)

    def _answers(self, session: Session, requests: Sequence[Request]) -> list[Answer]:
        """In the order of the requests."""
        if session.gauge is not None:
            session.start_at(requests[0])
        answers: dict[str, Answer] = {}
        session.answer(requests, lambda request, answer: answers.update({request.key: answer}))
        return [answers[request.key] for request in requests]
