"""A baseline's cell and the same cell measured now, as findings: one a metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from meteor_bench.runs.regression.baseline import Measured, Ratios, Tolerances, unfold

__all__ = ["METRICS", "Finding", "compare", "too_slow"]

METRICS = ("accuracy", "loss", "tokens", "flops", "selection", "ttft")


@dataclass(frozen=True)
class Finding:
    """How one metric of one cell moved.

    Attributes:
        cell: `Setting.label`.
        metric: one of `METRICS`.
        change: in a few characters, "" where nothing moved.
        detail: what moved, from what to what, and what is allowed; one line.
        failed: whether it moved further than the tolerance.
    """

    cell: str
    metric: str
    change: str
    detail: str
    failed: bool


class _Verdict(NamedTuple):
    change: str
    detail: str
    failed: bool


def compare(cell: str, was: Measured, now: Measured, allowed: Tolerances) -> list[Finding]:
    """All metrics of a cell; both sides answered the same documents."""
    sizes = {task: len(values) for task, values in was.right.items()}
    verdicts = {
        "accuracy": _accuracy(was, now, allowed),
        "loss": _loss(was, now, allowed),
        "tokens": _tokens(was, now, sizes, allowed),
        "flops": _flops(was, now, allowed),
        "selection": _time("selection", was.latency, now.latency, allowed),
        "ttft": _time("ttft", was.latency, now.latency, allowed),
    }
    return [Finding(cell, metric, *verdicts[metric]) for metric in METRICS]


def too_slow(was: Ratios, now: Ratios, allowed: Tolerances) -> bool:
    """Whether a time is beyond its tolerance, so that it should be measured again before it is believed."""
    return any(_time(metric, was, now, allowed).failed for metric in ("selection", "ttft"))


def _accuracy(was: Measured, now: Measured, allowed: Tolerances) -> _Verdict:
    """Paired by document: what some questions lost is not made up for by others."""
    old, new = was.scores(), now.scores()
    changes = {task: np.subtract(new[task], old[task]) for task in old}
    every = np.concatenate(list(changes.values()))
    lost, gained = -100 * every.clip(max=0).mean(), 100 * every.clip(min=0).mean()
    before = 100 * float(np.concatenate(list(old.values())).mean())
    moved = [
        f"{task} {int((c > 0).sum())} better, {int((c < 0).sum())} worse" for task, c in changes.items() if c.any()
    ]
    detail = (
        f"{before:.1f} -> {before + gained - lost:.1f} of 100 over {every.size} questions; lost {lost:.1f}, "
        f"gained {gained:.1f}; may lose {allowed.lost:g}" + (f" ({'; '.join(moved)})" if moved else "")
    )
    return _Verdict(f"{gained - lost:+.1f}" if every.any() else "", detail, bool(lost > allowed.lost))


def _loss(was: Measured, now: Measured, allowed: Tolerances) -> _Verdict:
    """The benchmark that moved most, in units of what it may."""
    limit = {task: max(allowed.loss * value, allowed.loss_floor) for task, value in was.loss.items()}
    change = {task: now.loss[task] - value for task, value in was.loss.items()}
    worst = max(change, key=lambda task: abs(change[task]) / limit[task] if limit[task] else abs(change[task]))
    detail = (
        f"{worst} {was.loss[worst]:.4f} -> {now.loss[worst]:.4f} nats for the unpruned model's answer; "
        f"may move by {limit[worst]:.4f}"
    )
    shown = f"{change[worst]:+.3f}" if any(abs(value) >= 0.0005 for value in change.values()) else ""
    return _Verdict(shown, detail, any(abs(change[task]) > limit[task] for task in change))


def _tokens(was: Measured, now: Measured, sizes: Mapping[str, int], allowed: Tolerances) -> _Verdict:
    """Every count of every question; for an adaptive method also the mean."""
    most, mean = (allowed.tokens, None) if was.exact else (allowed.adaptive_tokens, allowed.adaptive_mean)
    if set(was.tokens) != set(now.tokens):
        return _Verdict("other", f"counts {sorted(was.tokens)} -> {sorted(now.tokens)}", True)
    told: dict[str, tuple[float, str]] = {}
    failed = False
    for column in was.tokens:
        old, new = unfold(was.tokens[column], sizes), unfold(now.tokens[column], sizes)
        change = {task: np.subtract(new[task], old[task]) for task in sizes}
        every = np.concatenate(list(change.values()))
        if not every.any():
            continue
        task = max(change, key=lambda name: np.abs(change[name]).max())
        at = int(np.abs(change[task]).argmax())
        far = bool(np.abs(every).max() > most) or (mean is not None and abs(float(every.mean())) > mean)
        failed |= far
        told[column] = (
            float(every.mean()),
            f"{column} {old[task][at]:g} -> {new[task][at]:g} in {task}/{at}, {int((every != 0).sum())} of "
            f"{every.size} questions, mean {every.mean():+.2f}",
        )
    if not told:
        return _Verdict("", "the same on every question", False)
    may = f"may move by {most:g}" + ("" if mean is None else f", the mean by {mean:g}")
    # The count that the ratio is measured on speaks for all of them where it moved.
    shown = told.get("final") or next(iter(told.values()))
    return _Verdict(f"{shown[0]:+.2f}", "; ".join(text for _, text in told.values()) + f"; {may}", failed)


def _flops(was: Measured, now: Measured, allowed: Tolerances) -> _Verdict:
    most = allowed.flops if was.exact else allowed.adaptive_flops
    stages = sorted(set(was.flops) | set(now.flops))
    moved = {s: (was.flops.get(s, 0), now.flops.get(s, 0)) for s in stages if was.flops.get(s) != now.flops.get(s)}
    if not moved:
        return _Verdict("", "the same in every stage", False)
    share = {stage: (new - old) / old if old else float("inf") for stage, (old, new) in moved.items()}
    worst = max(share, key=lambda stage: abs(share[stage]))
    told = "; ".join(f"{stage} {old:.6g} -> {new:.6g}" for stage, (old, new) in moved.items())
    failed = any(abs(value) > most for value in share.values())
    return _Verdict(f"{share[worst]:+.1%}", f"{told}; may move by {most:.1%}", failed)


def _time(metric: str, was: Ratios, now: Ratios, allowed: Tolerances) -> _Verdict:
    """Only slower is worse."""
    old, new = getattr(was, metric), getattr(now, metric)
    limit = old * getattr(allowed, metric)
    if metric == "selection":
        limit = max(limit, old + allowed.selection_floor)
    detail = f"{old:.3f} -> {new:.3f} of the unpruned model's time to the first token; may be {limit:.3f}"
    return _Verdict(f"{new / old - 1:+.0%}" if old else "", detail, new > limit)
