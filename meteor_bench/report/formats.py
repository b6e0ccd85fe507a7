"""Tables as terminal text, Markdown and LaTeX; frames as CSV and JSON. Used by every command that prints tables."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

import pandas as pd

from meteor_bench.report.table import Table

__all__ = ["csv", "json_rows", "latex", "markdown", "terminal"]

_NAME_WIDTH = 34
_GAP = 2


def terminal(tables: Iterable[Table], stream: IO[str], width: int | None = None) -> None:
    """Print tables; one that is too wide is continued below itself, its first column repeated.

    Args:
        width: columns; None for those of the terminal (80 where there is none).
    """
    from rich.console import Console

    console = Console(file=stream, width=width, highlight=False, markup=False)
    left_out: list[str] = []
    for table in tables:
        parts = _split(table, console.width)
        if table.detail and len(parts) > 1:
            left_out.append(table.title)
            continue
        for at, columns in enumerate(parts):
            console.print(_grid(table, columns, continued=at > 0))
        for note in table.notes:
            console.print(note)
        console.print()
    if left_out:
        names = "; ".join(left_out)
        console.print(f"Too wide for this terminal, so left out: {names}. --format markdown, latex or csv has it.")


def _split(table: Table, width: int) -> list[list[int]]:
    """Which columns go side by side: as many as fit, never the same one twice but the first."""
    widths = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]
    first = min(widths[0], _NAME_WIDTH, width // 2)
    parts: list[list[int]] = [[0]]
    used = first
    for column in range(1, len(widths)):
        if used + _GAP + widths[column] > width and len(parts[-1]) > 1:
            parts.append([0])
            used = first
        parts[-1].append(column)
        used += _GAP + widths[column]
    return parts


def _grid(table: Table, columns: Sequence[int], *, continued: bool) -> Any:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    title = f"{table.title} (continued)" if continued else table.title
    grid = RichTable(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    grid.show_edge = False
    for column in columns:
        justify: Any = "right" if column else "left"
        width = _NAME_WIDTH if column == 0 else None
        grid.add_column(table.columns[column], justify=justify, no_wrap=column > 0, overflow="fold", max_width=width)
    for i, row in enumerate(table.rows):
        if i in table.breaks:
            grid.add_section()
        grid.add_row(*(Text(row[c], style="bold") if (i, c) in table.bold else row[c] for c in columns))
    return grid


def markdown(tables: Iterable[Table]) -> str:
    """All tables as GitHub Markdown."""
    parts = []
    for table in tables:
        lines = [f"### {table.title}", "", _markdown_row(table.columns)]
        lines.append(_markdown_row(["---" if i == 0 else "---:" for i in range(len(table.columns))]))
        for i, row in enumerate(table.rows):
            lines.append(_markdown_row([f"**{c}**" if (i, j) in table.bold else c for j, c in enumerate(row)]))
        lines += ["", *(f"- {note}" for note in table.notes)] if table.notes else []
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    safe = (cell.replace("|", "\\|").replace("](", "]\\(").replace("<", "&lt;").replace("\n", " ") for cell in cells)
    return "| " + " | ".join(safe) + " |"


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
    text: str = whole.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return text


def json_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows without the cells that they do not have (NaN is no JSON), six digits as in the CSV."""
    return [
        {key: _plain(value) for key, value in row.items() if not _nothing(value)} for row in frame.to_dict("records")
    ]


def dump(document: Any) -> str:
    """JSON as it is written to files."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _plain(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
