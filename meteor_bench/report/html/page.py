"""The page: chapters of settings, the scripts that draw them, and a policy that lets nothing else in."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from typing import Any

from meteor_bench.core.version import __version__
from meteor_bench.report.html import head, parts, tables
from meteor_bench.report.html.chapter import PARTS, Chapter
from meteor_bench.report.html.data import Setting, known_costs, pareto
from meteor_bench.report.html.markup import Html, tag
from meteor_bench.report.html.samples import Questions
from meteor_bench.report.sections import CONTROLS

__all__ = ["AT_FIRST", "at_first", "colours", "page"]

# Okabe and Ito's colours, darkened for paper and lightened for a dark screen in style.css; more methods than colours
# go round again with other shapes. Controls are grey, the unpruned model has the text's colour.
COLOURS = 8
FLOW = {"encoders": None, "after fusion": "fused", "LLM input": "llm input", "after last prune": "final"}
# Methods that charts start with; the others are a click away. At least the controls that a paper should beat.
AT_FIRST, ALWAYS = 10, ("random", "downsample")


def at_first(chapter: Chapter) -> list[str]:
    """Labels that charts start with: all, or the best at the middle ratio beside the unpruned model and controls."""
    labels = list(dict.fromkeys(s.label for s in chapter.settings))
    if len(labels) <= AT_FIRST:
        return labels
    beside = [s.label for s in chapter.settings if not s.pruned or s.method in ALWAYS]
    methods = [s for s in chapter.settings if s.pruned and s.method not in CONTROLS]
    ranked = sorted(methods, key=lambda s: (s.ratio != chapter.middle, -s.scores["average"]["score"]))
    chosen = list(dict.fromkeys([*beside, *(s.label for s in ranked)]))[:AT_FIRST]
    return [label for label in labels if label in chosen]


def page(chapters: Sequence[Chapter]) -> str:
    """The whole file."""
    scripts = "\n".join(_static(name) for name in ("app.js", "plot.js", "charts.js", "questions.js", "patches.js"))
    app = f"(() => {{\n{scripts}\nstart();\n}})();\n"
    library = _library()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        f"script-src {_hash(app)} {_hash(library)}"
    )
    data = {"sections": [_plain(s) for s in chapters]}
    written = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    about = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="generator", content=f"meteor-bench {__version__}"),
        tag("title", f"Visual-token pruning: {', '.join(dict.fromkeys(s.model for s in chapters))}"),
        tag("style", Html(_static("style.css") + tables.warmth())),
    )
    body = tag(
        "body",
        head.bar(),
        tag(
            "div",
            head.head(chapters),
            *(parts.section(s, i, colours(s)) for i, s in enumerate(chapters)),
            class_="page",
        ),
        # Not of a script's type: the browser leaves both alone until they are unpacked. Base64 holds no markup.
        tag("script", Html(_packed(written)), id="data", type="text/plain"),
        tag("script", Html(_packed(library)), id="charts", type="text/plain"),
        tag("script", Html(app)),
    )
    licences = _static("licences.txt")
    return f"<!doctype html>\n<!--\n{licences}-->\n{tag('html', about, body, lang='en')}\n"


def colours(section: Chapter) -> dict[str, str]:
    """Label -> name of its colour in the style sheet; those that charts start with do not share any."""
    found: dict[str, str] = {}
    turn, first = 0, at_first(section)
    for s in sorted(section.settings, key=lambda s: s.label not in first):
        if s.label in found:
            continue
        if not s.pruned:
            found[s.label] = "ink"
        elif s.method in CONTROLS:
            found[s.label] = f"g{CONTROLS.index(s.method)}"
        else:
            found[s.label] = f"c{turn % COLOURS}"
            turn += 1
    return found


def _plain(section: Chapter) -> dict[str, Any]:
    """What the scripts read."""
    settings = section.settings
    known = known_costs(settings)
    fronts = {}
    for name in known:
        rated = [(s, cost) for s in settings if (cost := s.cost(name)) is not None]
        fronts[name] = {
            score: [rated[i][0].name for i in sorted(pareto([(cost, s.scores[score]["score"]) for s, cost in rated]))]
            for score in settings[0].scores
        }
    colour = colours(section)
    shapes = {label: i for i, label in enumerate(colour)}
    return {
        "model": section.model,
        "tasks": [{"task": task, "short": short} for task, short in parts.shortened(section.tasks).items()],
        "stages": list(FLOW),
        "parts": list(PARTS),
        "ratio": section.middle,
        "first": at_first(section),
        "shown": parts.first_costs(known),
        "fronts": fronts,
        "settings": [
            _plain_setting(s, colour[s.label], shapes[s.label], {n: s.cost(n) for n in known}) for s in settings
        ],
        "questions": _plain_questions(section.questions),
        "pictures": list(section.pictures),
    }


def _plain_questions(asked: Questions) -> dict[str, Any]:
    """Counts of tokens each once: all methods that meet a budget exactly have the same."""
    counts = list(dict.fromkeys(map(tuple, asked.tokens)))
    places = {column: place for place, column in enumerate(counts)}
    return {**asdict(asked), "tokens": counts, "counts": [places[tuple(column)] for column in asked.tokens]}


def _plain_setting(s: Setting, colour: str, shape: int, costs: Mapping[str, float | None]) -> dict[str, Any]:
    wanted = ("score", "low", "high", "unpruned", "n")
    encoders = [count for name, count in s.tokens.items() if name.startswith("encoder ")]
    flow = {stage: sum(encoders) if row is None else s.tokens.get(row) for stage, row in FLOW.items()}
    return {
        "label": s.label,
        "name": s.name,
        "ratio": s.ratio,
        "pruned": s.pruned,
        "colour": colour,
        "shape": shape,
        "scores": {name: {k: row[k] for k in wanted if k in row} for name, row in s.scores.items()},
        "costs": costs,
        "flow": flow if encoders else {},
        "parts": {name: s.ms[name]["p50"] for name in PARTS if name in s.ms} or None,
    }


@cache
def _static(name: str) -> str:
    return files(__package__).joinpath("static", name).read_text(encoding="utf-8")


@cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, from the installed package; nothing is fetched."""
    import vl_convert

    # In a function of its own: the bundle fills the top level with short names.
    return f"(() => {{{vl_convert.javascript_bundle('window.vegaEmbed = vegaEmbed;')}}})();"


def _packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=9, mtime=0)).decode()


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
