"""Tables of plain text that fit the terminal, and lose nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meteor_bench.utils.columns import columns, folded

WORDS = st.text("abc ,=()[]", max_size=90)


@given(st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=4), st.integers(40, 120))
def test_no_line_is_too_wide_and_no_letter_is_lost(rows: list[tuple[str, ...]], width: int) -> None:
    lines = columns(rows, width)
    assert all(len(line) <= width for line in lines)
    assert sorted("".join(lines).replace(" ", "")) == sorted("".join("".join(row) for row in rows).replace(" ", ""))


def test_what_fits_stays_on_one_line() -> None:
    assert columns([("a", "bb"), ("ccc", "d")], 80) == ["a    bb", "ccc  d"]
    assert folded("one two three", 8) == ["one two", "  three"]
