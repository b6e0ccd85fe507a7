"""What README.md says of methods and results is what the table of methods and the committed records say."""

from __future__ import annotations

from pathlib import Path

from meteor_bench.core.registry import METHODS
from scripts.readme import markers, updated

README = Path(__file__).resolve().parents[1] / "README.md"


def _first_column(text: str, name: str) -> list[str]:
    begin, end = markers(name)
    return [line.split(" | ")[0].removeprefix("| ") for line in text.split(begin)[1].split(end)[0].splitlines()[2:]]


def test_the_tables_are_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")
    assert updated(text) == text, "run scripts/readme.py"
    assert _first_column(text, "methods") == list(METHODS.rows)


def test_every_method_has_a_result() -> None:
    rows = {name.split(" (")[0] for name in _first_column(README.read_text(encoding="utf-8"), "results")}
    assert rows == METHODS.rows.keys() - {"none"} | {"unpruned"}
