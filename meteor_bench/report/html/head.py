"""The top of the page: bar, title, and the scores at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from meteor_bench.core.match import of_ratio
from meteor_bench.report.html.markup import Html, counted, tag
from meteor_bench.report.html.tables import numbers
from meteor_bench.report.table import REPORTED

if TYPE_CHECKING:
    from meteor_bench.report.html.chapter import Chapter

__all__ = ["PARTS", "bar", "head", "tiles"]

PARTS = {
    "trade": "Trade-off",
    "accuracy": "Accuracy",
    "tokens": "Tokens",
    "latency": "Latency",
    "papers": "Papers",
    "questions": "Questions",
    "how": "How measured",
}


def _icon(*shapes: Html) -> Html:
    look: dict[str, Any] = {"fill": "none", "stroke": "currentColor", "stroke_width": 1.7, "stroke_linecap": "round"}
    return tag("svg", *shapes, viewBox="0 0 20 20", aria_hidden="true", **look)


_RAYS = "M10 1v2M10 17v2M1 10h2M17 10h2M3.6 3.6 5 5M15 15l1.4 1.4M3.6 16.4 5 15M15 5l1.4-1.4"
_THEMES = (
    (
        "auto",
        "as the system",
        _icon(tag("circle", cx=10, cy=10, r=7), tag("path", d="M10 3a7 7 0 0 1 0 14z", fill="currentColor")),
    ),
    ("light", "light", _icon(tag("circle", cx=10, cy=10, r=3.5), tag("path", d=_RAYS))),
    ("dark", "dark", _icon(tag("path", d="M16.5 12.2A7 7 0 1 1 7.8 3.5a5.6 5.6 0 0 0 8.7 8.7z"))),
)


def bar() -> Html:
    """Sticks to the top: where things are, light or dark."""
    links = [tag("a", title, href=f"#{name}-0", data_part=name) for name, title in PARTS.items()]
    choices = [
        tag(
            "button", icon, type="button", title=title, aria_label=title, data_theme_choice=choice, aria_pressed="false"
        )
        for choice, title, icon in _THEMES
    ]
    switch = tag("div", *choices, class_="segments", role="group", aria_label="Colours")
    return tag("div", tag("div", tag("span", "meteor-bench", class_="brand"), tag("nav", *links), switch), class_="bar")


def head(chapters: Sequence[Chapter]) -> Html:
    """Title, what was compared, and the choice of a section where there are several."""
    questions = sum(next(iter(s.settings)).scores["average"]["n"] for s in chapters)
    settings = sum(sum(x.pruned for x in s.settings) for s in chapters)
    benchmarks = len({task for s in chapters for task in s.tasks})
    lead = (
        f"{counted(settings, 'pruning setting')} against the unpruned model on {counted(benchmarks, 'benchmark')}, "
        f"{questions:,} questions each."
    )
    tabs = None
    if len(chapters) > 1:
        buttons = [
            tag("button", _tab(s), type="button", data_open_section=i, aria_pressed=str(i == 0).lower())
            for i, s in enumerate(chapters)
        ]
        tabs = tag("div", tag("div", *buttons, class_="segments", role="group", aria_label="Model"), class_="tabs")
        lead = f"{counted(settings, 'pruning setting')} on {len(chapters)} models, suites or sets of questions."
    return tag(
        "header",
        tag(
            "div",
            tag("span", "measured by meteor-bench", class_="badge"),
            tag("span", "GFLOPs: inferred from closed forms", class_="badge inferred"),
            tag("span", f"{REPORTED}: reported by a paper, in a part of its own", class_="badge reported"),
            class_="tabs",
        ),
        tag("h1", f"Visual-token pruning on {', '.join(dict.fromkeys(s.model for s in chapters))}"),
        tag("p", lead, class_="lead"),
        tag("p", "", class_="note", id="trouble", hidden=True),
        tag("noscript", tag("p", "Charts and questions need JavaScript; the tables are below.", class_="note")),
        tabs,
        class_="head",
    )


def _tab(s: Chapter) -> str:
    of = f", ratio{of_ratio(s.match)}" if s.match != "tokens" else ""
    return f"{s.model}, {counted(len(s.tasks), 'benchmark')}{s.apart}{of}"


def tiles(s: Chapter) -> Html:
    """The unpruned score, and the best method at each ratio."""
    unpruned = next((x for x in s.settings if not x.pruned), None)
    tiles = []
    if unpruned:
        row = unpruned.scores["average"]
        about = f"{row['n']:,} questions, {counted(len(s.tasks), 'benchmark')}"
        tiles.append(_tile("unpruned", numbers(row["score"]), s.model, about))
    for ratio in s.ratios:
        rows = [x for x in s.settings if x.pruned and x.ratio == ratio]
        best = max(rows, key=lambda x: x.scores["average"]["score"])
        row = best.scores["average"]
        about = f"{numbers(row['difference'], signed=True)} to unpruned" if "difference" in row else ""
        if len(rows) > 1:
            second = sorted(x.scores["average"]["score"] for x in rows)[-2]
            about += f", {numbers(row['score'] - second, signed=True)} to the next"
        tiles.append(
            _tile(f"best at {100 * ratio:g} %{of_ratio(s.match)} removed", numbers(row["score"]), best.label, about)
        )
    return tag("dl", *tiles, class_="tiles")


def _tile(title: str, number: str, who: str, about: str) -> Html:
    value = tag("div", number, class_="big")
    return tag(
        "div",
        tag("dt", title),
        tag("dd", value, tag("div", who, class_="who"), tag("div", about, class_="small soft")),
        class_="tile",
    )
