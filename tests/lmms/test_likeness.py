"""The likeness of two answers, by hand: one less edits by letters, nothing below a half."""

from __future__ import annotations

import pytest

from meteor_bench.lmms.likeness import anls

pytestmark = pytest.mark.xdist_group("lmms_eval")


@pytest.mark.parametrize(
    ("answer", "other", "likeness"),
    [
        ("a red car", "a red cat", 8 / 9),
        (" A  red car", "a red car", 1),
        ("car", "dog", 0),
        ("abcd", "abxy", 0.5),
        ("abc", "axy", 0),
        ("", "", 1),
        ("", "dog", 0),
    ],
)
def test_likeness(answer: str, other: str, likeness: float) -> None:
    assert anls(answer, other) == pytest.approx(likeness)
