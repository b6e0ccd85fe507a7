"""`meteor-bench data fetch`: data sets of the hub into a data root, in one piece and at one commit each."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from meteor_bench.core.errors import DataError
from meteor_bench.data.archives import unpack
from meteor_bench.data.cards import Unreadable, count_rows
from meteor_bench.data.hub import Hub
from meteor_bench.data.lookalike import rows as lookalikes
from meteor_bench.data.manifest import WORK, Archive, File, Manifest, Repository, read, sha256, write, wrong
from meteor_bench.data.plan import CARD, Plan, Problem, make, partial
from meteor_bench.data.root import check_files
from meteor_bench.data.suites import Benchmark
from meteor_bench.data.videos import check_videos
from meteor_bench.utils.atomic_io import write_whole
from meteor_bench.utils.progress import duration, say, size, track
from meteor_bench.utils.safe_files import UnsafeFile, open_lock

__all__ = ["fetch"]

_ROWS = (".parquet", ".json", ".jsonl")
_UNPACKING = "unpacking"


def fetch(rows: Sequence[Benchmark], root: Path, hub: Hub | None = None) -> list[str]:
    """Bring the data of benchmarks into a root; what is there already and right is kept.

    Killed half-way and called again, it goes on, inside a file too. Each file is compared with the digest that the hub
    states before it gets its name, each split with the number of rows of the table of benchmarks.

    Args:
        rows: of lmms-eval's own benchmarks.
        hub: by default huggingface_hub's.

    Returns:
        What could not be fetched or is not as it should be, a line each.

    Raises:
        DataError: nothing was fetched: the root holds look-alikes, another process is at it, the hub does not answer,
            or the disk is too small.
    """
    if lookalikes(root) is not None:
        raise DataError(f"{root} holds look-alikes, which real data are not to be mixed with; give another --root")
    root.mkdir(parents=True, exist_ok=True)
    hub = hub or Hub()
    with _held(root):
        manifest = read(root) or Manifest()
        plans, problems = make(hub, rows, root, manifest)
        if plans:
            _announce(plans, root)
            problems += _bring_all(hub, plans, root, manifest)
        failed = {task for problem in problems for task in problem.tasks}
        for row in rows:
            if row.task not in failed:
                try:
                    check_files(row, root)
                    check_videos(row, root)
                except DataError as error:
                    problems.append(Problem((row.task,), str(error)))
        shutil.rmtree(root / WORK / _UNPACKING, ignore_errors=True)
    return [problem.line for problem in problems]


def _bring_all(hub: Hub, plans: Sequence[Plan], root: Path, manifest: Manifest) -> Iterator[Problem]:
    """One after the other; one that cannot be had does not stop the others."""
    with _Meter(plans).shown() as meter:
        for plan in plans:
            try:
                manifest = _Work(hub, plan, root, manifest, meter).done()
            except DataError as error:
                yield Problem(plan.tasks, f"{', '.join(plan.tasks)}: {error}")
                manifest = read(root) or manifest


@contextmanager
def _held(root: Path) -> Iterator[None]:
    """One fetch at a time; the system lets go when its holder dies."""
    (root / WORK).mkdir(exist_ok=True)
    try:
        lock = open_lock(root / WORK / "lock")
    except (OSError, UnsafeFile) as error:
        raise DataError(f"{root / WORK / 'lock'} cannot be held: {error}") from None
    with lock as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(f"another `data fetch` is at work in {root}") from None
        yield


def _announce(plans: Sequence[Plan], root: Path) -> None:
    """Say sizes.

    Raises:
        DataError: the disk has no room for them.
    """
    for plan in plans:
        total, missing = plan.size(), plan.missing(root)
        here = f", {size(total - missing)} of it here" if missing < total else ""
        say(f"{plan.name} at {plan.wanted.commit[:8]}: {len(plan.to_fetch())} files, {size(total)}{here}")
    missing, free = sum(plan.missing(root) for plan in plans), shutil.disk_usage(root).free
    largest = max((plan.space(root) - plan.missing(root) for plan in plans), default=0)
    say(f"to fetch: {size(missing)}; {root} has {size(free)} free")
    if missing + largest > free:
        raise DataError(
            f"{root} needs {size(missing + largest)} ({size(largest)} of it while videos are unpacked) and has "
            f"{size(free)} free; make room, give another --root, or fetch less with --task"
        )


class _Meter:
    """How far a fetch is, in megabytes: on a terminal a bar, elsewhere a line for each file."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self._total = sum(plan.size() for plan in plans)
        self._done = self._fetched = 0
        self._start = perf_counter()
        self._update: Callable[[int], None] = lambda done: None

    @contextmanager
    def shown(self) -> Iterator[_Meter]:
        with track("fetching (MB)", max(1, self._total // 10**6)) as self._update:
            yield self

    def known(self, count: int) -> None:
        """Bytes that were there already."""
        self._done += count
        self._update(self._done // 10**6)

    def fetched(self, count: int) -> None:
        """Bytes from the hub."""
        self._fetched += count
        self.known(count)

    def line(self, what: str) -> None:
        if not sys.stderr.isatty():
            rate = self._fetched / max(perf_counter() - self._start, 1e-9)
            rest = max(0, self._total - self._done)
            left = f", {duration(rest / rate)} left" if rate and rest else ""
            say(f"{what}; {size(self._done)} of {size(self._total)}{left}")


class _Work:
    """One data set being fetched; the manifest is written at every step."""

    def __init__(self, hub: Hub, plan: Plan, root: Path, manifest: Manifest, meter: _Meter) -> None:
        self._hub, self._name, self._root, self._meter = hub, plan.name, root, meter
        self._card = plan.card.encode()
        self._manifest = manifest
        card = File(CARD, len(self._card), hashlib.sha256(self._card).hexdigest())
        self._now = replace(plan.wanted, files=(card, *plan.wanted.files))

    def done(self) -> Manifest:
        """The manifest with the whole data set.

        Raises:
            DataError: the hub does not give it, or a file is another than it states.
        """
        folder = self._root / self._name
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / CARD, self._card)
        self._note(self._now)
        for file in self._now.files[1:]:
            path = folder / file.path
            self._bring(file, path)
            try:
                rows = count_rows(path) if path.suffix in _ROWS else None
            except Unreadable as error:
                raise DataError(f"{self._name}: {file.path} is no data on the hub itself ({error})") from None
            self._note(self._now.with_file(replace(file, sha256=file.sha256 or sha256(path), rows=rows)))
        # Nothing is noted of each: the manifest has said all there is to know, and may name tens of thousands.
        for place, videos in self._now.videos.items():
            for file in videos:
                self._bring(file, self._root / place / file.path)
        for archive in self._now.archives:
            if archive.unpacked is None or any(wrong(self._root / f.path, f) for f in archive.unpacked):
                self._note(self._now.with_archive(replace(archive, unpacked=None)))
                self._note(self._now.with_archive(replace(archive, unpacked=self._unpack(archive))))
                for part in archive.parts:
                    self._whole(part).unlink()
        return self._manifest

    def _note(self, repository: Repository) -> None:
        self._now = repository
        self._manifest = self._manifest.with_repository(self._name, repository)
        write(self._root, self._manifest)

    def _whole(self, part: File) -> Path:
        """Where a part of an archive waits for the others."""
        return self._root / WORK / self._name / part.path

    def _unpack(self, archive: Archive) -> tuple[File, ...]:
        for part in archive.parts:
            self._bring(part, self._whole(part))
        self._meter.line(f"{self._name}: unpacking {archive.parts[0].path}")
        parts = [self._whole(part) for part in archive.parts]
        scratch = self._root / WORK / _UNPACKING / "file"
        return unpack(parts, self._root / archive.folder, self._root, scratch)

    def _bring(self, file: File, path: Path) -> None:
        """Fetch a file unless it is there and right; a wrong beginning is thrown away once."""
        if wrong(path, file) is None:
            self._meter.known(file.size)
            return
        half = partial(self._root, self._name, file)
        for _ in range(2):
            if half.is_file():
                if half.stat().st_size > file.size:
                    half.unlink()
                else:
                    self._meter.known(half.stat().st_size)
            self._hub.download(self._name, self._now.commit, file, half, self._meter.fetched)
            problem = wrong(half, file)
            if problem is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                half.replace(path)
                self._meter.line(f"{self._name}: {file.path}")
                return
            half.unlink()
            self._meter.known(-file.size)
        raise DataError(f"{self._name}: {file.path} came twice with {problem}")
