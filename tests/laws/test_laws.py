"""The laws that every method keeps on every model. Law 8, a killed run resumes, is tested with the runs."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import BudgetError
from meteor_bench.core.model import VLM
from meteor_bench.core.pruner import View
from meteor_bench.core.request import Answer, Request
from meteor_bench.engine.flop_counter import FlopMeter
from meteor_bench.engine.session import Session
from tests import tiny
from tests.laws.cases import (
    KEEPS,
    ON_FAMILIES,
    RUNNABLE,
    Case,
    cases,
    engine,
    facts,
    generate,
    likelihoods,
    modules_of,
    param,
    recorded,
    shown,
    visual_of,
)

pytestmark = pytest.mark.usefixtures("inference")

plain_cases = [case for case in RUNNABLE if not case.options or ("temporal", True) in case.options]


def on_clips_too(frames: int) -> pytest.MarkDecorator:
    """Images for every case, clips for the methods' defaults."""
    values = [param(case, 1) for case in RUNNABLE] + [param(case, frames) for case in plain_cases]
    return pytest.mark.parametrize(("case", "frames"), values, ids=str)


# ---------------------------------------------------------------- 1


class Forward(NamedTuple):
    """What the library makes of a model's requests: visual tokens [B, N, D]; each answer's ids and summed loss."""

    visual: torch.Tensor
    answers: list[tuple[list[int], float]]


@cache
def librarys_own(model: str, frames: int) -> Forward:
    """No method changes it, so it is asked once for each model."""
    asked, library = tiny.requests(2, frames), tiny.plain(model)
    answers = []
    for request in asked:
        ids, logits = library.answer(request, 3)
        answers.append((ids, float(F.cross_entropy(logits, torch.tensor(ids), reduction="sum"))))
    return Forward(library.visual(asked), answers)


@on_clips_too(4)
def test_1_keep_all_equals_the_librarys_own_forward(case: Case, frames: int) -> None:
    asked = tiny.requests(2, frames)
    dense = engine(case, 1.0, count=2, frames=frames, native=True)
    library = librarys_own(case.model, frames)
    visual = visual_of(dense, asked)
    block = visual.tokens
    whole = block.x.shape == library.visual.shape  # some libraries' blocks begin and end with text that is not pruned
    assert torch.allclose(block.x if whole else shown(block), library.visual, atol=1e-4)
    got = likelihoods(dense, asked, [ids for ids, _ in library.answers], visual)
    for (_, loss), likelihood in zip(library.answers, got, strict=True):
        assert likelihood.greedy
        assert likelihood.loss == pytest.approx(loss, abs=1e-3)


# ---------------------------------------------------------------- 2


@on_clips_too(3)
def test_2_a_batch_equals_its_rows_run_alone(case: Case, frames: int) -> None:
    asked = tiny.requests(3, frames)
    keep = 0.24  # of 3 frames: their shares differ, so that the towers are padded too
    pruning = engine(case, keep, frames=frames)
    continuations = [(9, 11), (17,), (23, 5, 8)]
    with pruning.watch.looking():
        visual = visual_of(pruning, asked)
        together, counted = likelihoods(pruning, asked, continuations, visual), generate(pruning, asked, visual=visual)
        assert not pruning.watch.read(), "also where rows are of different length, all that is given is a number"
    for i, request in enumerate(asked):
        visual = visual_of(pruning, [request])
        (alone,) = likelihoods(pruning, [request], [continuations[i]], visual)
        assert together[i].loss == pytest.approx(alone.loss, abs=1e-3)
        (generation,) = generate(pruning, [request], visual=visual)
        assert generation.ids == counted[i].ids
        assert {**vars(generation.trace), "padded": 0} == {**vars(counted[i].trace), "padded": 0}


@pytest.mark.parametrize("case", [param(case) for case in plain_cases], ids=str)
def test_2_sharing_an_image_between_questions_changes_nothing(case: Case) -> None:
    asked = tiny.requests(4, new_tokens=3)  # the batches part the second image's
    made = engine(case, 0.5)

    def answers(reuse: bool) -> dict[str, tuple[str, object]]:
        out: dict[str, tuple[str, object]] = {}
        session = Session(made.vlm, made.pruner, made.budget, facts=made.facts)

        def note(request: Request, answer: Answer) -> None:
            kept = {k: v for k, v in answer.tokens.items() if "padd" not in k}
            out[request.key] = (answer.text, kept)

        session.answer(asked, note, batch_size=3, reuse=reuse)
        return out

    assert answers(True) == answers(False)


