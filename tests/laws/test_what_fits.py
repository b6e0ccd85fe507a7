"""Law 9: what does not fit is said in one line, and what fits is answered."""

from __future__ import annotations

import pytest

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import BudgetError, MeteorBenchError, UnsupportedError
from meteor_bench.engine.engine import Engine
from tests import tiny
from tests.laws.cases import (
    ALL,
    RUNNABLE,
    Case,
    cases,
    facts,
    generate,
    param,
    shared_model,
)

pytestmark = pytest.mark.usefixtures("inference")


def answered(case: Case, keep: float) -> int:
    """How many questions get an answer."""
    pruning = Engine(shared_model(case.model), case.pruner, TokenBudget(keep), facts=facts(case, 0.5, 4, 1, False))
    return len(generate(pruning, tiny.requests(1)))


@pytest.mark.parametrize("case", [param(case) for case in ALL if case not in RUNNABLE], ids=str)
def test_9_what_does_not_fit_is_said_in_one_line(case: Case) -> None:
    with pytest.raises(UnsupportedError) as caught:
        answered(case, 0.5)
    said = str(caught.value)
    assert "\n" not in said and case.method in said.lower() and f"'{shared_model(case.model).name}'" in said


@cases
def test_9_what_fits_is_answered_or_its_budget_named(case: Case) -> None:
    """A hundredth of the tokens; half of them law 6 has answered."""
    said = ""
    try:
        assert answered(case, 0.01) == 1
    except BudgetError as error:
        said = str(error).lower()
    assert not said or ("\n" not in said and case.method in said)


def test_9_there_is_something_that_does_not_fit() -> None:
    # A method without trained weights; one for several encoders on a model with one.
    for method, model in (("oc-vtp", "shared"), ("meteor", "single"), ("meteor", "llava")):
        assert not Case(method, model).supports()


@pytest.mark.parametrize("case", [param(case) for case in RUNNABLE if case.pruner.needs_calibration], ids=str)
def test_9_facts_are_asked_for(case: Case) -> None:
    with pytest.raises(MeteorBenchError, match=f"{case.method}.*calibrate") as caught:
        generate(Engine(shared_model(case.model), case.pruner, TokenBudget(0.5)), tiny.requests(1))
    assert "\n" not in str(caught.value)
