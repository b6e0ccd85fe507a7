"""Tables as terminal text, Markdown and LaTeX; frames as CSV and JSON. Used by every command that prints tables."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import IO, Any

import pandas as pd

from meteor_bench.report.table import Table
from meteor_bench.utils.plain_text import csv_value, visible

__all__ = ["csv", "dump", "json_rows", "json_values", "latex", "markdown", "paragraphs", "terminal"]

_NAME_WIDTH = 34
_GAP = 2


def terminal(tables: Iterable[Table], stream: IO[str], width: int | None = None) -> None:
    """Print tables; one that is too wide is continued below itself, its first column repeated.

    Args:
        width: columns; None for those of the terminal (80 where there is none).
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, width=width, highlight=False, markup=False)
    left_out: list[str] = []
    for given in map(_printable, tables):
        forms = ((form, _split(form, console.width)) for form in (given, _stacked(given)))
        table, parts = min(forms, key=lambda form: len(form[1]))
        if table.detail and len(parts) > 1:
            left_out.append(table.title)
            continue
        for at, columns in enumerate(parts):
            console.print(Text(f"{table.title} (continued)" if at else table.title, style="italic"))
            console.print(_grid(table, columns, console.width), soft_wrap=True)
        for note in table.notes:
            console.print(note)
        console.print()
    if left_out:
        names = "; ".join(left_out)
        console.print(f"Too wide for this terminal, so left out: {names}. --format markdown, latex or csv has it.")


def _printable(table: Table) -> Table:
    """The same without what a terminal would obey: names come from files that others wrote."""
    return replace(
        table,
        title=visible(table.title),
        columns=[visible(heading) for heading in table.columns],
        rows=[[visible(text) for text in row] for row in table.rows],
        notes=[visible(note) for note in table.notes],
    )


def _stacked(table: Table) -> Table:
    """The same with the words of wide headings below each other."""
    heads = []
    for heading, *cells in zip(table.columns, *table.rows, strict=True):
        wide = len(heading) > max(map(len, cells), default=0)
        heads.append(heading.replace(" ", "\n") if wide else heading)
    return replace(table, columns=heads)


def _split(table: Table, width: int) -> list[list[int]]:
    """Which columns go side by side: as many as fit, never the same one twice but the first."""
    first, *widths = _widths(table, width)
    parts: list[list[int]] = [[0]]
    used = first
    for column, wanted in enumerate(widths, start=1):
        if used + _GAP + wanted > width and len(parts[-1]) > 1:
            parts.append([0])
            used = first
        parts[-1].append(column)
        used += _GAP + wanted
    return parts


