"""What README.md and docs/ say of methods and results is what the table of methods and the committed records say.

A method that is new need not stand there yet; what stands there has to be right.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from meteor_bench.core.registry import METHODS
from scripts.readme import BEST, BLOCKS, Column, markers, ranked

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"


def _lines(page: str, name: str) -> list[str]:
    begin, end = markers(name)
    text = (ROOT / page).read_text(encoding="utf-8").split(begin)[1].split(end)[0]
    return text.splitlines()


def _first(line: str) -> str:
    return line.split(" | ")[0].removeprefix("| ").split(" (")[0]


def test_the_results_are_those_of_the_records() -> None:
    lines = _lines("docs/results.md", "results")
    assert lines == BLOCKS["docs/results.md"]["results"]().splitlines(), "run scripts/readme.py"
    within = _lines("docs/choosing-a-ratio.md", "within a point")
    assert within == BLOCKS["docs/choosing-a-ratio.md"]["within a point"]().splitlines(), "run scripts/readme.py"
    assert {_first(line) for line in lines[2:]} - {"unpruned"} <= METHODS.rows.keys()
    # Head, rule, the unpruned model, and the best.
    assert _lines("README.md", "best results") == lines[: 3 + BEST], "run scripts/readme.py"


def test_further_columns_stand_beside_the_others() -> None:
    tokens, flops = (
        Column("76 %", 0.76, 97.9, {"a": 90.0, "b": 95.0}),
        Column("FLOPs", 0.5, 97.9, {"b": 80.0, "c": 70.0}),
    )
    assert ranked([flops, tokens]).splitlines()[2:] == [
        "| unpruned | 97.9 | 97.9 |",
        "| b | 80.0 | 95.0 |",
        "| a |  | 90.0 |",
        "| c | 70.0 |  |",
    ]


def test_what_is_said_of_methods_is_right() -> None:
    made = BLOCKS["docs/methods.md"]["methods"]().splitlines()
    lines = _lines("docs/methods.md", "methods")
    assert set(lines) <= set(made), "run scripts/readme.py"
    assert len(lines) > 20


def test_the_links_lead_to_the_methods_where_they_prune() -> None:
    link = re.compile(r"\[[^]]+\]\(docs/methods/[^)]+\)")
    made = {_first(line): set(link.findall(line)) for line in BLOCKS["README.md"]["method links"]().splitlines()}
    shown = {_first(line): set(link.findall(line)) for line in _lines("README.md", "method links")}
    assert all(links <= made[place] for place, links in shown.items()), "run scripts/readme.py"
    assert sum(map(len, shown.values())) > 20


def test_it_is_one_page_with_a_picture() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    (picture,) = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert (ROOT / picture).stat().st_size < 300_000
    assert re.search(rf"^meteor-bench show .* --out {re.escape(picture)}$", text, re.M)


@pytest.mark.parametrize("page", BLOCKS)
def test_each_table_stands_in_its_page_once(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert all(text.count(mark) == 1 for name in BLOCKS[page] for mark in markers(name))
