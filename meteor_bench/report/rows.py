"""Plain rows (of `list` and `doctor`) as aligned text or JSON."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import IO, Any

from meteor_bench.utils.plain_text import visible

__all__ = ["print_rows"]


def print_rows(
    rows: Sequence[Mapping[str, Any]], stream: IO[str], *, as_json: bool = False, aside: Collection[str] = ()
) -> None:
    """Print rows with equal keys; text wraps inside the terminal's width.

    Args:
        rows: at least one; the first key names the row.
        aside: keys too long for a column, printed below the table row by row.
    """
    if as_json:
        stream.write(json.dumps(list(rows), indent=1, ensure_ascii=False) + "\n")
        return
    from rich import box
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table

    console = Console(file=stream, highlight=False, markup=False)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    columns = [key for key in rows[0] if key not in aside]
    for at, heading in enumerate(columns):
        table.add_column(heading, no_wrap=at == 0, overflow="fold")
    for row in rows:
        table.add_row(*(_text(row[key]) for key in columns))
    console.print(table)
    for row in rows if aside else ():
        console.print(_text(row[columns[0]]))
        for key in aside:
            if row[key]:
                console.print(Padding(f"{key}: {_text(row[key])}", (0, 0, 0, 2)))


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return visible(", ".join(map(str, value)))
    if isinstance(value, bool):
        return "yes" if value else ""
    return visible(str(value))
