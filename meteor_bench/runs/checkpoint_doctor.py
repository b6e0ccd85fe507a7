"""Whether a model can be run, before it is: a line for each thing that a checkpoint needs.

files ▸ licence ▸ memory ▸ keys (the weights are read) ▸ tokenizer ▸ template ▸ a two-token answer; what depends on one
that fails is not tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from meteor_bench.core.errors import MeteorBenchError
from meteor_bench.runs.doctor import Finding, State

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM, ModelCard

__all__ = ["examine_model"]

_GIB = 2**30
_QUESTION = "What is shown in the picture?"

Said = Iterator[tuple[State, str]]


def examine_model(model: str, *, device: str = "auto", dtype: str = "auto", source: str | None = None) -> list[Finding]:
    """All findings of a model.

    Args:
        model: row of `list models`, a composition's file, or a checkpoint's folder or hub id.
        source: folder or hub id of other weights for a row.

    Returns:
        In the order of the checks; the first that fails is the last but for a line that says what was not tried.

    Raises:
        MeteorBenchError: there is no such model or device.
    """
    from meteor_bench.core.pruner import Pruner
    from meteor_bench.engine.load_model import resolve_device, resolve_dtype, resolve_model
    from meteor_bench.utils.environment import quiet_libraries

    quiet_libraries()
    where = resolve_device(device)
    patient = _Patient(resolve_model(model, Pruner(), source), where, resolve_dtype(dtype, where), source)
    findings: list[Finding] = []
    checks = list(_CHECKS.items())
    for at, (what, check) in enumerate(checks):
        try:
            findings.extend(Finding(what, *said) for said in check(patient))
        except (MeteorBenchError, OSError) as error:
            findings.append(Finding(what, "fails", " ".join(str(error).split())))
        if findings and findings[-1].state == "fails":
            left = ", ".join(name for name, _ in checks[at + 1 :])
            return [*findings, Finding("the rest", "note", f"not tried: {left}")] if left else findings
    return findings


@dataclass
class _Patient:
    """What is looked at, and what of it is loaded so far."""

    card: ModelCard
    device: str
    dtype: str
    source: str | None
    folder: Path | None = None
    loaded: list[VLM] = field(default_factory=list)

    @property
    def vlm(self) -> VLM:
        return self.loaded[0]


def _files(patient: _Patient) -> Said:
    from meteor_bench.core.errors import ModelError
    from meteor_bench.models.checkpoint import shards
    from meteor_bench.models.locate import locate

    weights = patient.source or patient.card.weights
    if weights is None:
        if not patient.card.published:
            raise ModelError(f"no weights of '{patient.card.name}' are published; give a folder with --source")
        yield "ok", "the weights come with the package"
        return
    patient.folder = locate(weights, fetch=False)
    files = shards(patient.folder)
    size = sum(file.stat().st_size for file in files) / _GIB
    yield "ok", f"{patient.folder}: {len(files)} file{'s' * (len(files) > 1)} of weights, {size:.3g} GiB"


def _licence(patient: _Patient) -> Said:
    yield "note", patient.card.licence


def _memory(patient: _Patient) -> Said:
    import torch

    from meteor_bench.engine.load_model import DTYPES
    from meteor_bench.models.memory import free_bytes, weight_bytes

    free = free_bytes(patient.device)
    if patient.card.random is None or patient.device == "meta":
        yield "note", "unknown: the model cannot be built without its weights"
        return
    dtype = DTYPES[patient.dtype]
    with torch.inference_mode():
        skeleton = patient.card.random("meta", dtype)
    needed = sum(weight_bytes(part, dtype) for part in skeleton.modules().values())
    fits = free is None or needed < free
    there = "an unknown amount" if free is None else f"{free / _GIB:.3g} GiB"
    yield (
        ("ok" if fits else "fails"),
        f"{needed / _GIB:.3g} GiB for the weights in {patient.dtype}, {there} free on {patient.device}"
        + ("" if fits else "; take --dtype bfloat16, or another device"),
    )


def _keys(patient: _Patient) -> Said:
    from meteor_bench.engine.load_model import DTYPES

    patient.loaded.append(patient.card.build(patient.device, DTYPES[patient.dtype], patient.folder))
    total = sum(p.numel() for part in patient.vlm.modules().values() for p in part.parameters())
    yield "ok", f"every weight is there and finite, none is left over; {total / 1e9:.3g} G parameters"


def _tokenizer(patient: _Patient) -> Said:
    processor = patient.vlm.processor
    ids = processor.continuation("yes no 42")
    most = max(ids, default=0)
    known = getattr(patient.vlm.decoder, "vocabulary", None)  # a decoder of another package need not say
    if not ids:
        yield "fails", "it makes nothing of words; is the tokenizer of this checkpoint in the folder?"
    elif known is not None and most >= known:
        yield "fails", f"it gives id {most}, the language model knows {known}: a tokenizer of another model"
    else:
        ends = ", ".join(map(str, sorted(processor.eos))) or "none: answers end at their longest only"
        yield ("ok" if processor.eos else "note"), f"words become ids; an answer ends with {ends}"


def _template(patient: _Patient) -> Said:
    prompt = patient.vlm.processor.prompt(_QUESTION)
    yield "ok", f"{len(prompt.before)} ids before the picture, {len(prompt.after)} behind it, the question among them"


def _answer(patient: _Patient) -> Said:
    import time

    import numpy as np
    from PIL import Image

    from meteor_bench.core.budget import TokenBudget
    from meteor_bench.core.request import FAILED, Answer, Request
    from meteor_bench.engine.session import Session
    from meteor_bench.methods.none import NoPruning

    noise = np.random.default_rng(0).integers(0, 256, (*patient.vlm.native, 3), dtype=np.uint8)
    request = Request("doctor", "doctor", lambda: [Image.fromarray(noise)], _QUESTION, 2)
    answers: list[Answer] = []
    begun = time.perf_counter()
    session = Session(patient.vlm, NoPruning(), TokenBudget(1.0))
    session.answer([request], lambda _, answer: answers.append(answer))
    (answer,) = answers
    failed = next((note for note in answer.notes if note.startswith(FAILED)), None)
    if failed is not None:
        yield "fails", failed
    else:
        seen = answer.tokens["final"]
        yield (
            "ok",
            f"{seen} visual tokens of a picture of noise, '{answer.text}' in {time.perf_counter() - begun:.1f} s",
        )


_CHECKS: dict[str, Callable[[_Patient], Said]] = {
    "files": _files,
    "licence": _licence,
    "memory": _memory,
    "keys": _keys,
    "tokenizer": _tokenizer,
    "template": _template,
    "answer": _answer,
}
