"""Write the tables of README.md and docs/ that are made from something else: the methods, and the reference results.

`python scripts/readme.py` rewrites what stands between their markers; `tests/test_readme.py` says when that is due.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from meteor_bench.core.registry import METHODS  # noqa: E402
from meteor_bench.report import listing  # noqa: E402
from meteor_bench.report.accuracy import accuracy  # noqa: E402
from meteor_bench.report.runs import Cell, load  # noqa: E402
from meteor_bench.report.sections import Section, sections  # noqa: E402
from meteor_bench.report.standing import of_section  # noqa: E402
from meteor_bench.utils.atomic_io import write_whole  # noqa: E402
from scripts.method_pages import page_name  # noqa: E402
from scripts.reference_pocket import ADDED  # noqa: E402

REFERENCE = ROOT / "results" / "reference" / "pocket"
FLOPS = ROOT / "results" / "reference" / "pocket-flops"
BEST = 6  # rows of README.md
# Stages of a method -> what README.md calls its place; any other combination is "at several places".
PLACES = {
    ("encode",): "in the encoders or at their output",
    ("fuse",): "before the language model",
    ("decode",): "inside the language model",
}
COLUMNS = ("name", "year", "stages", "needs", "trained", "budget", "positions", "paper")


def methods() -> str:
    """This repository's methods as Markdown, each with its page; what others have registered is theirs to document."""
    rows = [
        [f"[{row['name']}](methods/{page_name(row['name'])})", *(_cell(row[column]) for column in COLUMNS[1:])]
        for row in _ours()
    ]
    return _table(COLUMNS, ["---"] * len(COLUMNS), rows)


def method_links() -> str:
    """The same methods by the place where they prune, as links to their pages."""
    found: dict[str, list[str]] = {place: [] for place in [*PLACES.values(), "at several places", "controls"]}
    for row in _ours():
        several = PLACES.get(tuple(row["stages"]), "at several places")
        place = "controls" if row["paper"] == "control" else several
        found[place].append(f"[{row['name']}](docs/methods/{page_name(row['name'])})")
    return _table(
        ["where it prunes", "methods"], ["---"] * 2, [[place, ", ".join(them)] for place, them in found.items()]
    )


def _ours() -> list[dict[str, Any]]:
    return [row for row in listing.methods() if row["name"] in METHODS.rows]


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(head: Iterable[str], rules: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [head, rules, *rows])


@dataclass(frozen=True)
class Column:
    """A column of the tables of results: a folder of records, a ratio, and mean accuracies in it.

    Attributes:
        unpruned: of the model without a method.
        found: method -> accuracy; a method that is not there has an empty cell.
    """

    title: str
    ratio: float
    unpruned: float
    found: dict[str, float]


@cache
def _section(folder: Path) -> Section:
    """The one section of a reference's records, of which several tables are made."""
    (section,) = sections(load(folder))
    return section


def columns(folder: Path = REFERENCE, title: str = "{:g} %") -> list[Column]:
    """A column for each ratio of a folder of records, and of what was run later than it.

    Args:
        title: what stands above a column, with its ratio in per cent.

    Raises:
        SystemExit: the unpruned model's accuracy is not the same in all.
    """
    unpruned: set[float] = set()
    found: dict[float, dict[str, float]] = {}
    later = [ROOT / one for one in ADDED[folder.relative_to(ROOT)]]
    for section in map(_section, (folder, *(one for one in later if one.exists()))):
        frame = accuracy(section)
        means = frame[(frame["kind"] == "average") & (frame["name"] == "average")].set_index("row")["score"]
        for row, cell in enumerate(section.cells):
            if cell.pruned:
                found.setdefault(cell.ratio, {})[_name(cell)] = means[row]
            else:
                unpruned.add(means[row])
    if len(unpruned) > 1:
        raise SystemExit(f"{folder} and what was run later differ in their unpruned model; run `make tables`")
    (whole,) = unpruned
    return [Column(title.format(100 * ratio), ratio, whole, found[ratio]) for ratio in sorted(found)]


def _name(cell: Cell) -> str:
    seeds = f" (mean of {len(cell.runs)} seeds)" if len(cell.runs) > 1 else ""
    return f"{cell.label}{seeds}"


def results() -> str:
    """Mean accuracy of every method of the reference at each ratio, best at the middle one first."""
    return ranked(columns())


def best_results() -> str:
    """Its first rows."""
    return ranked(columns(), BEST)


def at_equal_flops() -> str:
    """The same of the records at matched FLOPs."""
    return ranked(columns(FLOPS), head="FLOPs to the first token removed")


def best_at_equal_flops() -> str:
    """Its first rows."""
    return ranked(columns(FLOPS), BEST, head="FLOPs to the first token removed")


def ranked(shown: list[Column], most: int | None = None, head: str = "visual tokens removed") -> str:
    """Methods by their accuracy in the middle column, with the unpruned model above them."""
    middle = shown[len(shown) // 2].found
    names = sorted({name for column in shown for name in column.found}, key=lambda name: (-middle.get(name, 0), name))
    rows = [
        ["unpruned", *(f"{column.unpruned:.1f}" for column in shown)],
        *([name, *(f"{c.found[name]:.1f}" if name in c.found else "" for c in shown)] for name in names[:most]),
    ]
    return _table([head, *(column.title for column in shown)], ["---", *["---:"] * len(shown)], rows)


def within_a_point() -> str:
    """Of the records at equal tokens and of those at equal FLOPs the three that lose least, and whether that is enough.

    Enough is what `choose --max-drop 1` calls so: the upper end of the 95 % interval of the drop is at most 1 point.
    """
    rows = []
    for folder, of in ((REFERENCE, "tokens"), (FLOPS, "FLOPs")):
        section = _section(folder)
        pruned = [one for one, cell in zip(of_section(section), section.cells, strict=True) if cell.unpruned]
        for one in sorted(pruned, key=lambda one: one.drop)[:3]:
            within = "yes" if -one.low <= 1 else "no"
            interval = f"{-one.high:.2f} to {-one.low:.2f}"
            share = f"{100 * one.flops / one.unpruned_flops:.0f} %"
            rows.append([one.method, f"{one.ratio:g} of {of}", f"{one.drop:.2f}", interval, share, within])
    head = ["method", "removed", "points lost", "95 % interval", "FLOPs left", "at most 1 point"]
    return _table(head, ["---", "---", "---:", "---:", "---:", "---"], rows)


# File -> what stands in it -> what makes that.
BLOCKS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {
        "best results": best_results,
        "best at equal FLOPs": best_at_equal_flops,
        "method links": method_links,
    },
    "docs/results.md": {"results": results, "results at equal FLOPs": at_equal_flops},
    "docs/methods.md": {"methods": methods},
    "docs/choosing-a-ratio.md": {"within a point": within_a_point},
}


def markers(name: str) -> tuple[str, str]:
    """What stands before and after a generated table."""
    return f"<!-- {name}: scripts/readme.py -->\n", f"<!-- end of {name} -->\n"


def updated(text: str, blocks: dict[str, Callable[[], str]]) -> str:
    """A page with its tables as they are now."""
    for name, table in blocks.items():
        begin, end = markers(name)
        head, rest = text.split(begin)
        _, tail = rest.split(end)
        text = f"{head}{begin}{table()}{end}{tail}"
    return text


def main() -> None:
    for page, blocks in BLOCKS.items():
        path = ROOT / page
        write_whole(path, updated(path.read_text(encoding="utf-8"), blocks).encode())


if __name__ == "__main__":
    main()
