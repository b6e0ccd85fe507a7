"""What README.md says of the methods is what the table of methods says."""

from __future__ import annotations

from pathlib import Path

from meteor_bench.registry import METHODS
from scripts.readme_methods import BEGIN, updated

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_table_of_methods_is_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")
    assert updated(text) == text, "run scripts/readme_methods.py"
    rows = [line.split(" | ")[0].removeprefix("| ") for line in text.split(BEGIN)[1].split("<!--")[0].splitlines()[2:]]
    assert rows == list(METHODS.rows)
