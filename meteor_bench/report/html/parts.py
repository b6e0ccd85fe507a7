"""The parts of a chapter, from top to bottom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os.path import commonprefix
from typing import TYPE_CHECKING

from meteor_bench.core.version import __version__
from meteor_bench.report.html import tables
from meteor_bench.report.html.data import COSTS, known_costs
from meteor_bench.report.html.head import PARTS, tiles
from meteor_bench.report.html.markup import Html, tag
from meteor_bench.report.html.reported import laid_out
from meteor_bench.report.statistics import FEW
from meteor_bench.report.table import FEW_IMAGES

if TYPE_CHECKING:
    from meteor_bench.report.html.chapter import Chapter

__all__ = ["first_costs", "section", "shortened"]


def section(s: Chapter, index: int, colours: Mapping[str, str]) -> Html:
    """Everything about one model and its benchmarks."""
    made = [tiles(s), _trade(s, index), _accuracy(s, index, colours), _tokens(s, index, colours)]
    made += [_latency(s, index, colours), _papers(s, index), _questions(s, index), _how(s, index)]
    return tag("main" if index == 0 else "div", *made, data_section=index, hidden=index > 0)


def _part(name: str, index: int, text: str, *children: Html | None) -> Html:
    about = tag("header", tag("h2", PARTS[name]), tag("p", text))
    return tag("section", about, *children, class_="part", id=f"{name}-{index}")


def first_costs(known: Sequence[str]) -> list[str]:
    """The costs that the two charts start with: one in tokens, one in time (or work, where nothing was timed)."""
    tokens = [name for name in known if COSTS[name][0] == "tokens"]
    others = [name for name in known if COSTS[name][0] != "tokens"]
    return [*tokens[:1], *others[:1]]


def _trade(s: Chapter, index: int) -> Html:
    known = known_costs(s.settings)
    if not known:
        return _part("trade", index, "A single setting: there is nothing to weigh it against.")
    figures = []
    for i, first in enumerate(first_costs(known)):
        choices = [name for name in known if (COSTS[name][0] == "tokens") == (COSTS[first][0] == "tokens")]
        options = [tag("option", name, value=name, selected=name == first) for name in choices]
        pick = tag("select", *options, data_cost=i, aria_label="Accuracy against what")
        figures.append(_figure("Accuracy against", [pick], f"trade-{i}"))
    return _part(
        "trade",
        index,
        "Up and to the left is better. The dashed line is the Pareto front: ringed settings that no other one beats in "
        "both. Bars are 95 % intervals of the score.",
        tag("div", _legend(), tag("label", "score", _score_choice(s), class_="pick"), class_="controls"),
        tag("div", *figures, class_="two"),
    )


def _score_choice(s: Chapter) -> Html:
    names = {name: name for name in s.settings[0].scores if name not in s.tasks} | shortened(s.tasks)
    order = sorted(names, key=lambda name: (name != "average", name in s.tasks))
    return tag("select", *(tag("option", names[name], value=name) for name in order), data_score=True)


def _accuracy(s: Chapter, index: int, colours: Mapping[str, str]) -> Html:
    short = shortened(s.tasks)
    groups = list(dict.fromkeys(s.tasks.values()))
    averages = [n for n in s.settings[0].scores if n not in s.tasks and n not in groups]
    columns = [(name, name, False) for name in averages] + [(g, g, i == 0) for i, g in enumerate(groups)]
    few = {task: FEW_IMAGES * (s.settings[0].scores[task]["images"] < FEW) for task in s.tasks}
    columns += [(task, short[task] + few[task], i == 0) for i, task in enumerate(s.tasks)]
    name = f"accuracy-table-{index}"
    buttons = [
        tag("button", text, type="button", value=value, aria_pressed=str(value == "score").lower())
        for value, text in (("score", "score"), ("difference", "difference to unpruned"))
    ]
    switch = tag("div", *buttons, class_="segments", role="group", aria_label="Numbers shown", data_table=name)
    foot = "Wide bars: score; thin lines: its 95 % interval; upright mark: the unpruned model."
    return _part(
        "accuracy",
        index,
        "Scores of 0 to 100 in each benchmark's own metric. The warmer a cell, the more is lost against the unpruned "
        "model; bold leads its ratio beyond noise; grey differences are within it. Hover for intervals and counts.",
        tag("div", switch, class_="legend"),
        tables.accuracy(s.settings, colours, columns, name),
        Html("<div style='height:18px'></div>"),
        _figure("Each benchmark", [_ratios(s)], "bars", foot, legend=True),
        _subscores(s),
    )


def _subscores(s: Chapter) -> Html | None:
    """Folded: a row for each setting and a column for each kind of question are read one benchmark at a time."""
    if not s.subscores:
        return None
    short = shortened(s.tasks)
    folded = []
    for table in s.subscores:
        task = table.title.partition(":")[0]
        side = tag("div", *tables.printed(table), class_="side")
        folded.append(tag("details", tag("summary", short.get(task, task)), side))
    caption = tag("figcaption", tag("h3", "Metrics and kinds of question"))
    return tag("figure", caption, *folded, class_="figure")


def _tokens(s: Chapter, index: int, colours: Mapping[str, str]) -> Html:
    foot = "Mean visual tokens per question, counted from the tensors; “encoders” is the sum over all encoders."
    return _part(
        "tokens",
        index,
        "How many visual tokens are left at each step on the way to the answer, and what the language model and its "
        "cache carry on average.",
        _figure("The way of the tokens", [_ratios(s)], "flow", foot, legend=True),
        tables.tokens(s.settings, colours, s.towers),
    )


def _latency(s: Chapter, index: int, colours: Mapping[str, str]) -> Html:
    timed = [x for x in s.settings if x.ms]
    if not timed:
        return _part("latency", index, "These runs were not timed.")
    requests = sorted({row["n"] for x in timed for row in x.ms.values()})
    n = " to ".join(str(count) for count in dict.fromkeys((requests[0], requests[-1])))
    foot = "Medians of the stages, stacked; a sum of medians is not a median. Decoding is left out."
    return _part(
        "latency",
        index,
        f"{n} requests at batch 1, nothing reused between them, pruned and unpruned model in turn in one process. "
        "1 multiply-add = 2 FLOPs.",
        _figure("Where the time goes", [_ratios(s)], "times", foot),
        tables.latency(timed, colours),
    )


def _papers(s: Chapter, index: int) -> Html:
    if not s.reported:
        return _part("papers", index, "No paper's table that meteor-bench knows has a pruned row that was run here.")
    return _part(
        "papers",
        index,
        "What papers report, with its source and how it was read. Figures of another model than the one measured here "
        "stand apart: the same comparison, not the same numbers. Cells that were not measured are empty.",
        *laid_out(s.reported),
    )


def _questions(s: Chapter, index: int) -> Html:
    pruned = [i for i, x in enumerate(s.settings) if x.pruned] or [0]
    start = max(pruned, key=lambda i: (s.settings[i].ratio == s.middle, s.settings[i].scores["average"]["score"]))
    settings = [tag("option", s.settings[i].name, value=i, selected=i == start) for i in pruned]
    tasks = [
        tag("option", "all", value=""),
        *(tag("option", short, value=t) for t, short in shortened(s.tasks).items()),
    ]
    changes = {
        "flipped": "flipped only",
        "lost": "lost by pruning",
        "gained": "gained by pruning",
        "wrong": "wrong with pruning",
        "all": "all questions",
    }
    change = [tag("option", text, value=value) for value, text in changes.items()]
    fields = [
        _field("setting", "select", *settings, name="setting"),
        _field("show", "select", *change, name="change"),
        _field("benchmark", "select", *tasks, name="task"),
    ]
    if s.pictures:
        towers = dict.fromkeys(
            p["tower"] for x in s.pictures for y in x["settings"].values() for z in y["points"] for p in z["panels"]
        )
        options = [tag("option", "all", value=""), *(tag("option", t, value=t) for t in towers)]
        fields.append(_field("encoder", "select", *options, name="tower"))
    search = tag(
        "label", "search", tag("input", type="search", name="text", placeholder="question or answer"), class_="grow"
    )
    fields.append(search)
    if s.pictures:
        fields.append(tag("label", tag("input", type="checkbox", name="pictured"), "with patches only", class_="check"))
    left_out = f" {s.questions.left_out:,} questions found no room on this page." if s.questions.left_out else ""
    seeds = " Of several seeds the first is shown." if any(len(x.seeds) > 1 for x in s.settings) else ""
    body = [
        tag("p", s.why_no_pictures, class_="note") if s.why_no_pictures else _key(),
        tag("form", *fields, class_="filters"),
        tag("p", class_="count", aria_live="polite"),
        tag("ul", class_="cards"),
        tag("button", "show more", type="button", class_="more", hidden=True),
    ]
    about = f"What was asked, and what pruning changed.{seeds}{left_out}"
    return _part("questions", index, about, tag("div", *body, data_questions=True))


def _key() -> Html:
    """What the patches' colours mean."""
    tints = ("0,114,178", "230,159,0", "0,158,115", "213,94,0")
    items = [
        tag("span", tag("i", style="background:var(--soft)"), "kept"),
        tag("span", tag("i", style="background:var(--sunk)"), "dropped"),
        tag(
            "span",
            *(tag("i", style=f"background:rgb({t});margin-right:2px") for t in tints),
            " merged, a colour a group",
        ),
        tag("span", "● the patch that stands for its group"),
    ]
    return tag("p", *items, class_="key", style="margin-bottom:14px")


