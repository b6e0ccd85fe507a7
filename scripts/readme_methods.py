"""Write README.md's table of methods from the table of methods, between its markers."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from meteor_bench import catalogue  # noqa: E402
from meteor_bench.registry import METHODS  # noqa: E402

BEGIN, END = "<!-- methods: scripts/readme_methods.py -->\n", "<!-- end of methods -->\n"
COLUMNS = ("name", "year", "stages", "needs", "trained", "budget", "positions", "paper")


def table() -> str:
    """This repository's methods as Markdown; what others have registered is theirs to document."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    for row in catalogue.methods():
        if row["name"] in METHODS.rows:
            lines.append(f"| {' | '.join(_cell(row[column]) for column in COLUMNS)} |")
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def updated(readme: str) -> str:
    """The README with the table as it is now."""
    head, rest = readme.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}{table()}{END}{tail}"


def main() -> None:
    path = ROOT / "README.md"
    part = path.with_name(".README.md.part")
    part.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    main()
