"""Files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

from meteor_bench.errors import RecordError

__all__ = ["write_whole"]


def write_whole(path: Path, content: bytes) -> None:
    """Write under another name, then rename: a reader (or a crash) never sees half a file.

    Raises:
        RecordError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RecordError(f"cannot write {path}: {error.strerror}") from None