def _how(s: Chapter, index: int) -> Html:
    facts = tag("dl", *(tag("div", tag("dt", k), tag("dd", v)) for k, v in s.facts.items()), class_="facts")
    heads = tag("tr", *(tag("th", tag("span", name), scope="col") for name in s.runs[0]))
    rows = (tag("tr", *(tag("td", text, title=text) for text in row.values())) for row in s.runs)
    made = tag("table", tag("thead", heads), tag("tbody", *rows), class_="plain")
    runs = tag("div", tables.scroll(made, len(s.runs)), style="margin-top:20px")
    notes = tag("ul", *(tag("li", note) for note in s.notes), class_="notes") if s.notes else None
    foot = tag("footer", f"Made by meteor-bench {__version__}. This file needs no network and sends nothing.")
    return _part("how", index, "Enough to run it again.", notes, facts, runs, foot)


def shortened(tasks: Mapping[str, str]) -> dict[str, str]:
    """Benchmarks without the prefix that all of them have, "pocket_"."""
    names = list(tasks)
    prefix = commonprefix(names)  # noqa: RUF071 - letter by letter is what is wanted of names
    prefix = prefix[: prefix.rfind("_") + 1] if len(names) > 1 else ""
    return {name: name.removeprefix(prefix) for name in names}


def _figure(title: str, controls: Sequence[Html | None], plot: str, foot: str = "", *, legend: bool = False) -> Html:
    return tag(
        "figure",
        tag("figcaption", tag("h3", title), *controls),
        _legend() if legend else None,
        tag("div", class_="plot", data_plot=plot),
        tag("p", foot, class_="foot") if foot else None,
        class_="figure",
    )


def _legend() -> Html:
    return tag("div", class_="legend", data_legend=True, role="group", aria_label="Methods shown")


def _ratios(s: Chapter) -> Html | None:
    if not s.ratios:
        return None
    buttons = [
        tag("button", f"{100 * r:g} %", type="button", value=f"{r:g}", aria_pressed=str(r == s.middle).lower())
        for r in s.ratios
    ]
    return tag("div", *buttons, class_="segments", role="group", aria_label="Tokens removed", data_ratios=True)


def _field(label: str, kind: str, *children: Html, name: str) -> Html:
    return tag("label", label, tag(kind, *children, name=name))
