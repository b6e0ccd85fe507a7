"""`meteor-bench data check`: a data root compared with its manifest and with the table of benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from meteor_bench.core.errors import DataError
from meteor_bench.data import lookalike
from meteor_bench.data.cards import parts_of
from meteor_bench.data.manifest import WORK, Manifest, Repository, command, read, wrong
from meteor_bench.data.root import check_files
from meteor_bench.data.suites import Benchmark, benchmarks
from meteor_bench.data.videos import check_videos
from meteor_bench.utils.progress import size, track

__all__ = ["check"]

Seen = Callable[[int], None]


def check(root: Path, rows: Sequence[Benchmark] | None = None) -> list[dict[str, Any]]:
    """Read every file of a root and compare it with what was fetched; nothing is asked of the hub.

    Args:
        rows: benchmarks that must be there; by default those it was fetched for.

    Returns:
        A row for each data set; its "problems" name the file or the split and what to do, a line each. Of one that is
        in no manifest ("note" says so) the rows are counted and the videos looked for, no more.

    Raises:
        DataError: the manifest cannot be read, or there is none and no benchmark is named.
    """
    manifest, looks = read(root), lookalike.rows(root)
    if manifest is None and rows is None and looks is None:
        raise DataError(
            f"{root} holds no manifest of `meteor-bench data fetch`; name what should be there with --suite or --task"
        )
    known = (manifest or Manifest()).repositories
    table = benchmarks()
    if rows is None:
        rows = [table[t] for t in dict.fromkeys(t for entry in known.values() for t in entry.tasks) if t in table]
        rows += [table[t] for t in looks or () if t in table and table[t] not in rows]
    rows = [lookalike.counted(row, root) for row in rows]
    readers: dict[str, list[Benchmark]] = {}
    for row in rows:
        for name, _ in parts_of(row):
            readers.setdefault(name, []).append(row)
    total = sum(_bytes(known[name]) for name in readers if name in known)
    found: dict[str, list[str]] = {}
    done = 0
    with track("checking (MB)", max(1, total // 10**6)) if total else nullcontext(lambda done: None) as update:

        def seen(count: int) -> None:
            nonlocal done
            done += count
            update(done // 10**6)

        for name, users in readers.items():
            found[name] = list(_files(root, name, known.get(name), users, seen))
    for row in rows:
        if not any(found[name] for name, _ in parts_of(row)):
            try:
                check_files(row, root)
                check_videos(row, root)
            except DataError as error:
                found[row.dataset].append(str(error))
    return [_row(root, name, known.get(name), users, found[name]) for name, users in readers.items()]


def _files(root: Path, name: str, entry: Repository | None, users: Sequence[Benchmark], seen: Seen) -> Iterator[str]:
    """What is wrong with the files of a data set."""
    tasks = [row.task for row in users]
    if entry is None:
        if not (root / name).is_dir():
            yield f"{name}: is missing; {_remedy(root, tasks)}"
        return
    for task in tasks:
        if task not in entry.tasks:
            yield f"{name}: was not fetched for {task}; {_remedy(root, [task])}"
    for folder, files in ((name, entry.files), *entry.videos.items()):
        for file in files:
            problem = wrong(root / folder / file.path, file)
            if problem:
                yield f"{name}: {file.path}: {_half(root, name, file.path) or problem}; {_remedy(root, tasks)}"
            seen(file.size)
    for archive in entry.archives:
        if archive.unpacked is None:
            halves = filter(None, (_half(root, name, part.path) for part in archive.parts))
            state = next(halves, "not unpacked")
            yield f"{name}: {archive.parts[0].path}: {state}; {_remedy(root, tasks)}"
        for file in archive.unpacked or ():
            problem = wrong(root / file.path, file)
            if problem:
                yield f"{name}: {file.path}: {problem}; {_remedy(root, tasks)}"
            seen(file.size)


def _half(root: Path, name: str, path: str) -> str | None:
    """What to say of a file that is being fetched."""
    place = root / WORK / name / path
    for half in place.parent.glob(f"{place.name}.*"):
        return f"half fetched, {size(half.stat().st_size)} so far"
    return None


def _remedy(root: Path, tasks: Iterable[str]) -> str:
    return f"fetch it: {command(root, tasks)}"


def _bytes(entry: Repository) -> int:
    return sum(file.size for file in entry.files) + sum(size for _, size in entry.clips())


def _row(
    root: Path, name: str, entry: Repository | None, users: Sequence[Benchmark], problems: list[str]
) -> dict[str, Any]:
    unknown = entry is None and (root / name).is_dir()
    return {
        "dataset": name,
        "benchmarks": list(dict.fromkeys(row.task for row in users)),
        "files": len(entry.files) if entry else 0,
        "videos": sum(1 for _ in entry.clips()) if entry else 0,
        "size": size(_bytes(entry)) if entry else "",
        "commit": entry.commit[:8] if entry else "",
        "state": f"{len(problems)} wrong" if problems else "rows counted" if unknown else "whole",
        "note": f"{name}: not fetched by `meteor-bench data fetch`: digests could not be compared" if unknown else "",
        "problems": problems,
    }
