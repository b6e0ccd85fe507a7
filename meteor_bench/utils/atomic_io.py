"""Files that are whole or not there, and folders that can be written."""

from __future__ import annotations

import os
from contextlib import suppress
from glob import escape
from pathlib import Path
from tempfile import TemporaryFile

from meteor_bench.core.errors import RecordError

__all__ = ["check_writable", "discard_dead", "write_whole"]


def write_whole(path: Path, content: bytes) -> None:
    """Write under another name, then rename: a reader (or a crash) never sees half a file. Makes its folder.

    Raises:
        RecordError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for file in path.parent.glob(f".{escape(path.name)}.*"):
            discard_dead(file)
        temporary.unlink(missing_ok=True)  # of a dead process that had our number
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise RecordError(f"cannot write {path}: {error.strerror}") from None


def discard_dead(file: Path) -> None:
    """Remove what a process that is no more had half written: ``.<name>.<its number>``."""
    number = file.name.rpartition(".")[2]
    if not (number.isdecimal() and len(number) < 10 and file.name.count(".") > 2 and file.is_file()):
        return
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        with suppress(OSError):
            file.unlink()
    except OSError:
        pass  # alive, and somebody else's


def check_writable(out: Path) -> None:
    """Fail before minutes of work rather than after them; leaves nothing behind.

    Raises:
        RecordError: the folder cannot be made or written.
    """
    try:
        # Making the folder and removing it again would pull it away from under another process.
        there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
        with TemporaryFile(dir=there):
            pass
    except ValueError as error:  # a zero byte in its name
        raise RecordError(f"cannot write to {str(out)!r}: {error}") from None
    except OSError as error:
        raise RecordError(f"cannot write to {out}: {error.strerror}") from None