def _widths(table: Table, width: int) -> list[int]:
    """Letters of each column; the first folds names that are very long."""
    columns = ((*heading.split("\n"), *cells) for heading, *cells in zip(table.columns, *table.rows, strict=True))
    first, *others = (max(map(len, column)) for column in columns)
    return [min(first, _NAME_WIDTH, width // 2), *others]


def _grid(table: Table, columns: Sequence[int], width: int) -> Any:
    """Some columns as one text: rich's own table takes ten times as long, which eighty rows let one wait for."""
    from rich.text import Text

    widths = _widths(table, width)
    grid = Text(no_wrap=True)

    def add(cells: Sequence[str], bold: Collection[int] = ()) -> None:
        for column, cell in zip(columns, cells, strict=True):
            placed = cell.rjust(widths[column] + _GAP) if column else cell.ljust(widths[0])
            grid.append(placed, "bold" if column in bold else None)
        grid.append("\n")

    heads = [table.columns[column].split("\n") for column in columns]
    height = max(map(len, heads))
    for line in zip(*([""] * (height - len(head)) + head for head in heads), strict=True):
        add(line, columns)
    grid.append("─" * (sum(widths[column] + _GAP for column in columns) - _GAP) + "\n")
    for i, row in enumerate(table.rows):
        if i in table.breaks:
            grid.append("\n")
        name, *folded = [row[0][at : at + widths[0]] for at in range(0, len(row[0]), widths[0])] or [""]
        add([name, *(row[column] for column in columns[1:])], {j for r, j in table.bold if r == i})
        for rest in folded:
            grid.append(f"{rest}\n")
    grid.rstrip()
    return grid


def markdown(tables: Iterable[Table]) -> str:
    """All tables as GitHub Markdown."""
    parts = []
    for table in tables:
        lines = [f"### {_markdown_text(table.title)}", "", _markdown_row(table.columns)]
        lines.append(_markdown_row(["---" if i == 0 else "---:" for i in range(len(table.columns))]))
        for i, row in enumerate(table.rows):
            lines.append(_markdown_row([f"**{c}**" if (i, j) in table.bold else c for j, c in enumerate(row)]))
        lines += ["", *(f"- {_markdown_text(note)}" for note in table.notes)] if table.notes else []
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def paragraphs(sentences: Iterable[str]) -> str:
    """Sentences as Markdown, a paragraph each, to stand above tables."""
    return "".join(f"{_markdown_text(sentence)}\n\n" for sentence in sentences)


def _markdown_row(cells: Sequence[str]) -> str:
    safe = (_markdown_text(text).replace("|", "\\|") for text in cells)
    return "| " + " | ".join(safe) + " |"


def _markdown_text(text: str) -> str:
    """On one line, without links, pictures and tags; emphasis in names harms nobody."""
    return visible(" ".join(text.splitlines())).replace("](", "]\\(").replace("<", "&lt;")


def latex(tables: Iterable[Table]) -> str:
    """All tables as LaTeX for the package booktabs, in UTF-8."""
    parts = ["% \\usepackage{booktabs}, \\usepackage{graphicx} for \\resizebox"]
    for table in tables:
        lines = ["\\begin{table}", "\\centering", f"\\caption{{{_tex(table.title)}}}"]
        lines += ["\\resizebox{\\textwidth}{!}{%"] * table.detail
        lines += [f"\\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}", "\\toprule", _latex_row(table.columns)]
        lines.append("\\midrule")
        for i, row in enumerate(table.rows):
            lines += ["\\midrule"] * (i in table.breaks and i > 0)
            lines.append(_latex_row(row, [(i, j) in table.bold for j in range(len(row))]))
        lines += ["\\bottomrule", "\\end{tabular}" + "}" * table.detail]
        lines += [f"\\par\\footnotesize {_tex(note)}" for note in table.notes]
        parts.append("\n".join([*lines, "\\end{table}"]))
    return "\n\n".join(parts) + "\n"


def _latex_row(cells: Sequence[str], bold: Sequence[bool] = ()) -> str:
    texts = [_tex(cell) for cell in cells]
    shown = [f"\\textbf{{{t}}}" if b else t for t, b in zip(texts, bold or [False] * len(texts), strict=True)]
    # After the end of a row, or a rule, TeX would take a bracket or a star for its argument.
    return "{}" * shown[0].startswith(("[", "*")) + " & ".join(shown) + " \\\\"


_TEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "|": "\\textbar{}",
    "±": "$\\pm$",
    "−": "$-$",
    "→": "$\\to$",
    "≤": "$\\leq$",
    "≥": "$\\geq$",
    "²": "$^2$",
    "°": "$^\\circ$",
    "§": "\\S{}",
    "×": "$\\times$",
    "<": "$<$",
    ">": "$>$",
    "†": "\\dag{}",
    "‡": "\\ddag{}",
    "–": "--",
}


def _tex(text: str) -> str:
    escaped = "".join(_TEX.get(character, character) for character in text)
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", escaped)  # a minus, not a hyphen


def csv(frames: Mapping[str, pd.DataFrame], keys: Sequence[str]) -> str:
    """Frames below each other, a line for each of their rows; a column that a frame does not have is empty.

    Args:
        frames: name (column "table") -> rows.
        keys: columns that stand first, after "table".
    """
    parts = [frame.assign(table=name) for name, frame in frames.items() if not frame.empty]
    if not parts:
        return "table\n"
    whole = pd.concat(parts, ignore_index=True)
    first = ["table", *(key for key in keys if key in whole)]
    whole = whole[[*first, *(column for column in whole.columns if column not in first)]]
    for column in whole.columns:
        if not pd.api.types.is_numeric_dtype(whole[column]):
            whole[column] = whole[column].map(csv_value)
    text: str = whole.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return text


def json_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows without the cells that they do not have (NaN is no JSON), six digits as in the CSV."""
    return [json_values(row) for row in frame.to_dict("records")]


def json_values(row: Mapping[Any, Any]) -> dict[str, Any]:
    """One row of them."""
    return {key: _plain(value) for key, value in row.items() if not _nothing(value)}


def dump(document: Any) -> str:
    """JSON as it is written to files."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _plain(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
