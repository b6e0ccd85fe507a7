"""What a process finds around itself, put right before anything is done: streams, width, working folder, caches."""

from __future__ import annotations

import atexit
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path

from meteor_bench.core.errors import (
    ConfigError,
    RecordError,
)
from meteor_bench.utils.plain_text import ERRORS

__all__ = ["cache_folder", "prepare", "told", "writable_caches"]

_NARROWEST = 20  # columns; COLUMNS=0 or 1 is no terminal's
_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_CACHES = ("HF_DATASETS_CACHE", "HF_MODULES_CACHE", "LMMS_EVAL_DATASETS_CACHE", "LMMS_EVAL_HOME", "MPLCONFIGDIR")


def prepare() -> None:
    """Before a command.

    Raises:
        ConfigError: the working folder is gone.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=ERRORS)
    for name in ("COLUMNS", "LINES"):
        text = os.environ.get(name, "")
        if text and not (text.isdecimal() and int(text) >= (_NARROWEST if name == "COLUMNS" else 1)):
            del os.environ[name]
    if not all(name in os.environ for name in _LAUNCHED):
        for name in _LAUNCHED[:3]:  # left over from another launch; lmms-eval would deal out questions by them
            os.environ.pop(name, None)
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads and not all(part.strip().isdecimal() and int(part) for part in threads.split(",")):
        del os.environ["OMP_NUM_THREADS"]
        sys.stderr.write("note: OMP_NUM_THREADS is no number of threads; it is ignored\n")
    try:
        Path.cwd()
    except OSError as error:
        raise ConfigError(f"the working folder cannot be used ({error.strerror}); change to another one") from None


@contextmanager
def told() -> Iterator[None]:
    """Whatever is printed inside comes out, or it is said that it does not.

    Raises:
        RecordError: standard output takes no more.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EPIPE, errno.EIO, errno.EDQUOT, errno.EFBIG) or error.filename:
            raise
        # Else Python would try again at its end, and print a traceback.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise RecordError(f"standard output cannot be written: {error.strerror}; what was computed is kept") from None


def cache_folder() -> Path | None:
    """Where the libraries would keep their caches; None where they cannot."""
    home = os.environ.get("HF_HOME")
    try:
        folder = Path(home or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError, ValueError):  # not writable; "~nobody"; a zero byte
        return None


def writable_caches() -> Path | None:
    """Before the libraries are imported: caches in a temporary folder where their own place cannot be written.

    Models are still looked for where they were. A cache that the user named and that can be written stays.

    Returns:
        The temporary folder, removed at the end of the process; None where none is needed.

    Raises:
        ConfigError: there is no place for temporary files either.
    """
    if cache_folder() is not None:
        return None
    try:
        folder = Path(tempfile.mkdtemp(prefix="meteor-bench-"))
    except OSError as error:
        raise ConfigError(f"neither the caches nor a temporary folder can be written ({error.strerror})") from None
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in _CACHES:
        if name not in os.environ:
            os.environ[name] = str(folder / name.lower())
    return folder
