"""The pages of the methods say what docstrings and fields say.

A method that is new need not have its page yet; what stands there has to be right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import pytest

from meteor_bench.core.pruner import Fact, Pruner
from meteor_bench.core.settings import Range, Share
from scripts import method_pages

PAGES = sorted(method_pages.FOLDER.glob("*.md"))


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return method_pages.pages()


def test_what_stands_there_is_right(made: dict[str, str]) -> None:
    assert len(PAGES) > 20
    for path in PAGES:
        assert path.read_text(encoding="utf-8") == made[path.name], "run scripts/method_pages.py"


@dataclass(frozen=True)
class Sample(Pruner):
    """A method.

    Attributes:
        share, rest: parts of a whole,
            or of a|b.
        kind: one of two.
    """

    share: Share = 0.25
    rest: Annotated[float, Range(above=1)] = 2.0
    kind: Literal["a", "b"] = "a"
    layer: Annotated[int, Range(least=1)] | None = None
    on: bool = True
    pair: tuple[float, ...] = (0.5, 1.0)

    fact: ClassVar[Fact] = Fact(year=2026, paper="control")


def test_parameters_have_defaults_ranges_and_words() -> None:
    rows = method_pages._parameters(Sample).splitlines()[4:]
    assert rows == [
        "| `share` | 0.25 | a number in [0, 1] | parts of a whole, or of a\\|b. |",
        "| `rest` | 2 | a number above 1 | parts of a whole, or of a\\|b. |",
        "| `kind` | a | a, b | one of two. |",
        "| `layer` | none | a whole number 1 or more or none |  |",
        "| `on` | true | true, false |  |",
        "| `pair` | 0.5, 1 | a list of a number |  |",
    ]
    assert method_pages._parameters(Pruner) == "It has none."


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("It ranks.\n\nDeviations: none known.", ("It ranks.", "None known.")),
        ("It ranks.\n\nDeviations (code is public):\n\n- One.", ("It ranks.", "Code is public:\n\n- One.")),
        ("It ranks.\n\nDeviations. No code.\n\n1. One.", ("It ranks.", "No code.\n\n1. One.")),
        ("It ranks by deviations.", ("It ranks by deviations.", "")),
    ],
)
def test_a_docstring_is_taken_apart_at_its_deviations(text: str, parts: tuple[str, str]) -> None:
    assert method_pages._split(text) == parts


def test_nothing_becomes_a_tag() -> None:
    assert method_pages._plain("a <b> and `<c>`") == "a &lt;b> and `<c>`"
