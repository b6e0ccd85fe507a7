"""Methods beside the unpruned model, cell by cell (a ratio and a batch size), each cell in one process.

settings ▸ sessions of a ratio (one model for all) ▸ `interleave.measure` for each batch size ▸ records ▸ tables
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.errors import BudgetError, RecordError, UnsupportedError
from meteor_bench.data.calibration import calibration_requests
from meteor_bench.models.composed.recipe import is_recipe, read
from meteor_bench.records.code_digest import hashed
from meteor_bench.records.provenance import PACKAGE, Environment, environment, fingerprint, package_version, processor
from meteor_bench.runs.device import device_and_dtype, device_name
from meteor_bench.runs.latency.options import Settings
from meteor_bench.runs.latency.records import (
    EAGER,
    GRAPHS,
    SCHEMA,
    UNPRUNED,
    Cell,
    Row,
    cell_path,
    read_cell,
    read_cells,
    write_cell,
)
from meteor_bench.runs.latency.requests import noise, shipped
from meteor_bench.runs.model_cache import ModelCache
from meteor_bench.utils.atomic_io import check_writable
from meteor_bench.utils.environment import quiet_libraries
from meteor_bench.utils.progress import say, track
from meteor_bench.utils.structuring import plain

if TYPE_CHECKING:
    from meteor_bench.core.request import Request
    from meteor_bench.engine.session import Session
    from meteor_bench.runs.latency.interleave import Timing

DRAWN = 4  # batches of noise, run again and again
TIMED = ("core", "engine", "methods", "models")

__all__ = ["time_cells", "write_tables"]


def time_cells(settings: Settings) -> list[Cell]:
    """Time what is not yet in the output folder; all cells asked for, in the order ratio, batch.

    Raises:
        MeteorBenchError: something the user can put right; finished cells stay.
    """
    quiet_libraries()
    check_writable(settings.out)
    bench = _Bench(settings, ModelCache(random_weights=settings.random_weights, layers=settings.limit_layers))
    cells = []
    for ratio in settings.ratios:
        for batch in settings.batches:
            cells.append(bench.cell(ratio, batch))
            write_tables(settings.out)
    return cells


def write_tables(out: Path) -> None:
    """The tables of all cells in a folder.

    Raises:
        RecordError: a record is broken, or nothing can be written.
    """
    from meteor_bench.runs.latency.tables import document

    document(read_cells(out)).write_files(out, "latency")


@dataclass
class _Bench:
    """The sessions of a ratio, kept for all its batch sizes; models are loaded once."""

    settings: Settings
    shared: ModelCache
    ratio: float | None = None
    sessions: dict[str, Session] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def cell(self, ratio: float, batch: int) -> Cell:
        """A cell from the output folder, or timed now."""
        settings = self.settings
        wanted = _fingerprint(settings, ratio, batch)
        path = cell_path(settings.out, settings.plain.model, settings.frames, ratio, batch, wanted, settings.match)
        try:
            found = read_cell(path)
            if found.fingerprint == wanted:
                say(f"ratio {ratio:g}, batch {batch}: taken from {path}")
                return found
        except RecordError:
            pass  # not there, or of no use: timed again
        self._prepare(ratio)
        running = path.with_suffix(".running")
        cell = self._time(running, ratio, batch, wanted)
        write_cell(path, cell)
        running.unlink(missing_ok=True)  # the cell has all of it
        return cell

    def _prepare(self, ratio: float) -> None:
        """Build the sessions of a ratio."""
        if self.ratio == ratio:
            return
        self.ratio, self.sessions, self.failures = ratio, {}, {}
        wanted = [self.settings.plain, *(c for c in self.settings.configs if c.ratio == ratio)]
        with track(f"ratio {ratio:g}: model and methods", len(wanted)) as update:
            for done, config in enumerate(wanted, start=1):
                self._add(config)
                update(done)

    def _add(self, config: RunConfig) -> None:
        name = UNPRUNED if config.method == "none" else config.label
        try:
            self.sessions[name] = self.shared.blueprint(config).session(self._calibration)
        except (BudgetError, UnsupportedError) as error:
            if not self.settings.skip or config.method == "none":
                raise
            self.failures[name] = str(error)

    def _calibration(self) -> Sequence[Request]:
        """Samples for an adaptive method; under random weights those that are timed, so that it keeps what is asked."""
        if self.settings.random_weights:
            return self._noise(4)
        return calibration_requests()

    def _size(self) -> tuple[int, int]:
        """Height and width of a picture of noise."""
        side, (height, width) = self.settings.pixels, self.sessions[UNPRUNED].vlm.native
        if side is not None:
            return side, side
        return (height, width) if self.settings.limit_layers is None else (height // 2, width // 2)

    def _noise(self, count: int) -> list[Request]:
        return noise(self.sessions[UNPRUNED], count, self.settings.frames, size=self._size())

    def _requests(self, batch: int) -> list[Request]:
        settings, session = self.settings, self.sessions[UNPRUNED]
        if settings.random_weights:
            return self._noise(batch * min(DRAWN, settings.passes))
        return shipped(session, batch, settings.frames, settings.passes)

    def _time(self, running: Path, ratio: float, batch: int, fingerprint: str) -> Cell:
        """A cell, timed now; its passes are kept in ``running`` as they come."""
        from meteor_bench.models.memory import weight_bytes
        from meteor_bench.utils.hardware import state

        settings, first = self.settings, self.sessions[UNPRUNED]
        requests = self._requests(batch)
        graphed = self._graphed()
        sessions = {UNPRUNED: first, EAGER: first, **self.sessions}
        sessions = {k: s for name, s in sessions.items() for k in (name, name + GRAPHS) if k == name or k in graphed}
        before, started = state(first.device), datetime.now(UTC)
        wall, used = time.perf_counter(), time.process_time()
        timings = self._measure(running, f"ratio {ratio:g}, batch {batch}", sessions, graphed, requests, batch)
        wall, used = time.perf_counter() - wall, time.process_time() - used
        return Cell(
            schema=SCHEMA,
            fingerprint=fingerprint,
            model=settings.plain.model,
            random_weights=settings.random_weights,
            limit_layers=settings.limit_layers,
            pictures="noise, {} x {} px".format(*self._size()) if settings.random_weights else "calibration samples",
            ratio=ratio,
            batch=batch,
            frames=settings.frames,
            new_tokens=settings.new_tokens,
            warmup=settings.warmup,
            seed=settings.plain.seed,
            environment=_environment(first),
            weight_bytes=sum(weight_bytes(part, first.vlm.dtype) for part in first.vlm.modules().values()),
            state={"before": before, "after": state(first.device)},
            cpu_share=round(used / wall, 4),
            started=started.isoformat(timespec="seconds"),
            seconds=round(wall, 3),
            match=settings.match,
            rows=(*(_row(name, sessions[name], t) for name, t in timings.items()), *self._missing()),
        )

    def _measure(
        self,
        running: Path,
        title: str,
        sessions: Mapping[str, Session],
        graphed: Mapping[str, Session],
        requests: Sequence[Request],
        batch: int,
    ) -> dict[str, Timing]:
        from meteor_bench.runs.latency.interleave import measure

        settings = self.settings
        running.parent.mkdir(parents=True, exist_ok=True)
        running.write_text("")
        with track(f"{title}: {len(sessions)} contenders", settings.passes) as update:
            done = 0

            def on_step() -> None:
                nonlocal done
                done += 1
                update(done)

            def on_sample(name: str, sample: Mapping[str, Any]) -> None:
                with running.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps({"name": name, **sample}) + "\n")

            return measure(
                sessions,
                requests,
                batch_size=batch,
                new_tokens=settings.new_tokens,
                warmup=settings.warmup,
                passes=settings.passes,
                seconds=settings.seconds,
                eager=(EAGER,),
                graphed=graphed,
                tolerant=settings.skip,
                on_step=on_step,
                on_sample=on_sample,
            )

    def _graphed(self) -> dict[str, Session]:
        """The sessions that are timed once more, captured; the others are noted as failures."""
        if self.settings.graphs != "cuda":
            return {}
        found: dict[str, Session] = {}
        for name, session in self.sessions.items():
            if session.provenance["exact"]:
                found[name + GRAPHS] = session
            else:
                self.failures[name + GRAPHS] = "its count is the sample's own, so there is no fixed shape to capture"
        return found

    def _missing(self) -> list[Row]:
        return [Row(name, failure=reason) for name, reason in self.failures.items()]


def _row(name: str, session: Session, timing: Timing) -> Row:
    about = session.provenance
    return Row(
        name=name,
        parameters=about["parameters"],
        model=about["variant"],
        exact=about["exact"],
        facts=about["facts"],
        memory_bytes=timing.memory_bytes,
        failure=timing.failure,
        broken=timing.broken,
        uncaptured=timing.uncaptured,
        samples=tuple(timing.samples),
    )


def _environment(session: Session) -> Environment:
    import torch

    from meteor_bench.core.attention_probe import KERNEL

    device = session.device
    return environment(device_name(device), KERNEL, session.provenance["dtype"], torch.get_num_threads(), _code())


def _code() -> str:
    """Digest of everything that is timed."""
    return fingerprint(hashed((f for part in TIMED for f in (PACKAGE / part).rglob("*.py")), PACKAGE))


def _fingerprint(settings: Settings, ratio: float, batch: int) -> str:
    """Hash of what the numbers of a cell depend on, the machine included."""
    import torch

    model = settings.plain.model
    device, dtype = device_and_dtype(settings.plain)
    return fingerprint(
        {
            "schema": SCHEMA,
            "contenders": [plain(config) for config in settings.configs if config.ratio == ratio],
            "sizes": [batch, settings.frames, settings.new_tokens, settings.passes, settings.warmup, settings.seconds],
            "random_weights": settings.random_weights,
            "limit_layers": settings.limit_layers,
            "pixels": settings.pixels,
            "graphs": settings.graphs,
            "composition": read(Path(model)).digest if is_recipe(model) else "",
            "device": device_name(device) if device.startswith("cuda") else processor(),
            "dtype": dtype,
            "threads": torch.get_num_threads(),
            "versions": {name: package_version(name) for name in ("torch", "transformers")},
            "code": _code(),
        }
    )
