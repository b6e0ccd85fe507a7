"""Laws 3 and 4 under every measure: budgets are the nearest of all, FLOPs are what the counter counts.

The reference tries counts of final tokens, each in a pass of its own: counts from the trace, which law 3 holds to the
decoder's calls, and FLOPs from torch's counter (where tiles are padded, the trace's, which law 4 holds to it). Where
slow tests are run it tries all on the tiny model of pocket's kind; else what the method can keep at least and at most,
and the counts on either side of the one that was found. The families differ from these in encoders and prompts, so
there it is FLOPs alone: the rest is counts of the decoder's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache, partial

import pytest

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import BudgetError
from meteor_bench.core.match import MEASURES, Measure, left, realised
from meteor_bench.core.registry import parts_of
from meteor_bench.core.request import Answer, Request
from meteor_bench.core.view import View
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.flop_counter import FlopMeter
from meteor_bench.engine.ready import ready
from meteor_bench.engine.session import Session
from tests import chosen, tiny
from tests.laws.cases import RUNNABLE, Case, engine, facts, generate, shared_model

pytestmark = pytest.mark.usefixtures("inference")

CHEAP = [("divprune", "flops")]
# Whose FLOPs of choosing hang on more than the shape of picture and question: on how many tokens a layer chooses among.
UNEVEN = {"evoprune", "tome", "flowcut"}
Kept = Mapping[Measure, float]


@cache
def counted(case: Case, keep: float, request: int) -> tuple[Kept, int] | None:
    """A pass at a share of the tokens: what is left of each measure (FLOPs: how many), and the final count."""
    asked = tiny.requests(4)[request]
    padded: list[bool] = []

    def watch(view: View) -> bool:
        padded.append(view.tokens.padded)
        return False

    try:
        made = engine(case, keep)
        with FlopMeter(made.vlm.device) as meter, made.instrumented(clock=meter, observer=watch):
            (generation,) = generate(made, [asked], new_tokens=1)
    except BudgetError:
        return None
    trace = generation.trace
    found = meter.read_flops()
    if any(padded):  # tiles of different lengths: the counter also sees the padding (law 4), which is no token's
        found = {**trace.flops, "prune": found.get("prune", 0)}
    work = sum(flops for stage, flops in found.items() if stage != "decode")
    layers, cache_ = sum(trace.llm) / len(trace.llm), sum(trace.cache) / len(trace.cache)
    return {"tokens": trace.final, "layer-mean": layers, "kv": cache_, "flops": work}, trace.final


def whole(case: Case, request: int) -> Kept:
    """What the unpruned reference model has of each measure."""
    vlm = shared_model(case.model)
    plain = Engine(vlm, Case("none", case.model).pruner, TokenBudget(1.0))
    (generation,) = generate(plain, [tiny.requests(4)[request]], new_tokens=1)
    trace, decoder = generation.trace, vlm.decoder
    n = trace.reference
    length = n + trace.text
    fusion = vlm.reference_fusion
    grids = {name: tower.grid(64, 64) for name, tower in vlm.towers.items()} if fusion else {}
    fuse = trace.flops["fuse"] if fusion is None else fusion.flops({"fused": n}) + fusion.flops_align(grids)
    encode = sum(flops for stage, flops in trace.flops.items() if stage.startswith("encode"))
    work = encode + fuse + decoder.depth * decoder.flops_layer(length, length) + decoder.flops_head(1)
    return {"tokens": n, "layer-mean": n, "kv": n, "flops": work}


def share(case: Case, measure: Measure, count: int, request: int = 0) -> float | None:
    """Of the measure, what is left of a request at a count of final tokens; None where it cannot be kept."""
    reference = whole(case, request)
    found = counted(case, count / int(reference["tokens"]), request)
    return found and found[0][measure] / reference[measure]


def tried(case: Case, measure: Measure, counts: Iterable[int]) -> dict[int, float]:
    """Count -> share of the measure that is left, of those counts that the method can keep."""
    most = int(whole(case, 0)["tokens"])
    shares = {count: share(case, measure, count) for count in counts if 1 <= count <= most}
    return {count: left for count, left in shares.items() if left is not None}


def ends(case: Case, measure: Measure) -> dict[int, float]:
    """The least and the most that the method can keep."""
    most = int(whole(case, 0)["tokens"])
    orders = range(1, most + 1), range(most, 0, -1)
    one, other = (next(count for count in order if share(case, measure, count) is not None) for order in orders)
    return tried(case, measure, [one, other])


def session_of(case: Case, measure: Measure, ratio: float) -> Session:
    return ready(
        shared_model(case.model),
        case.pruner,
        ratio,
        measure,
        method=case.method,
        calibration=partial(tiny.requests, 4),
        measured=True,
    )


def answers(session: Session) -> dict[str, Answer]:
    found: dict[str, Answer] = {}

    def note(request: Request, answer: Answer) -> None:
        found[request.key] = answer

    session.answer([Request(**{**vars(r), "max_new_tokens": 1}) for r in tiny.requests(4)], note)
    return found


PLAIN = [case for case in RUNNABLE if not case.options and case.method != "none"]


def params() -> list[object]:
    """Every measure of a case, one after the other on one worker: they share their passes."""
    quick = {(method, measure, "shared") for method, measure in CHEAP}
    return [
        pytest.param(
            case,
            measure,
            marks=[pytest.mark.xdist_group(f"matched {case}")]
            + [pytest.mark.slow] * ((case.method, measure, case.model) not in quick),
            id=f"{case}-{measure}",
        )
        for case in PLAIN
        for measure in (("flops",) if case.model in tiny.FAMILIES else MEASURES)
    ]


@pytest.mark.parametrize(("case", "measure"), params())
def test_3_and_4_under_every_measure(case: Case, measure: Measure) -> None:
    shares = ends(case, measure)
    least, most = min(shares.values()), min(1.0, max(shares.values()))  # a method may cost more FLOPs than it saves
    others = [share(case, measure, min(shares), request) for request in range(1, 4)]  # of longer questions even more
    if (reached := max(least, *(other for other in others if other is not None))) > 1:
        with pytest.raises(BudgetError):
            answers(session_of(case, measure, 0.01))
        return
    least = min(reached, most)
    ratio = round(1 - (least + most) / 2, 3)
    session = session_of(case, measure, ratio)
    found = answers(session)
    for i, request in enumerate(tiny.requests(4)):
        tokens, flops = found[request.key].tokens, found[request.key].flops
        if i == 0 and session.pruner.exact and "match" not in session.provenance["facts"]:
            final, reference = tokens["final"], int(tokens["reference"])
            every = case.model == "shared" and chosen.slow
            near = range(1, reference + 1) if every else range(final - 2, final + 3)
            shares |= tried(case, measure, near)
            best = min(abs(left_over - 1 + ratio) for left_over in shares.values())
            assert abs(shares[final] - 1 + ratio) == pytest.approx(best, abs=1e-12)
        assert tokens["reference_flops"] == whole(case, i)["flops"]
        if session.pruner.exact and not session.pruner.needs_calibration:
            # Of tokens the ratio is the budget; layers before the last may hang on it where the final count does not.
            made = counted(case, 1 - ratio if measure == "tokens" else tokens["final"] / tokens["reference"], i)
            assert made is not None and tokens["final"] == tokens["target"] == made[1]
            if not UNEVEN & set(parts_of(case.method)):
                assert sum(n for stage, n in flops.items() if stage != "decode") == made[0]["flops"]
    if "match" in session.provenance["facts"]:
        removed = realised(left(answer.tokens, answer.flops) for answer in found.values())[measure]
        assert removed == pytest.approx(session.provenance["facts"]["match"]["calibrated"], abs=1e-9)
        assert removed == pytest.approx(ratio, abs=2 / 64 + 0.01)


def test_the_search_is_of_no_tokens_where_nothing_is_matched() -> None:
    """The default is what it was: the budget's share, whatever else it comes to."""
    case = Case("fastv", "shared")
    session = session_of(case, "tokens", 0.5)
    plain = Session(shared_model("shared"), case.pruner, TokenBudget(0.5), facts=facts(case, 0.5, 4, 1, False))
    mine, other = answers(session), answers(plain)
    assert {key: (a.text, a.tokens["final"]) for key, a in mine.items()} == {
        key: (a.text, a.tokens["final"]) for key, a in other.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("measure", MEASURES[1:])
def test_a_target_out_of_reach_names_what_is_within_it(measure: Measure) -> None:
    with pytest.raises(BudgetError) as caught:
        session_of(Case("fastv", "shared"), measure, 0.95)
    said = str(caught.value)
    assert "\n" not in said and "method 'fastv' on model" in said and "cannot remove 0.95" in said
    within = dict(part.rsplit(" ", 1) for part in said.partition("its reach: ")[2].split(", "))
    assert list(within) == ["final tokens", "tokens over the layers", "KV cache", "FLOPs"]
    shares = {m: ends(Case("fastv", "shared"), m) for m in ("layer-mean", "flops")}
    assert float(within["tokens over the layers"]) == pytest.approx(1 - min(shares["layer-mean"].values()), abs=1e-4)
    assert float(within["FLOPs"]) == pytest.approx(1 - min(shares["flops"].values()), abs=1e-4)
