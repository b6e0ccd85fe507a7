"""Where a number comes from: versions, commit, machine, and digests of code, data and weights.

lmms-eval's own provenance is unusable (its version is "unknown", its document hash the same for every sample), so
records carry this one.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from meteor_bench.core.version import __version__
from meteor_bench.utils.structuring import plain

__all__ = [
    "Environment",
    "digest",
    "environment",
    "fingerprint",
    "hash_files",
    "package_version",
    "processor",
    "total_memory",
]

PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Environment:
    """What ran a run.

    Attributes:
        commit: of the git tree that holds the package, None when there is none; ends in "+" when it has changes.
        code: digest of the source files that the answers depend on (`records.code_digest.code_digest`).
        device: name of the accelerator, "cpu" when there is none.
        processor: name of the CPU.
        threads: that torch computes with.
        kernel: the attention kernel.
    """

    meteor_bench: str
    lmms_eval: str
    transformers: str
    torch: str
    python: str
    system: str
    commit: str | None
    code: str
    device: str
    processor: str
    threads: int
    kernel: str
    dtype: str


def environment(device: str, kernel: str, dtype: str, threads: int, code: str) -> Environment:
    """The `Environment` of this process, running the code of that digest."""
    return Environment(
        meteor_bench=__version__,
        lmms_eval=package_version("lmms-eval"),
        transformers=package_version("transformers"),
        torch=package_version("torch"),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
        commit=commit(),
        code=code,
        device=device,
        processor=processor(),
        threads=threads,
        kernel=kernel,
        dtype=dtype,
    )


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Hash of plain data, the same for the same content whatever the order of the keys; 64 hex digits."""
    return hashlib.sha256(json.dumps(plain(parts), sort_keys=True, allow_nan=False).encode()).hexdigest()


def digest(file: Path) -> str:
    """SHA-256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_files(files: Iterable[Path], root: Path) -> str:
    """SHA-256 over names (relative to ``root``) and contents, in the order of the names."""
    total = hashlib.sha256()
    for file in sorted(files):
        total.update(f"{file.relative_to(root).as_posix()}\0{digest(file)}\0".encode())
    return total.hexdigest()


def package_version(name: str) -> str:
    """Installed version of a distribution, "missing" when there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def commit() -> str | None:
    """Commit of the git tree that the package is run from, with "+" after it when tracked files differ."""
    if not (PACKAGE.parent / ".git").exists():
        return None  # installed: an enclosing repository would be somebody else's
    try:
        head = _git("rev-parse", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(PACKAGE.parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def processor() -> str:
    """Name of the CPU."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def total_memory() -> int:
    """Bytes of main memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
