"""What README.md says of methods and results is what the table of methods and the committed records say.

A method that is new need not stand there yet; what stands there has to be right.
"""

from __future__ import annotations

from pathlib import Path

from meteor_bench.core.registry import METHODS
from scripts.readme import BLOCKS, markers

README = Path(__file__).resolve().parents[1] / "README.md"


def _lines(name: str) -> list[str]:
    begin, end = markers(name)
    text = README.read_text(encoding="utf-8").split(begin)[1].split(end)[0]
    return text.splitlines()


def _first(line: str) -> str:
    return line.split(" | ")[0].removeprefix("| ").split(" (")[0]


def test_the_results_are_those_of_the_records() -> None:
    assert _lines("results") == BLOCKS["results"]().splitlines(), "run scripts/readme.py"
    assert {_first(line) for line in _lines("results")[2:]} - {"unpruned"} <= METHODS.rows.keys()


def test_what_is_said_of_methods_is_right() -> None:
    made = BLOCKS["methods"]().splitlines()
    assert set(_lines("methods")) <= set(made), "run scripts/readme.py"
    assert len(_lines("methods")) > 20
