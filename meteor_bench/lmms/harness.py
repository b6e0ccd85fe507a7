"""The one door to lmms-eval: imports it with its side effects undone, and keeps it quiet while it works.

What cannot be undone is left: it makes filelock reentrant and SSL contexts picklable for the process, and sets the
global seeds.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from meteor_bench.utils.process import writable_caches

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Quiet", "load_evaluator", "strict_pictures", "task_manager"]

# Read by the libraries when they are imported; a user's own value is respected.
_ENVIRONMENT = {
    "DATASETS_VERBOSITY": "error",  # warns of fewer rows than the processes that a task asks for
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "TOKENIZERS_PARALLELISM": "false",
}

log = logging.getLogger("meteor_bench.lmms_eval")
log.addHandler(logging.NullHandler())


@cache
def load_evaluator() -> ModuleType:
    """``lmms_eval.evaluator``; the first call takes seconds, most of it in libraries that it imports."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    writable_caches()
    # The import silences all warnings of the process; leaving the block restores them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lmms_eval.evaluator as evaluator
    _reroute_log()
    strict_pictures()
    module: ModuleType = evaluator
    return module


def strict_pictures() -> None:
    """Have Pillow refuse a file that ends too early; lmms-eval has it hand out half a picture, the rest grey."""
    from PIL import ImageFile

    ImageFile.LOAD_TRUNCATED_IMAGES = False


def _reroute_log() -> None:
    """lmms-eval removed loguru's sinks and added its own on stdout; its messages go to `logging` instead."""
    from loguru import logger

    logger.remove()
    logger.add(lambda m: log.log(m.record["level"].no, "%s", m.record["message"]), level="WARNING")


def task_manager(folders: tuple[Path, ...]) -> Any:
    """An index of the tasks in these folders, without lmms-eval's own: those would hide ours of the same name."""
    load_evaluator()
    from lmms_eval.tasks import TaskManager

    return TaskManager(include_defaults=False, include_path=[str(folder) for folder in folders])


@cache
def _nowhere() -> TextIO:
    """Never closed: a log handler that a library makes meanwhile may hold on to it."""
    return Path(os.devnull).open("w", encoding="utf-8")


class Quiet:
    """Sends stdout and stderr to nowhere inside its block: lmms-eval prints, and draws progress bars, without a switch.

    A console that must stay visible keeps its own stream (``rich.Console(file=sys.stderr)``).
    """

    def __enter__(self) -> Quiet:
        self._outside: tuple[TextIO, TextIO] = (sys.stdout, sys.stderr)
        sys.stdout = sys.stderr = _nowhere()
        return self

    def __exit__(self, *error: object) -> None:
        sys.stdout, sys.stderr = self._outside

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Inside, streams are as they were: for our own code that lmms-eval calls."""
        with redirect_stdout(self._outside[0]), redirect_stderr(self._outside[1]):
            yield
