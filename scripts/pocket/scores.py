"""Accuracy per question family on fresh pictures, with all tokens, without any, or with a random share."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts.pocket.batches import FAMILIES, Packed, pack, right_answers
from scripts.pocket.joint import JointModel, Visual, drop_at_random
from scripts.pocket.sample import Sample
from scripts.pocket.symbolic import answer_logits
from scripts.pocket.world import KINDS, make, split_rng

PER_SAMPLE = 8


def score_samples(seed: int, per_kind: int, split: str) -> list[list[Sample]]:
    """Batches of one kind each, a few questions of every family per picture."""
    rng = split_rng(split, seed)
    batches = []
    for kind in KINDS:
        samples = [make(kind, rng, split) for _ in range(per_kind * (2 if kind in ("scene", "scene_text") else 1))]
        for sample in samples:
            order = [sample.qas[i] for i in rng.permutation(len(sample.qas)) if sample.qas[i].benchmark]
            families = {qa.family for qa in order}
            limit = max(PER_SAMPLE // len(families), 1)
            sample.qas = [qa for f in sorted(families) for qa in [q for q in order if q.family == f][:limit]]
        batches += [samples[i : i + 25] for i in range(0, len(samples), 25)]
    return batches


def family_scores(
    model: JointModel,
    tokenizer: PocketTokenizer,
    batches: list[list[Sample]],
    *,
    keep: float = 1.0,
    blind: bool = False,
) -> dict[str, float]:
    """Scores with all tokens, a random share of them, or none."""
    rng = np.random.default_rng(0)

    def logits(samples: list[Sample], packed: Packed) -> Tensor:
        visual = model.look(samples)
        if blind:
            visual = Visual(visual.tokens[:, :0], visual.plain[:, :0], visual.index[:, :0])
        elif keep < 1:
            visual = drop_at_random(visual, rng, keep)
        return answer_logits(model.vlm.decoder, visual.tokens, visual.index, model.total, packed)

    return scored(tokenizer, batches, logits)


@torch.no_grad()
def scored(
    tokenizer: PocketTokenizer,
    batches: list[list[Sample]],
    logits: Callable[[list[Sample], Packed], Tensor],
    families: Sequence[str] = FAMILIES,
) -> dict[str, float]:
    """Share of questions whose every token, chain and answer, is the likeliest one: what greedy decoding would say.

    `logits` gives those at the positions with a target, of a batch and its questions.
    """
    right, asked = np.zeros(len(families)), np.zeros(len(families))
    for samples in batches:
        packed = pack([s.qas for s in samples], tokenizer, families)
        family, good = right_answers(packed, logits(samples, packed).argmax(-1))
        np.add.at(right, family, good)
        np.add.at(asked, family, 1)
    return {f: round(float(r / n), 3) for f, r, n in zip(families, right, asked, strict=True) if n and f != "helper"}


def benchmark_scores(scores: dict[str, float]) -> dict[str, float]:
    """The mean of its families, for every benchmark."""
    groups: dict[str, list[float]] = {}
    for family, score in scores.items():
        groups.setdefault(FAMILY_BENCHMARK[family], []).append(score)
    return {name: round(float(np.mean(values)), 3) for name, values in groups.items()}


FAMILY_BENCHMARK = {
    "color": "pocket_vqa", "shape": "pocket_vqa", "count": "pocket_vqa", "relation": "pocket_gqa",
    "neighbour": "pocket_gqa",
    "presence": "pocket_pope", "location": "pocket_seed", "size": "pocket_seed", "which": "pocket_mmbench",
    "sum": "pocket_scienceqa", "plate": "pocket_textvqa", "plate_color": "pocket_textvqa", "ocr": "pocket_ocrbench",
    "document": "pocket_docvqa", "bar": "pocket_chartqa", "extreme": "pocket_chartqa", "points_to": "pocket_ai2d",
    "pointed_by": "pocket_ai2d", "direction": "pocket_videomme",
    "order": "pocket_videomme", "before": "pocket_videomme",
}  # fmt: skip
