"""What `meteor-bench show` does: build a session for each setting, watch it answer, draw."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meteor_bench.config.run_config import RunConfig, load
from meteor_bench.config.yaml_settings import Parameter, once, parameter
from meteor_bench.core.errors import ConfigError
from meteor_bench.data.own_pictures import AGREEMENT
from meteor_bench.runs.agreement import same
from meteor_bench.utils.atomic_io import check_writable, write_whole
from meteor_bench.utils.progress import say

if TYPE_CHECKING:
    from PIL.Image import Image

    from meteor_bench.lmms.document import Document
    from meteor_bench.runs.patches.trace_sample import Shown

__all__ = ["Watched", "named", "settings", "show", "told", "write_png"]


@dataclass(frozen=True)
class Watched:
    """A document under several settings."""

    document: Document
    unpruned: Shown
    shown: Sequence[Shown]
    path: Path


def settings(
    methods: Sequence[str], ratios: Sequence[float], parameters: Sequence[str], shared: Mapping[str, Any]
) -> list[RunConfig]:
    """Every method at every ratio.

    Args:
        parameters: "name=value", or "method:name=value" where several methods are given.
        shared: other fields of `RunConfig`.

    Raises:
        ConfigError: a parameter names no method of the list, or a value is wrong.
    """
    methods = list(dict.fromkeys(methods))
    own: dict[str, list[Parameter]] = {method: [] for method in methods}
    for text in parameters:
        method, colon, rest = text.partition(":")
        if not colon or "=" in method:
            if len(methods) > 1:
                raise ConfigError(f"--param {text}: say whose it is, --param {methods[0]}:{text}")
            method, rest = methods[0], text
        if method not in own:
            raise ConfigError(f"--param {text}: no --method {method} is given")
        own[method].append(parameter(rest))
    every = [(method, ratio) for method in methods for ratio in dict.fromkeys(ratios)]
    return [load(None, {**shared, "method": m, "ratio": r, "parameters": once(own[m])}) for m, r in every]


def show(sample: str, configs: Sequence[RunConfig], out: Path | None) -> Watched:
    """Watch a document under each setting and the unpruned model, and write the sheet.

    Args:
        sample: "pocket_gqa/12", or "photos.jsonl/12" of a file of questions.
        out: a PNG file; by default named after the sample, in the working directory.

    Raises:
        MeteorBenchError: something the user can put right.
    """
    sample = _called(sample)
    path = out or Path(sample.replace("/", "-") + ".png")
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--out must end in .png, not {path.name}")
    check_writable(path.parent)
    say("loading libraries and weights")
    from meteor_bench.data.calibration import calibration_requests
    from meteor_bench.lmms.document import find, parse
    from meteor_bench.lmms.inputs import Inputs
    from meteor_bench.runs.model_cache import ModelCache
    from meteor_bench.runs.patches.figure import sheet
    from meteor_bench.runs.patches.trace_sample import watch
    from meteor_bench.utils.environment import quiet_libraries

    quiet_libraries()
    parse(sample, configs[0].data_root)
    shown: list[Shown] = []
    models = ModelCache()
    document: Document | None = None
    for config in (configs[0].unpruned(), *configs):
        session = models.blueprint(config).session(calibration_requests)
        document = document or find(sample, session, Inputs.of(config))
        shown.append(watch(session, document, named(config)))
    assert document is not None
    unpruned, *others = shown
    if document.benchmark.metric == AGREEMENT:  # nobody says what is right
        document = replace(document, target=unpruned.answer)
        others = [replace(one, score=float(same(one.answer, unpruned.answer))) for one in others]
    write_png(sheet(document, unpruned, others), path)
    return Watched(document, unpruned, others, path)


def _called(sample: str) -> str:
    """A sample by its benchmark's name, where the user gave a file of questions or a folder of pictures."""
    from meteor_bench.data.own_questions import is_file
    from meteor_bench.data.suites import benchmark, task_names

    file, slash, number = sample.rpartition("/")
    if slash and file not in task_names() and Path(file).is_dir():
        file = f"{file}/"  # of pictures
    return f"{benchmark(file).task}/{number}" if slash and is_file(file) else sample


def named(config: RunConfig) -> str:
    """The setting with its ratio: "fastv(layer=2) 0.76"."""
    return config.label if config.method == "none" else f"{config.label} {config.share}"


def told(watched: Watched) -> list[str]:
    """The question and the answers, a line each."""
    document = watched.document
    whose = "the unpruned model's" if document.benchmark.metric == AGREEMENT else "reference"
    lines = [f"{document.name}: {document.request.question}", f"{whose} answer: {document.target}"]
    for one in (watched.unpruned, *watched.shown):
        tokens = f"{one.tokens['final']} of {one.tokens['reference']} visual tokens"
        lines.append(f"{one.label}: {one.answer or '(nothing)'} (score {one.score:g}, {tokens})")
    return lines


def write_png(picture: Image, path: Path) -> None:
    """Write a picture; never half of it.

    Raises:
        RecordError: it cannot be written.
    """
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    write_whole(path, stream.getvalue())
