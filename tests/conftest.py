"""For all tests."""

from __future__ import annotations

import gc
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from meteor_bench import cli
from tests import chosen
from tests.commands import Result

# The same cases every time: a commit that passes passes again. `--hypothesis-profile=default` looks for new ones.
# No case has a deadline: on a busy machine one of two runs of the same case may take ten times as long.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is read."""
    wanted = config.option.markexpr  # words joined by and, or, not: an expression of Python
    chosen.slow = not wanted or bool(eval(wanted, {}, defaultdict(bool, slow=True)))


# A million objects of libraries and test modules stay to the end: looking through them for garbage, again and again,
# took a tenth of a worker's time. What tests leave is looked through as ever.
gc.disable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """When all test modules and what they import are there."""
    gc.freeze()
    gc.enable()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Libraries that look for what nobody gave back, as nanobind does, find nothing."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """lmms-eval keeps its caches in a folder that goes away with the tests."""
    # Read once by lmms-eval, when it loads its first data set.
    os.environ["LMMS_EVAL_DATASETS_CACHE"] = str(tmp_path_factory.mktemp("datasets"))
    yield
    del os.environ["LMMS_EVAL_DATASETS_CACHE"]


@pytest.fixture(autouse=True)
def as_offline_as_before() -> Iterator[None]:
    """What a command that was asked to fetch has allowed ends with its test."""
    names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
    before = {name: os.environ[name] for name in names if name in os.environ}
    yield
    for name in names:
        os.environ.pop(name, None)
    os.environ.update(before)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Result]:
    """Runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["meteor-bench", *arguments])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        captured = capsys.readouterr()
        return Result(int(exit.value.code or 0), captured.out, captured.err)

    return call
