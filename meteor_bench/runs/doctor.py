"""What works here and what does not: at a glance, without a library that takes seconds, or by trying every part."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.errors import (
    MeteorBenchError,
    NotInstalledError,
    PluginError,
)
from meteor_bench.core.registry import METHODS, MODELS
from meteor_bench.core.version import __version__
from meteor_bench.data import suites
from meteor_bench.data.calibration import calibration_digest
from meteor_bench.data.made import MADE_BY, unmade
from meteor_bench.data.shipped import check_data, tasks_dir
from meteor_bench.models.locate import locate
from meteor_bench.records.provenance import commit, package_version, processor, total_memory
from meteor_bench.report.listing import CARDS
from meteor_bench.utils.process import cache_folder

__all__ = ["Finding", "examine"]

_PACKAGES = ("torch", "torchvision", "transformers", "lmms-eval", "datasets", "pandas", "pyarrow", "av", "typer")
_GIB = 2**30
_NVIDIA = Path("/proc/driver/nvidia/gpus")  # a folder a card, where the driver is loaded
_SHIPPED = Path(__file__).parents[1] / "models" / "weights"


State = Literal["ok", "note", "optional", "fails"]


class Finding(NamedTuple):
    """A line of `doctor`.

    Attributes:
        what: what was looked at.
        state: "ok", "note" (works, but know this), "optional" (not here, and nothing else needs it), "fails" (a run
            would not work).
        said: what was found, and what to do about it.
    """

    what: str
    state: State
    said: str


def examine(*, full: bool = True) -> list[Finding]:
    """All findings; none of the checks stops another.

    Args:
        full: import the libraries, make every method, read every weight. Else files are looked at only.
    """
    findings: list[Finding] = []
    for what, check in (_CHECKS if full else _CHECKS | _GLANCES).items():
        try:
            findings.extend(Finding(what, *rest) for rest in check())
        except (MeteorBenchError, ImportError, OSError) as error:
            findings.append(Finding(what, "fails", " ".join(str(error).split())))
    return findings


Said = Iterator[tuple[State, str]]


def _python() -> Said:
    yield "ok", f"{sys.version.split()[0]} on {sys.platform}; meteor-bench {__version__}"
    if head := commit():
        yield "ok", f"run from a git tree at {head[:12]}" + (", with changes" if head.endswith("+") else "")


def _packages() -> Said:
    missing = [name for name in _PACKAGES if package_version(name) == "missing"]
    if missing:
        yield "fails", f"not installed: {', '.join(missing)}; install meteor-bench again"
    yield "ok", ", ".join(f"{name} {package_version(name)}" for name in _PACKAGES if name not in missing)


def _devices() -> Said:
    import torch

    memory = total_memory() / _GIB
    yield ("ok" if memory >= 2 else "fails"), f"{processor()}, {torch.get_num_threads()} threads, {memory:.0f} GiB"
    if not torch.cuda.is_available():
        yield "note", "no CUDA device: pocket runs well on the CPU, models of billions of parameters do not"
    for i in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(i)
        yield "ok", f"cuda:{i}: {about.name}, {about.total_memory / _GIB:.0f} GiB"


def _models() -> Said:
    absent = []
    for name in MODELS.names():
        try:
            card = MODELS.load(name)
        except PluginError as error:
            yield "note", str(error)
            continue
        if not card.published:
            absent.append(name)
            continue
        if card.weights is not None:
            try:
                yield "ok", f"{name}: weights in {locate(card.weights, fetch=False)}, not read"
            except MeteorBenchError:
                absent.append(name)
            continue
        try:
            card.build("cpu", _float32(), None)
        except NotInstalledError as error:
            yield "optional", f"{name}: {error}"
        except MeteorBenchError as error:
            yield "fails", f"{name}: {error}"
        else:
            yield "ok", f"{name}: weights read"
    if absent:
        yield "optional", f"need weights that are not here (--source takes their folder): {', '.join(absent)}"


def _float32() -> object:
    import torch

    return torch.float32


def _methods() -> Said:
    broken = 0
    for name in METHODS.names():
        try:
            METHODS.make(name)
        except PluginError as error:
            broken += 1
            yield "note", str(error)
    yield "ok", f"{len(METHODS.names()) - broken} load"


def _data() -> Said:
    root = tasks_dir()
    bad = 0
    ours = [row for row in suites.benchmarks().values() if not row.stock and not unmade(row)]
    for row in ours:
        try:
            check_data(root / row.task / "data")
        except MeteorBenchError as error:
            bad += 1
            yield "fails", str(error)
    calibration_digest()
    if not bad:
        yield "ok", f"{len(ours)} benchmarks and the calibration set are whole"
    stock = sum(row.stock for row in suites.benchmarks().values())
    yield "note", f"{stock} more take data from the hub: see `meteor-bench data fetch`"
    if left := len(suites.benchmarks()) - len(ours) - stock:
        yield "optional", f"{left} are made of photographs by: {MADE_BY['natural']}"


def _caches() -> Said:
    if folder := cache_folder():
        yield "ok", f"{folder} can be written"
    else:
        yield "note", "the libraries' cache (HF_HOME, else ~/.cache/huggingface) cannot be written: a temporary one"


def _engine() -> Said:
    from meteor_bench.lmms.harness import load_evaluator

    load_evaluator()
    yield "ok", f"lmms-eval {package_version('lmms-eval')} imports"


def _results() -> Said:
    out = RunConfig().out
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK):
        yield "fails", f"{out}: {there} cannot be written; give another folder with --out"
    free = shutil.disk_usage(there).free / _GIB
    yield ("ok" if free > 1 else "note"), f"{out}: {free:.0f} GiB free"


_CHECKS: dict[str, Callable[[], Said]] = {
    "python": _python,
    "packages": _packages,
    "devices": _devices,
    "methods": _methods,
    "models": _models,
    "data": _data,
    "caches": _caches,
    "lmms-eval": _engine,
    "results": _results,
}


# ------------------------------------------------------------ the same at a glance


def _devices_at_a_glance() -> Said:
    memory = total_memory() / _GIB
    yield ("ok" if memory >= 2 else "fails"), f"{processor()}, {os.cpu_count()} threads, {memory:.0f} GiB"
    cards = [file.parent.name for file in sorted(_NVIDIA.glob("*/information"))]
    if cards:
        yield "ok", f"{len(cards)} NVIDIA GPUs; whether torch can use them: doctor --full"
    else:
        yield "note", "no NVIDIA GPU: pocket runs well on the CPU, models of billions of parameters do not"


def _methods_at_a_glance() -> Said:
    missing = [name for name, target in METHODS.rows.items() if find_spec(target.partition(":")[0]) is None]
    if missing:
        yield "fails", f"not installed: {', '.join(missing)}; install meteor-bench again"
    others = sorted(set(METHODS.names()) - set(METHODS.rows))
    yield from _broken(others, METHODS.make)
    yield "ok", f"{len(METHODS.rows) - len(missing)} there" + (f", and {', '.join(others)}" if others else "")


def _models_at_a_glance() -> Said:
    cards = json.loads(CARDS.read_text(encoding="utf-8"))
    absent = []
    for name, card in cards.items():
        if not card["published"]:
            absent.append(name)
        elif card["weights"] is not None:
            try:
                yield "ok", f"{name}: weights in {locate(card['weights'], fetch=False)}, not read"
            except MeteorBenchError:
                absent.append(name)
        else:
            cut = [file.name for file in sorted((_SHIPPED / name).glob("*.safetensors")) if not _whole(file)]
            there = (_SHIPPED / name / "config.json").is_file()
            if cut or not there:
                yield "fails", f"{name}: {', '.join(cut) or 'config.json'} cut or missing; install meteor-bench again"
            else:
                yield "ok", f"{name}: weights whole; doctor --full reads them"
    yield from _broken(sorted(set(MODELS.names()) - set(MODELS.rows)), MODELS.load)
    if absent:
        yield "optional", f"need weights that are not here (--source takes their folder): {', '.join(absent)}"


def _broken(names: Sequence[str], load: Callable[[str], object]) -> Said:
    """Rows of other packages that cannot be used."""
    for name in names:
        try:
            load(name)
        except PluginError as error:
            yield "note", str(error)


def _whole(file: Path) -> bool:
    """Whether a safetensors file has the length that its header promises."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8).ljust(8, b"\xff"))
        if length > file.stat().st_size:
            return False
        header = json.loads(stream.read(length))
    ends: list[int] = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return bool(file.stat().st_size == 8 + length + max(ends, default=0))


def _engine_at_a_glance() -> Said:
    there = find_spec("lmms_eval") is not None
    yield (
        ("ok" if there else "fails"),
        f"lmms-eval {package_version('lmms-eval')}"
        + ("; doctor --full imports it" if there else ": not installed; install meteor-bench again"),
    )


_GLANCES: dict[str, Callable[[], Said]] = {
    "devices": _devices_at_a_glance,
    "methods": _methods_at_a_glance,
    "models": _models_at_a_glance,
    "lmms-eval": _engine_at_a_glance,
}
