"""Away from a terminal, progress is two lines a part; on one, bars that leave nothing behind but what was said."""

from __future__ import annotations

import io
import re
import sys
from time import sleep

import pytest

from meteor_bench.utils import progress
from meteor_bench.utils.progress import detail, duration, overall, quiet, say, track, warn


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


def test_what_an_earlier_run_did_is_not_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with track("unpruned", 200, 62):
        pass
    assert capsys.readouterr().err.splitlines()[0] == "unpruned: 62 known, 138 to do"


def test_of_many_runs_only_what_is_said_of_each_remains(capsys: pytest.CaptureFixture[str]) -> None:
    with overall("sweep", 2) as update:
        detail("loading")
        with track("unpruned", 3) as part:
            part(3)
        say("[1/2] unpruned")
        update(1, "about 3 s left")
    detail("heard again")
    assert capsys.readouterr().err.splitlines() == ["sweep: 2 to do", "[1/2] unpruned", "heard again"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_runs_and_the_part_at_work_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    with overall("sweep", 2) as update:
        with track("fastv at ratio 0.5", 3) as part:
            part(2)
        say("[1/2] done")
        update(1, "about 100 min left")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    assert "fastv at ratio 0.5" in shown and "3" in shown and "[1/2] done\n" in shown
    assert re.search(r"sweep.* 1/2 .*about 100 min left", shown), "all of it fits"


def test_a_bar_begins_at_what_is_known_and_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    with track("unpruned", 200, 62) as update:
        update(5)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    assert "unpruned: 62 known, 138 to do\n" in shown
    assert set(re.findall(r"(\d+)/200", shown)) == {"62"}


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.2, "3 s"), (99, "99 s"), (100, "2 min"), (5900, "98 min"), (7200, "2.0 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_bar_of_questions_says_their_speed_within_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    with track("meteor at ratio 0.889", 3600, 62, "questions") as update:
        later = progress.perf_counter() + 10
        monkeypatch.setattr(progress, "perf_counter", lambda: later)
        update(2062)
        sleep(0.3)  # the screen is drawn ten times a second
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    (speed,) = set(re.findall(r" 2062/3600 [^\r\n]* (\d+\.\d) questions/s", shown))
    assert float(speed) == pytest.approx(200, rel=0.1), "what was known says nothing of it"
    assert max(map(len, re.split(r"[\r\n]", shown))) <= 80


def test_in_quiet_only_what_went_wrong_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet(), overall("sweep", 2) as update:
        say("of no interest")
        with track("unpruned", 3, unit="questions") as part:
            part(3)
        update(1, "")
        warn("failed: it")
    say("heard again")
    assert capsys.readouterr().err.splitlines() == ["failed: it", "heard again"]
