"""The check from file to verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from meteor_bench.config.run_config import Setting
from meteor_bench.config.run_config import check as check_value
from meteor_bench.core.errors import ConfigError, RecordError
from meteor_bench.core.match import Measure
from meteor_bench.data.own_pictures import AGREEMENT
from meteor_bench.data.suites import resolve
from meteor_bench.runs.regression.baseline import FORMAT, Baseline, CheckConfig, Measured, Tolerances, read, write
from meteor_bench.utils.progress import detail, track

if TYPE_CHECKING:
    from meteor_bench.report.document import Document
    from meteor_bench.runs.regression.measure import Settled

__all__ = ["METHODS", "RATIO", "check"]

# One of each kind: before the language model, greedy, inside the encoders, in the language model, over all stages.
METHODS = ("random", "divprune", "visionzip", "evoprune", "fastv", "sparsevlm", "meteor")
RATIO = 0.76


def check(
    file: Path,
    given: Mapping[str, Any],
    write_out: Callable[[Document], None],
    *,
    update: bool,
    junit: Path | None = None,
    data_root: Path | None = None,
) -> bool:
    """Measure what a baseline file names and say what moved.

    Args:
        file: the baseline.
        given: fields of `CheckConfig` that the user named, "methods" as names, "ratio" and "match" for all of them.
            With ``update`` they change the file; without, they must be what the file says.
        write_out: prints the findings.
        update: accept what was measured: write the file.
        junit: file for the findings as JUnit XML.
        data_root: as in `RunConfig`; no part of the file.

    Returns:
        Whether something moved beyond its tolerance (never with ``update``).

    Raises:
        MeteorBenchError: the file is missing, broken or of something else; a method cannot run.
    """
    from meteor_bench.runs.regression.compare import compare
    from meteor_bench.runs.regression.tables import as_junit, document
    from meteor_bench.utils.atomic_io import write_whole

    started = perf_counter()
    old = None if update and not file.exists() else read(file)
    check_value("data_root", data_root)
    config = _configured(file, old.config if old else None, given, update=update)
    _validate(file, config)
    comparable = old if old and old.config == config else None
    tolerances = old.tolerances if old else Tolerances()
    now = _measure(file, config, comparable, tolerances, update=update, data_root=data_root)
    findings = []
    if comparable and comparable.data == now.data:
        for cell, was in comparable.cells.items():
            findings += compare(cell, was, now.cells[cell], now.tolerances)
        if junit:
            write_whole(junit, as_junit(findings, perf_counter() - started))
    failed = any(finding.failed for finding in findings)
    after = []
    if old and failed and now.made != old.made:
        after.append(f"the baseline was made with {_told(old.made)}; this is {_told(now.made)}")
    if update:
        write(file, now)
        after.append(str(file))
    write_out(document(findings, after))
    return failed and not update


def _configured(file: Path, old: CheckConfig | None, given: Mapping[str, Any], *, update: bool) -> CheckConfig:
    """What to run: the file's settings, with the user's where they may change them."""
    named = dict(given)
    methods, ratio, match = (named.pop(name, None) for name in ("methods", "ratio", "match"))
    if methods is not None or ratio is not None or match is not None or old is None:
        default = METHODS if old is None else tuple(s.method for s in old.methods)
        share: float = RATIO if ratio is None else ratio
        of: Measure = "tokens" if match is None else match
        named["methods"] = tuple(Setting(name, ratio=share, match=of) for name in methods or default)
    if "suite" in named and "tasks" not in named and old and old.tasks:
        named["tasks"] = ()  # tasks win over a suite
    if old is None:
        return CheckConfig(**named)
    for name, value in named.items():
        found = getattr(old, name)
        if found != value and not update:
            raise RecordError(
                f"{file} is of {name} {_shown(found)}, not {_shown(value)}; leave --{name.replace('_', '-')} out, "
                "or make another baseline with --update"
            )
    return replace(old, **named)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(v.label if isinstance(v, Setting) else str(v) for v in value) or "none"
    return str(value)


def _validate(file: Path, config: CheckConfig) -> None:
    """Every name and range, before anything heavy is imported."""
    for setting in config.methods:
        if setting.method == "none":
            raise ConfigError(f"{file}: the unpruned model is always measured; take 'none' out of the methods")
    for setting in config.settings:
        try:
            config.run(setting).validate()
            if any(row.metric == AGREEMENT for row in resolve(config.suite, config.tasks)):
                raise ConfigError("a folder of pictures has no answers that could turn wrong; check needs some")
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from None


def _measure(
    file: Path,
    config: CheckConfig,
    old: Baseline | None,
    tolerances: Tolerances,
    *,
    update: bool,
    data_root: Path | None,
) -> Baseline:
    """All cells as they are now, each beside the unpruned model."""
    detail("loading libraries and weights")
    from meteor_bench.runs.model_cache import ModelCache
    from meteor_bench.utils.environment import quiet_libraries

    quiet_libraries()
    from meteor_bench.lmms.harness import load_evaluator
    from meteor_bench.lmms.inputs import Inputs
    from meteor_bench.runs.regression.measure import Subject
    from meteor_bench.runs.regression.timing import one_thread

    load_evaluator()
    cells: dict[str, Measured] = {}
    data: dict[str, str] = {}
    shared, unpruned = ModelCache(), None
    alone = one_thread() if config.device == "cpu" else nullcontext()
    with track("check", len(config.settings)) as progress, alone:
        for setting in config.settings:
            subject = Subject(config, setting, shared, unpruned, Inputs(data_root))
            was = old.cells[setting.label] if old else None
            if was and not update and was.checkpoint != subject.checkpoint:
                raise RecordError(
                    f"{file}: {setting.label} was measured on {was.checkpoint}, this is {subject.checkpoint}; "
                    "make the baseline again with --update"
                )
            results = subject.answer()
            if not data:
                data = {result.task: result.data_digest[:16] for result in results}
                if old and not update:
                    _same_documents(file, old, data)
            cells[setting.label] = subject.measure(
                results, None if update or was is None else _settled(was, tolerances)
            )
            unpruned = unpruned or subject
            progress(len(cells))
        assert unpruned is not None
        made = unpruned.environment()
    return Baseline(FORMAT, config, tolerances, cells, data, made, complete=True)


def _same_documents(file: Path, old: Baseline, data: Mapping[str, str]) -> None:
    different = sorted(task for task in data if data[task] != old.data.get(task))
    if different:
        raise RecordError(
            f"{file} was made with other documents of {', '.join(different)} than are here; make it again with --update"
        )


def _settled(was: Measured, tolerances: Tolerances) -> Settled:
    """Times are believed at once unless they would fail."""
    from meteor_bench.runs.regression.compare import too_slow

    return lambda now: not too_slow(was.latency, now, tolerances)


def _told(made: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in made.items())
