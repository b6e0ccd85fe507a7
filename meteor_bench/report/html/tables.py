"""The three tables of a section as HTML: sortable, the settings in a column that stays in view."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from meteor_bench.core.match import MEASURES, OF, WORDS, Measure, of_ratio
from meteor_bench.report import table as text
from meteor_bench.report.accuracy import METEOR_AVERAGE
from meteor_bench.report.html.data import Setting
from meteor_bench.report.html.markup import Html, counted, tag
from meteor_bench.report.statistics import FEW

__all__ = ["accuracy", "latency", "numbers", "printed", "scroll", "tokens", "warmth"]

# Rows above which a table gets a window of its own, its head always in sight. They fill the window, which has the same
# height whatever is in it (style.css).
TALL = 30
# Steps of warmth of a cell, each a class.
WARMEST = 20


class Column(NamedTuple):
    """A column of numbers.

    Attributes:
        cell: setting -> its cell.
        starts: whether a group of columns starts here.
    """

    title: str
    hint: str
    cell: Callable[[Setting], Html]
    starts: bool = False


def numbers(value: float | None, digits: int = 1, *, signed: bool = False) -> str:
    """A number as people write it, with a true minus."""
    return (text.signed if signed else text.fixed)(value, digits).replace("-", "−")


def accuracy(
    settings: Sequence[Setting], colours: Mapping[str, str], columns: Sequence[tuple[str, str, bool]], name: str
) -> Html:
    """Scores and, behind a switch, differences to the unpruned model.

    Args:
        columns: (row of the accuracy table, its heading, whether a group starts there).
        name: id of the table.
    """

    def scored(key: str, starts: bool) -> Callable[[Setting], Html]:
        return lambda s: _score_cell(s, key, starts)

    made = [Column(title, _HINTS.get(key, key), scored(key, starts), starts) for key, title, starts in columns]
    return _table(settings, colours, made, name, "score")


_HINTS = {
    "average": "mean of all benchmarks",
    "METEOR average": METEOR_AVERAGE,
}


def _score_cell(s: Setting, key: str, starts: bool) -> Html:
    """One element with one number; the script puts the difference, which lies beside it, in the number's place.

    An element for each of the two would treble what a browser builds before it shows a page of many methods.
    """
    row = s.scores.get(key)
    look = ["group-start"] if starts else []
    if row is None:
        return tag("td", text.MISSING, data_v="", class_=" ".join(look) or None)
    look += ["best"] if row["best"] else []
    interval = _interval(row)
    if "sd" in row:
        interval += f", ± {numbers(row['sd'])} over {len(s.seeds)} seeds"
    difference, half = text.MISSING, None
    if "difference" in row:
        difference = numbers(row["difference"], signed=True)
        interval += f"; unpruned {numbers(row['unpruned'])}, difference {difference}"
        within = True
        if "difference_low" in row:
            low, high = row["difference_low"], row["difference_high"]
            within, half = low <= 0 <= high, numbers(high - row["difference"])
            interval += f" ({numbers(low, signed=True)} to {numbers(high, signed=True)})"
        interval += f", {row['gained']:.0f} questions gained, {row['lost']:.0f} lost"
        # By class: cells that look alike share what the browser works out for them, inline styles are worked out each.
        loss = round(WARMEST * min(1.0, max(0.0, -row["difference"] / 50)))
        look += [*(["within"] if within else []), *(["heat", f"l{loss}"] if loss else [])]
    return tag(
        "td",
        numbers(row["score"]),
        data_v=row["score"],
        data_difference=difference,
        data_half=half,
        class_=" ".join(look) or None,
        title=interval,
    )


def warmth() -> str:
    """What the steps of warmth mean, for the style sheet."""
    return "".join(f".l{step}{{--loss:{step / WARMEST:g}}}" for step in range(1, WARMEST + 1))


def _interval(row: Mapping[str, Any]) -> str:
    """A single image gives no interval, and few give one that may be too narrow."""
    about = f"{counted(row['n'], 'question')} on {counted(row['images'], 'image')}"
    if "low" not in row:
        return f"no interval, {about}"
    few = row["images"] < FEW and row["kind"] == "benchmark"
    doubt = ", too few to trust it" if few else ""
    return f"95 % interval {numbers(row['low'])} to {numbers(row['high'])}, {about}{doubt}"


def tokens(settings: Sequence[Setting], colours: Mapping[str, str], towers: Sequence[str]) -> Html:
    """Visual tokens along their way, with a bar that shows each number's share of the column's largest."""
    rows = [*((f"encoder {t}", t, "tokens that leave this encoder") for t in towers), *_TOKEN_COLUMNS]
    most = {key: max((s.tokens.get(key, 0.0) for s in settings), default=0.0) for key, _, _ in rows}

    def counted(key: str) -> Callable[[Setting], Html]:
        return lambda s: _token_cell(s, key, most[key])

    columns = [Column(title, hint, counted(key), key == "fused") for key, title, hint in rows]
    columns.append(
        Column("asked for", "share to be removed, of what is named", lambda s: _ratio(s, "requested ratio"), True)
    )
    columns.append(Column("removed", "share that was, after the last prune", lambda s: _ratio(s, "realised ratio")))
    for measure in MEASURES[1:]:
        columns.append(Column(f"of {OF[measure]}", f"share removed: {WORDS[measure]}", _removed(measure)))
    columns.append(Column("missed", "questions whose final count is not the budget's", _missed))
    return _table(settings, colours, columns)


_TOKEN_COLUMNS = (
    ("fused", "after fusion", "tokens after fusion"),
    ("llm input", "LLM input", "tokens at the language model's first layer"),
    ("final", "after last prune", "tokens after the last pruning point; the ratio is measured here"),
    ("layer mean", "layer mean", "mean over the language model's layers"),
    ("kv mean", "KV mean", "mean over the layers' key/value caches"),
)


def _token_cell(s: Setting, key: str, most: float) -> Html:
    value = s.tokens.get(key)
    starts = "group-start" if key == "fused" else None
    if value is None:
        return tag("td", text.MISSING, data_v="", class_=starts)
    part = value / most if most else 0.0
    bar = tag("span", numbers(value).removesuffix(".0"), class_="inline-bar", style=f"--part:{part:.3f}")
    low, high = s.spread.get(key, (value, value))
    return tag("td", bar, data_v=value, class_=starts, title=f"{low:g} to {high:g} on single questions")


def _removed(measure: Measure) -> Callable[[Setting], Html]:
    return lambda s: _ratio(s, f"removed {measure}")


def _ratio(s: Setting, key: str) -> Html:
    value = s.tokens.get(key)
    starts = "group-start" if key.startswith("requested") else None
    if value is None or not s.pruned:
        return tag("td", text.MISSING, data_v="", class_=starts)
    of = of_ratio(s.match) if key.startswith("requested") else ""
    return tag("td", f"{100 * value:.2f} %{of}", data_v=value, class_=starts)


def _missed(s: Setting) -> Html:
    value = s.tokens.get("missed")
    if value is None or not s.pruned:
        return tag("td", text.MISSING, data_v="")
    if s.exact:
        return tag("td", f"{value:.0f}", data_v=value)
    return tag("td", "adaptive", data_v=value, class_="noise", title="met on average, as published")


def latency(settings: Sequence[Setting], colours: Mapping[str, str]) -> Html:
    """Medians at batch 1, and the speed-up over the unpruned model timed in the same process."""
    known = [column for column in _TIME_COLUMNS if any(column[1] in getattr(s, column[0]) for s in settings)]

    def timed(table: str, key: str, digits: int) -> Callable[[Setting], Html]:
        return lambda s: _time_cell(getattr(s, table).get(key), digits)

    columns = [Column(title, hint, timed(table, key, digits)) for table, key, title, hint, digits in known]
    columns.append(Column("speed-up", "end to end, against the unpruned model timed in turn with it", _speedup, True))
    return _table(settings, colours, columns)


_TIME_COLUMNS = (
    ("ms", "preprocess", "preprocess", "ms, median", 2),
    ("ms", "encode", "encode", "ms, median, all encoders", 2),
    ("ms", "fuse", "fuse", "ms, median", 2),
    ("ms", "prune", "prune", "ms, median: choosing and removing tokens", 2),
    ("ms", "prefill", "prefill", "ms, median", 2),
    ("ms", "ttft", "first token", "ms to the first token, median", 1),
    ("ms", "decode per token", "per token", "ms for each further token, median", 2),
    ("ms", "end to end", "end to end", "ms, median; hover for the 90th percentile", 1),
    ("gflops", "to first token", "GFLOPs ‡", "to the first token; inferred from closed forms", 2),
)


def _time_cell(row: Mapping[str, Any] | None, digits: int) -> Html:
    if row is None:
        return tag("td", text.MISSING, data_v="")
    hint = f"median of {row['n']}; 90th percentile {numbers(row['p90'], digits)}"
    if "iqr" in row:
        hint += f", the middle half spans {row['iqr']:.0%} of the median"
    return tag("td", numbers(row["p50"], digits), data_v=row["p50"], title=hint)


def _speedup(s: Setting) -> Html:
    value = s.ms.get("end to end", {}).get("speedup")
    if value is None:
        return tag("td", text.MISSING, data_v="", class_="group-start")
    return tag("td", f"{value:.2f}×", data_v=value, class_="group-start")


def _table(
    settings: Sequence[Setting],
    colours: Mapping[str, str],
    columns: Sequence[Column],
    name: str | None = None,
    show: str | None = None,
) -> Html:
    head = [tag("th", tag("button", "setting", type="button"), scope="col", data_kind="text")]
    head += [
        tag(
            "th",
            tag("button", column.title, type="button", title=column.hint),
            scope="col",
            data_kind="number",
            class_="group-start" if column.starts else None,
        )
        for column in columns
    ]
    rows = []
    for s in settings:
        colour = f"--dot:var(--{colours[s.label]})"
        at = f"{100 * s.ratio:g}\N{NO-BREAK SPACE}%{of_ratio(s.match)}"
        ratio = tag("span", at, class_="at") if s.pruned else None
        title = f"{s.model}, {len(s.seeds)} seeds" if len(s.seeds) > 1 else s.model
        first = tag("th", s.label, ratio, scope="row", data_v=s.name, title=title)
        cells = "".join(column.cell(s) for column in columns)
        rows.append(tag("tr", first, Html(cells), class_=None if s.pruned else "baseline", style=colour))
    body = tag("tbody", *rows)
    made = tag("table", tag("thead", tag("tr", *head)), body, id=name, data_show=show)
    return scroll(made, len(settings))


def scroll(table: Html, rows: int) -> Html:
    """A table in a box that scrolls sideways, and down where there are many rows."""
    return tag("div", table, class_="scroll tall" if rows > TALL else "scroll", tabindex="0")


class Printed(NamedTuple):
    """A table and the notes below it."""

    table: Html
    notes: Html


def printed(table: text.Table) -> Printed:
    """A table as the other formats print it, and its notes."""
    head = tag("tr", *(tag("th", tag("span", name), scope="col") for name in table.columns))
    rows = (
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            *(tag("td", cell) for cell in row[1:]),
            class_="starts" if i in table.breaks else None,
        )
        for i, row in enumerate(table.rows)
    )
    made = tag("table", tag("thead", head), tag("tbody", *rows), class_="paper")
    notes = tag("ul", *(tag("li", note) for note in table.notes), class_="notes small")
    return Printed(scroll(made, len(table.rows)), notes)