# ---------------------------------------------------------------- 3


@pytest.mark.parametrize(("keep", "frames"), [pytest.param(0.5, 1, marks=pytest.mark.slow), (0.25, 3), (0.06, 1)])
@cases
def test_3_kept_is_budget_is_trace_is_cache(case: Case, frames: int, keep: float) -> None:
    (request,) = tiny.requests(1, frames)
    vlm, recorder = recorded(case)
    pruning = engine(case, keep, frames=frames, vlm=vlm)
    try:
        (generation,) = generate(pruning, [request], new_tokens=2)
    except BudgetError:  # a method that keeps a token of each tile
        look = vlm.processor.look(request.media())
        grid = vlm.grid(len(look.pixels), *look.pixels.shape[-2:])
        assert TokenBudget(keep).tokens(vlm.at(look.scene).reference(grid)) < len(look.pixels)
        return
    trace = generation.trace
    assert trace.target == TokenBudget(keep).tokens(trace.reference)
    if case.method == "none":
        whole = trace.reference if vlm.fusion.kind == "shared" else sum(trace.towers.values())
        assert trace.final == trace.fused == whole
    elif pruning.pruner.exact:
        assert trace.final == trace.target
    for layer in range(vlm.decoder.depth):
        assert recorder.lengths[layer] == [trace.llm[layer] + trace.text, 1]
        assert recorder.cached[layer][0] == trace.cache[layer] + trace.text
        assert recorder.cached[layer][1] == trace.cache[layer] + trace.text + 1
    assert trace.llm == sorted(trace.llm, reverse=True) and trace.llm[0] == trace.fused


@pytest.mark.parametrize("keep", [pytest.param(k, marks=pytest.mark.slow) if k == 0.5 else k for k in KEEPS])
@pytest.mark.parametrize("case", [param(case) for case in RUNNABLE if not case.pruner.exact], ids=str)
def test_3_adaptive_budgets_are_met_on_average(case: Case, keep: float) -> None:
    asked = tiny.requests(4)
    pruning = engine(case, keep)
    traces = [g.trace for g in generate(pruning, asked)]
    finals, (target,) = [t.final for t in traces], {t.target for t in traces}
    assert sum(finals) / len(finals) == pytest.approx(target, abs=1)
    assert facts(case, keep, 4, 1, False)[f"{case.method}.calibrated"]["mean"] == sum(finals) / len(finals)


# ---------------------------------------------------------------- 4


@on_clips_too(3)
def test_4_closed_form_flops_equal_the_counter(case: Case, frames: int) -> None:
    (request,) = tiny.requests(1, frames)
    pruning = engine(case, 0.25 if frames > 1 else 0.24, frames=frames)  # 0.24: other laws have measured its facts
    every_step = case.method in ON_FAMILIES and not case.options  # how caches grow is no method's
    padded: list[bool] = []

    def watch(view: View) -> bool:
        apart = getattr(view, "frames", None)
        uneven = view.tokens.padded or (apart is not None and apart.tokens.padded)
        padded.append(
            uneven or (frames > 1 and getattr(view, "windows", None) is not None)
        )  # windows of several widths
        return False

    with FlopMeter(pruning.vlm.device) as meter, pruning.instrumented(clock=meter, observer=watch):
        (generation,) = generate(pruning, [request], new_tokens=3 if every_step else 2)
    counted = meter.read_flops()
    counted.pop("prune", None)
    if any(padded):  # frames of different lengths: the counter also sees the padding
        assert counted.keys() == generation.trace.flops.keys()
        assert all(counted[stage] >= n for stage, n in generation.trace.flops.items())
    else:
        assert counted == generation.trace.flops


# ---------------------------------------------------------------- 5


