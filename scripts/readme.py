"""Write the tables of README.md that are made from something else: the methods, and the reference results.

`python scripts/readme.py` rewrites what stands between their markers; `tests/test_readme.py` says when that is due.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from meteor_bench.core.registry import METHODS  # noqa: E402
from meteor_bench.report import listing  # noqa: E402
from meteor_bench.report.accuracy import accuracy  # noqa: E402
from meteor_bench.report.runs import Cell, load  # noqa: E402
from meteor_bench.report.sections import sections  # noqa: E402
from meteor_bench.utils.atomic_io import write_whole  # noqa: E402

REFERENCE = ROOT / "results" / "reference" / "pocket"
COLUMNS = ("name", "year", "stages", "needs", "trained", "budget", "positions", "paper")


def methods() -> str:
    """This repository's methods as Markdown; what others have registered is theirs to document."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    for row in listing.methods():
        if row["name"] in METHODS.rows:
            lines.append(f"| {' | '.join(_cell(row[column]) for column in COLUMNS)} |")
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def results() -> str:
    """Mean accuracy of every method of the reference at each ratio, best at the middle one first."""
    (section,) = sections(load(REFERENCE))
    frame = accuracy(section)
    means = frame[(frame["kind"] == "average") & (frame["name"] == "average")].set_index("row")["score"]
    unpruned = 0.0
    found: dict[str, dict[float, float]] = {}
    for row, cell in enumerate(section.cells):
        if cell.pruned:
            found.setdefault(_name(cell), {})[cell.ratio] = means[row]
        else:
            unpruned = means[row]
    ratios = sorted({ratio for row in found.values() for ratio in row})
    middle = ratios[len(ratios) // 2]
    lines = [
        f"| visual tokens removed | {' | '.join(f'{100 * ratio:g} %' for ratio in ratios)} |",
        f"| --- |{' ---: |' * len(ratios)}",
        f"| unpruned | {' | '.join([f'{unpruned:.1f}'] * len(ratios))} |",
    ]
    for name, row in sorted(found.items(), key=lambda item: -item[1].get(middle, 0)):
        lines.append(f"| {name} | {' | '.join(f'{row[r]:.1f}' if r in row else '' for r in ratios)} |")
    return "\n".join(lines) + "\n"


def _name(cell: Cell) -> str:
    seeds = f" (mean of {len(cell.runs)} seeds)" if len(cell.runs) > 1 else ""
    return f"{cell.label}{seeds}"


BLOCKS: dict[str, Callable[[], str]] = {"methods": methods, "results": results}


def markers(name: str) -> tuple[str, str]:
    """What stands before and after a generated table."""
    return f"<!-- {name}: scripts/readme.py -->\n", f"<!-- end of {name} -->\n"


def updated(readme: str) -> str:
    """The README with its tables as they are now."""
    for name, table in BLOCKS.items():
        begin, end = markers(name)
        head, rest = readme.split(begin)
        _, tail = rest.split(end)
        readme = f"{head}{begin}{table()}{end}{tail}"
    return readme


def main() -> None:
    path = ROOT / "README.md"
    write_whole(path, updated(path.read_text(encoding="utf-8")).encode())


if __name__ == "__main__":
    main()
