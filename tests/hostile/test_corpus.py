"""Everything in the corpus is met with one line, or answered where that is right; nothing hangs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
import torch  # noqa: F401  # before the clock of the first case that needs it

from tests.hostile.case import Case, outcome
from tests.hostile.corpus import cases

KINDS: dict[str, list[Case]] = {}
for _case in cases():
    KINDS.setdefault(_case.kind, []).append(_case)


@pytest.fixture
def in_time() -> Iterator[None]:
    """A case that hangs fails, also where it waits for a pipe."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_met_cleanly(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    unclean = {}
    for number, case in enumerate(KINDS[kind]):
        if case.name == "bomb":
            continue  # seconds of unpacking; `test_files` has a small one
        folder = tmp_path / f"{number}"
        folder.mkdir()
        signal.alarm(20)
        said = outcome(case, folder)
        signal.alarm(0)
        if said != "clean":
            unclean[case.name] = said
    assert not unclean


def test_the_corpus_is_large() -> None:
    assert len(cases()) >= 800 and len(KINDS) >= 25
