"""What there is to choose from, as plain rows for `list`."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meteor_bench.core.errors import PluginError
from meteor_bench.core.registry import METHODS, MODELS, UNSUPPORTED
from meteor_bench.data import suites

if TYPE_CHECKING:
    from meteor_bench.core.model import ModelCard
    from meteor_bench.core.pruner import Pruner

__all__ = ["CARDS", "FACTS", "card_row", "fact_row", "methods", "models", "tasks", "unsupported"]

FACTS = Path(__file__).parents[1] / "methods" / "facts.json"  # written by scripts/method_facts.py
CARDS = Path(__file__).parents[1] / "models" / "cards.json"  # written by scripts/model_cards.py


def methods() -> list[dict[str, Any]]:
    """A row per method, in the order of the table.

    What is ours is read from facts.json: importing the methods takes seconds, for they import torch.
    """
    ours = json.loads(FACTS.read_text(encoding="utf-8"))
    rows = []
    for name in METHODS.names():
        try:
            with METHODS.borrowed(name):
                rows.append({"name": name, **(ours[name] if name in ours else fact_row(METHODS.make(name)))})
        except PluginError as error:  # one that somebody installed is no reason to list none
            rows.append({**dict.fromkeys(rows[0], ""), "name": name, "stages": ["broken"], "paper": str(error)})
    return rows


def fact_row(pruner: Pruner) -> dict[str, Any]:
    """What a method says of itself, as plain data."""
    fact = pruner.fact
    return {
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


def models() -> list[dict[str, Any]]:
    """A row per model, in the order of the table; figures are for a picture of 1024 x 1024, unpruned, without text.

    What is ours is read from cards.json: importing the models takes far longer than anyone wants to wait for a list.
    """
    ours = json.loads(CARDS.read_text(encoding="utf-8"))
    rows = []
    for name in MODELS.names():
        try:
            with MODELS.borrowed(name):
                rows.append(_model(name, ours[name] if name in ours else card_row(MODELS.load(name))))
        except PluginError as error:  # as in `methods`
            rows.append({**dict.fromkeys(rows[0], ""), "name": name, "fusion": "broken", "note": str(error)})
    return rows


def unsupported() -> str:
    """A line for each model that people ask for and that has no adapter."""
    return "\n".join(
        textwrap.fill(f"not supported: {model.name}: {model.why}", 80, subsequent_indent="  ") for model in UNSUPPORTED
    )


def card_row(card: ModelCard) -> dict[str, Any]:
    """What a card says, as plain data."""
    said = {
        field: getattr(card, field) for field in ("fusion", "tokens", "llm", "licence", "weights", "published", "note")
    }
    return {**said, "encoders": dict(card.towers)}


def _model(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    cost = row.get("cost")
    prefill = f", {_rounded(cost['prefill'] / 1e12)} TFLOPs" if cost else ""
    return {
        "name": name,
        "fusion": row["fusion"],
        "tokens": cost["tokens"] if cost else row["tokens"],
        "params, G": _rounded(cost["parameters"] / 1e9) if cost else "",
        "TFLOPs": _rounded(_flops(cost) / 1e12) if cost else "",
        "licence": row["licence"],
        "encoders": [f"{tower}: {what}{_figures(cost, tower)}" for tower, what in row["encoders"].items()],
        "llm": row["llm"] + prefill,
        "weights": row["weights"] or ("shipped" if row["published"] else "none published"),
        "note": row["note"],
    }


def _rounded(value: float) -> float:
    return float(f"{value:.3g}") if value < 100 else round(value)


def _flops(cost: Mapping[str, Any]) -> int:
    """Encoders, fusion and the prefill of the visual tokens."""
    return sum([*(int(encoder["flops"]) for encoder in cost["encoders"].values()), cost["fuse"], cost["prefill"]])


def _figures(cost: Mapping[str, Any] | None, tower: str) -> str:
    if cost is None:
        return ""
    own = cost["encoders"][tower]
    rows = f"{own['rows']} x " if own["rows"] > 1 else ""
    grid = f"{rows}{own['grid'][0]}x{own['grid'][1]} tokens of {own['width']}"
    return f" ({grid}, {_rounded(own['parameters'] / 1e6)} M, {_rounded(own['flops'] / 1e12)} TFLOPs)"


def tasks(suite: str | None = None) -> list[dict[str, Any]]:
    """A row per benchmark, in the order of the table; ``metric`` times ``scale`` is its score of 0 to 100.

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
            "scale": int(row.scale) if row.scale % 1 == 0 else row.scale,
            "questions": row.n,
            "mirrors": row.mirrors,
            "suites": [suite for suite in suites.suite_names() if row.task in suites.suite_tasks(suite)],
            "dataset": row.dataset,
            "config": row.config or "",
            "split": row.split,
            "family": "" if row.stock and row.family == "family" else row.family,
            "reported": row.reported,
            "note": row.note,
        }
        for row in map(suites.benchmark, named)
    ]
