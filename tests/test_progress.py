"""Away from a terminal, progress is two lines a part."""

from __future__ import annotations

import re

import pytest

from meteor_bench.progress import say, track


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with track("unpruned", 3) as update:
        update(2)
    say("[not markup] " + "x" * 100)
    out, err = capsys.readouterr()
    assert out == ""
    first, second, third = err.splitlines()
    assert first == "unpruned: 3 to do" and re.fullmatch(r"unpruned: done in \d+\.\d s", second)
    assert third == "[not markup] " + "x" * 100


def test_an_interruption_says_nothing_more(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), track("unpruned", 3):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "unpruned: 3 to do\n"