@pytest.mark.parametrize("policy", ["keep", "renumber"])
@pytest.mark.parametrize("case", [param(case) for case in plain_cases], ids=str)
def test_5_order_positions_and_special_tokens(case: Case, policy: str) -> None:
    asked = tiny.requests(1, 3)
    vlm, recorder = recorded(case)
    seen: list[View] = []
    watched = {"observer": lambda view: bool(seen.append(view))}
    pruning = engine(case, 0.24, frames=3, vlm=vlm, positions=policy, **watched)
    (generation,) = generate(pruning, asked, new_tokens=2)
    for view in seen:
        specials = view.tokens.special.sum(1)
        tower = vlm.towers.get(view.tower) if view.stage == "encode" else None
        each = 1 if getattr(view, "frames", None) is None else view.tokens.grid.t
        assert (specials == (0 if tower is None else each * tower.specials)).all()
        for row in range(view.tokens.x.shape[0]):
            origins = view.tokens.origin[row][view.tokens.visual[row]]
            if not pruning.pruner.ordered:
                origins = origins.sort().values
            assert (origins.diff() > 0).all() and (origins >= 0).all() and (origins < view.tokens.grid.n).all()
    (prompt,) = tiny.prompts(vlm, asked)
    head, trace = len(prompt.before), generation.trace
    between = trace.text - head - len(prompt.after)  # newlines and separators, always there
    for layer in range(vlm.decoder.depth):
        prefill, step = recorder.positions[layer]
        if prefill.ndim > 2 and policy == "keep":  # a text token is behind the visual ones on every axis
            prefill = prefill.amax(2)
        elif prefill.ndim > 2:
            assert bool((prefill == prefill[..., :1]).all())
            prefill = prefill[..., 0]
        elif pruning.pruner.ordered or policy == "renumber":
            assert (prefill[0].diff() > 0).all()
        length = trace.llm[layer] + between
        visual, text = prefill[0, head : head + length] - head, prefill[0, head + length :]
        assert (text.diff() == 1).all()
        if policy == "renumber":
            assert visual.tolist() == list(range(length))
            assert int(text[0]) == head + length
        else:
            assert int(visual.max()) < int(text[0]) - head
        assert int(step[0, 0]) == int(text[-1]) + 1


# ---------------------------------------------------------------- 6


@cases
def test_6_the_same_seed_gives_the_same_result_in_any_order(case: Case) -> None:
    asked = tiny.requests(4)
    first = {r.key: g for r, g in zip(asked, generate(engine(case, 0.5), asked), strict=True)}
    turned = [asked[i] for i in (2, 0, 3, 1)]
    assert {r.key: g for r, g in zip(turned, generate(engine(case, 0.5), turned), strict=True)} == first


@cases
def test_6_only_what_says_that_it_draws_depends_on_the_seed(case: Case) -> None:
    asked = tiny.requests(2)
    # Half: with one token of each tile there is one slot for oc-vtp to draw, which gets all that there is.
    origins = [visual_of(engine(case, 0.5, seed=seed), asked).tokens.origin for seed in (0, 1)]
    assert torch.equal(*origins) != case.pruner.draws


# ---------------------------------------------------------------- 7


def _state(vlm: VLM) -> dict[str, object]:
    """Everything about the modules that a method could leave changed."""
    digest = hashlib.sha256()
    for top, module in vlm.modules().items():
        for name, value in {**dict(module.named_parameters()), **dict(module.named_buffers())}.items():
            digest.update(f"{top}.{name}".encode() + value.contiguous().view(torch.uint8).numpy().tobytes())
    out: dict[str, object] = {"weights": digest.hexdigest()}
    for name, module in modules_of(vlm):
        hooks = [k for k, v in vars(module).items() if k.endswith("_hooks") and v]
        patched = [k for k in vars(module) if k in ("forward", "__call__")]
        kernel = getattr(getattr(module, "config", None), "_attn_implementation", None)
        out[name] = (type(module), hooks, patched, kernel, module.training)
    return out


@cache
def _as_built(model: str) -> dict[str, object]:
    return _state(tiny.build(model))


@cases
def test_7_the_model_is_untouched(case: Case) -> None:
    vlm = tiny.build(case.model)
    pruning = engine(case, 0.24, vlm=vlm)
    generate(pruning, tiny.requests(2))
    assert _state(vlm) == _as_built(case.model)
