"""Training under CoMP's masks, and on the narrowed model afterwards: a low-rank addition to the shipped weights."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from meteor_bench.methods.comp import FACTS
from meteor_bench.models.pocket.modules import PocketConfig, load_pocket
from meteor_bench.models.pocket.narrow import cuts, narrow
from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from meteor_bench.utils.atomic_io import write_whole
from scripts.comp.masked import Masked
from scripts.comp.search import Task
from scripts.comp.sites import VISUAL, sites
from scripts.pocket.batches import Curriculum, choose_questions, draw_samples, pack, right_answers
from scripts.pocket.joint import JointModel
from scripts.pocket.loop import Progress, log
from scripts.pocket.low_rank import LowRank, export_addition
from scripts.pocket.sample import Sample

__all__ = ["PREFIXES", "Trainer", "export", "fresh", "narrowed", "tune_on"]

PREFIXES = ("vlm.fusion", "vlm.decoder", *(f"vlm.towers.{name}.encoder" for name in "abc"))
FULL_SHARE = 0.15  # of the steps of the last phase: all tokens stay


def fresh(source: Path) -> JointModel:
    """The shipped model in float32, encoders to be trained as well."""
    model = JointModel(PocketConfig.load(source), PocketTokenizer(source / "tokenizer.json"), train_towers=True)
    model.vlm.load_state_dict(load_pocket(source).state_dict())
    return model


@dataclass
class Trainer:
    """Steps of training on drawn pictures; no distillation.

    Attributes:
        batch, questions: pictures of a step, and questions of each.
    """

    task: Task
    addition: LowRank
    batch: int
    questions: int
    rng: np.random.Generator
    curriculum: Curriculum
    steps: int = 0

    def step(self, tokens: int, factor: float = 1.0) -> tuple[float, np.ndarray, np.ndarray]:
        """One; its loss, and which questions (by family) were answered rightly."""
        samples = draw_samples(self.rng, self.batch, self.curriculum, draw=True, max_objects=9)
        results, total = [], 0.0
        for part in ([s for s in samples if not s.is_clip], [s for s in samples if s.is_clip]):
            if part:
                total += self._part(part, tokens, results)
        families, right = (np.concatenate(r) for r in zip(*results, strict=True))
        self.curriculum.record(families, right)
        self.addition.step(min(1.0, (self.steps + 1) / 10) * factor)
        self.steps += 1
        return total, families, right

    def _part(self, part: list[Sample], tokens: int, results: list[tuple[np.ndarray, np.ndarray]]) -> float:
        questions = [choose_questions(s, self.rng, self.curriculum, self.questions) for s in part]
        packed = pack(questions, self.task.tokenizer)
        logits = self.task.logits(part, packed, tokens)
        loss = F.cross_entropy(logits, packed.target[packed.target >= 0]) * len(part) / self.batch
        loss.backward()
        results.append(right_answers(packed, logits.argmax(-1)))
        return loss.item()


def narrowed(
    source: Path, keep: Mapping[str, Tensor], addition: LowRank, recipe: tuple[int, float]
) -> tuple[JointModel, LowRank]:
    """The shipped model without what was pruned, and what is left of the addition to it.

    Args:
        recipe: rank and learning rate of the addition.
    """
    state = sliced(addition.state(), fresh(source).vlm, keep)
    model = fresh(source)
    narrow(model.vlm, keep)
    slim = LowRank(model, PREFIXES, *recipe)
    slim.load(state)
    return model, slim


def sliced(state: Mapping[str, Tensor], vlm: nn.Module, keep: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An addition's factors for a model that is narrowed."""
    found = dict(state)
    for _, name, axis, index in cuts(vlm, keep):
        leaf, cut = ("weight.b", 0) if axis == 0 else ("weight.a", 1)
        found[f"vlm.{name}.{leaf}"] = found[f"vlm.{name}.{leaf}"].index_select(cut, index)
        if axis == 0 and f"vlm.{name}.bias.whole" in found:
            found[f"vlm.{name}.bias.whole"] = found[f"vlm.{name}.bias.whole"][index]
    return found


def tune_on(trainer: Trainer, folder: Path, tokens: int, minutes: float) -> Progress:
    """The last phase: the configuration is fixed; the checkpoint in `folder` is resumed.

    A part of the steps keeps more tokens than the configuration, so that other budgets work too.
    """
    progress = Progress("comp-tune", folder, minutes, decay_from=0.3)
    if saved := progress.resume():
        trainer.addition.resume(saved, trainer.curriculum)
    trainer.steps = progress.step
    while progress.fraction < 1:
        if trainer.rng.random() < FULL_SHARE:
            left = VISUAL
        else:
            left = round(math.exp(trainer.rng.uniform(math.log(0.7 * tokens), math.log(min(1.8 * tokens, VISUAL)))))
        loss, families, right = trainer.step(left, progress.factor)
        progress.count(trainer.batch, families, right, loss=loss)
        progress.line()
        progress.save(trainer.addition.saved(trainer.curriculum))
    return progress


def task_on(model: JointModel, tokenizer: PocketTokenizer, before: int, fixed: list[list[Sample]]) -> Task:
    """A model's questions, without masks on it."""
    return Task(model, Masked(model.vlm, sites(model.vlm)), tokenizer, before, fixed)


def export(addition: LowRank, keep: Mapping[str, Tensor], source: Path, target: Path, facts: Mapping[str, Any]) -> None:
    """What ships: the addition in fp16 and the units that stay, the configuration, and what the search found.

    Args:
        facts: `comp.json`; "before" is the layer of the language model that tokens are dropped before.
    """
    stay = {f"{name}.keep": units.contiguous() for name, units in keep.items() if not bool(units.all())}
    export_addition(addition, source, target, beside=stay)
    write_whole(target / FACTS, f"{json.dumps(facts, indent=1)}\n".encode())
    file = target / "model.safetensors"
    log.info("comp written to %s, %.2f MB", target, file.stat().st_size / 1e6)
