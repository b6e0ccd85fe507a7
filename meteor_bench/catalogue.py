"""What there is to choose from, as plain rows for `list`."""

from __future__ import annotations

from typing import Any

from meteor_bench import suites
from meteor_bench.registry import METHODS, MODELS

__all__ = ["methods", "models", "tasks"]


def methods() -> list[dict[str, Any]]:
    """A row per method, in the order of the table."""
    rows = []
    for name in METHODS.names():
        pruner = METHODS.load(name)()
        fact = pruner.fact
        rows.append(
            {
                "name": name,
                "year": fact.year or "",
                "stages": list(fact.stages),
                "needs": list(fact.needs),
                "substitutes": list(fact.substitutes),
                "trained": fact.trained,
                "budget": "exact" if pruner.exact else "on average",
                "parameters": [f"{k}={v}" for k, v in pruner.parameters().items()],
                "positions": pruner.positions,
                "paper": fact.paper,
            }
        )
    return rows


def models() -> list[dict[str, Any]]:
    """A row per model, in the order of the table."""
    rows = []
    for name in MODELS.names():
        card = MODELS.load(name)
        rows.append(
            {
                "name": name,
                "fusion": card.fusion,
                "tokens": card.tokens,
                "encoders": [f"{tower}: {what}" for tower, what in card.towers.items()],
                "llm": card.llm,
                "licence": card.licence,
                "note": card.note,
            }
        )
    return rows


def tasks(suite: str | None = None) -> list[dict[str, Any]]:
    """A row per benchmark, in the order of the table.

    Args:
        suite: only its benchmarks.

    Raises:
        UnknownNameError: no such suite.
    """
    named = suites.task_names() if suite is None else suites.suite_tasks(suite)
    return [
        {
            "name": row.task,
            "group": row.group,
            "metric": row.metric,
            "questions": row.n,
            "mirrors": row.mirrors,
            "suites": [suite for suite in suites.suite_names() if row.task in suites.suite_tasks(suite)],
            "dataset": " ".join(part for part in (row.dataset, row.config, row.split) if part),
            "reported": row.reported,
            "note": row.note,
        }
        for row in map(suites.benchmark, named)
    ]
