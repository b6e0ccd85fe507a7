"""The two phases of training: the language model on labels, then fusion and language model on cached features.

What the pocket models' phases are made of does the work: curriculum, packed questions, optimiser, clock, symbols.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from meteor_bench.models.natural.modules import NaturalConfig
from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts.natural.cache import Cache
from scripts.natural.seeing import NaturalModel, SharedModel
from scripts.natural.world import FAMILIES, FAMILY_KIND, make, split_rng
from scripts.pocket.batches import Curriculum, Packed, choose_questions, labels_of, learn, pack, right_answers
from scripts.pocket.loop import Progress, log
from scripts.pocket.optim import MasterWeights
from scripts.pocket.sample import CHAR, KIND, Sample
from scripts.pocket.scores import scored
from scripts.pocket.stages import take
from scripts.pocket.symbolic import answer_logits, choose_cells, gather_cells

SYMBOLIC_RATE, JOINT_RATE = 1.5e-3, 1.5e-3
KEPT = (0.15, 0.7)  # share of the visual tokens that stay where some are dropped
NOISE = 0.1  # on symbols
EVERY = 10.0  # minutes between looks at the calibration pictures


def some_cells(rng: np.random.Generator, batch: int, total: int, keep: float) -> Tensor:
    """Index [batch, k] of a uniformly random share of the tokens, in order: neutral to every method."""
    return torch.as_tensor(rng.random((batch, total))).topk(round(total * keep), dim=1).indices.sort(dim=1).values


def thinned(labels: Tensor, rng: np.random.Generator) -> Tensor:
    """Cells of things and signs dropped at random, those of characters not: what a pruned picture may look like."""
    gone = torch.as_tensor(rng.random((len(labels), labels.shape[2])) < rng.uniform(0, 0.7, (len(labels), 1)))
    return labels.masked_fill((gone & (labels[:, CHAR] == 0) & (labels[:, KIND] > 0))[:, None], 0)


def train_symbolic(
    folder: Path,
    tokenizer: PocketTokenizer,
    config: NaturalConfig,
    minutes: float,
    seed: int,
    batch: int,
    questions: int,
) -> None:
    """The pocket model's Llama on labels of natural pictures that are not drawn."""
    torch.manual_seed(seed)
    progress = Progress("symbolic", folder, minutes, families=FAMILIES)
    model = SharedModel(config, tokenizer)
    saved = progress.resume()
    if not saved:
        model.start_from_pocket(tokenizer)
    parts = ["vlm.decoder", "vlm.fusion.image", "vlm.fusion.video", "symbols"]
    weights, curriculum = MasterWeights(model, SYMBOLIC_RATE, parts), Curriculum(FAMILY_KIND)
    if saved:
        weights.restore(saved)
        curriculum.load(saved["curriculum"])
    rng = split_rng("train", 20_000_000 + seed * 1_000_003 + progress.step)
    while progress.goes_on:
        kinds = rng.choice(curriculum.kinds, batch, p=curriculum.kind_probabilities())
        samples = [make(str(kind), rng, "train", draw=False) for kind in kinds]
        asked = [choose_questions(sample, rng, curriculum, questions) for sample in samples]
        labels, clips = thinned(labels_of(samples), rng), torch.tensor([sample.is_clip for sample in samples])
        packed = pack(asked, tokenizer, FAMILIES)
        index = choose_cells(labels, rng)
        plain = model.symbols(gather_cells(labels, index), model.embedding)
        visual = plain + NOISE * torch.randn_like(plain) + take(model.tables(clips), index)
        logits = answer_logits(model.vlm.decoder, visual, index, model.total, packed)
        F.cross_entropy(logits, packed.target[packed.target >= 0]).backward()
        norm = weights.step(progress.factor)
        families, right = right_answers(packed, logits.argmax(-1))
        curriculum.record(families, right)
        progress.count(batch, families, right, norm=norm, tokens=float(index.shape[1]))
        progress.line()
        progress.save({**weights.state(), "curriculum": curriculum.state()})


def report(model: NaturalModel, tokenizer: PocketTokenizer, calibration: Cache) -> None:
    """Scores on the calibration pictures, with all tokens."""
    model.eval()
    scores = scores_of(model, tokenizer, calibration)
    log.info("%s EVAL %.3f %s", model.phase, np.mean(list(scores.values())), json.dumps(scores))
    model.train()


def train_joint(
    folder: Path,
    tokenizer: PocketTokenizer,
    model: NaturalModel,
    caches: tuple[Cache, Cache],
    minutes: float,
    seed: int,
    batch: int,
    questions: int,
) -> None:
    """What a model trains on cached features, tokens dropped in most of the steps: at random, or by METEOR's stages."""
    torch.manual_seed(seed)
    progress = Progress(model.phase, folder, minutes, decay_from=0.4, families=FAMILIES)
    saved = progress.resume()
    if saved:
        model.load_state_dict(saved["model"], strict=False)  # before the masters, which copy what they find
    else:
        model.start(folder)
    weights, curriculum = MasterWeights(model, JOINT_RATE, model.parts), Curriculum(FAMILY_KIND)
    if saved:
        weights.restore(saved)
        curriculum.load(saved["curriculum"])
    frozen = {n: p for n, p in model.state_dict().items() if n not in weights.masters}
    train, calibration = caches
    calibration.refresh()
    rng = split_rng("train", 30_000_000 + seed * 1_000_003 + progress.step)
    last = progress.elapsed
    while progress.goes_on:
        if progress.step % 200 == 0 or not train.samples:
            log.info("%d pictures", train.refresh())
        kinds = rng.choice(curriculum.kinds, batch, p=curriculum.kind_probabilities())
        chosen = [int(rng.choice(train.kinds[str(kind)])) for kind in kinds]
        which, keep = rng.random(), float(rng.uniform(*KEPT))
        prune, staged = which < model.stages + model.dropping, which < model.stages
        numbers, results = dict[str, float](), []
        for clip in (False, True):
            part = [i for i in chosen if train.samples[i].is_clip == clip]
            if not part:
                continue
            samples = [train.samples[i] for i in part]
            features = train.features(part)
            if staged:
                visual = model.through_stages(features, train.staged(part), clip, rng)
            else:
                index = some_cells(rng, len(part), model.total, keep) if prune else None
                visual = model.look(features, clip, index)
            packed = pack([choose_questions(s, rng, curriculum, questions) for s in samples], tokenizer, FAMILIES)
            logits = answer_logits(model.vlm.decoder, visual.tokens, visual.index, model.total, packed)
            align = model.align_loss(visual, samples, features)
            results.append(learn(logits, packed, len(part) / batch, numbers, align=align, weight=model.align))
        families, right = (np.concatenate(r) for r in zip(*results, strict=True))
        if not prune:  # what dropping made unanswerable says nothing about what to practise
            curriculum.record(families, right)
        norm = weights.step(progress.factor)
        progress.count(batch, None if prune else families, None if prune else right, norm=norm, **numbers)
        progress.line()
        if progress.elapsed - last > EVERY or progress.fraction == 1:
            last = progress.elapsed
            report(model, tokenizer, calibration)
        progress.save({**weights.state(), "model": frozen, "curriculum": curriculum.state()})


def few(sample: Sample) -> Sample:
    """The same with two questions of each family."""
    chosen = [[qa for qa in sample.qas if qa.family == family][:2] for family in FAMILIES]
    return replace(sample, qas=[qa for some in chosen for qa in some])


def scores_of(
    model: NaturalModel, tokenizer: PocketTokenizer, cache: Cache, *, keep: float = 1.0, blind: bool = False
) -> dict[str, float]:
    """Share of a cache's questions answered right, by family."""
    rng = np.random.default_rng(0)
    batches, at = [], {}
    for kind, index in cache.kinds.items():
        for start in range(0, len(index), 20):
            batches.append([few(cache.samples[i]) for i in index[start : start + 20]])
            at[id(batches[-1])] = (index[start : start + 20], kind == "clip")

    def logits(samples: list[Sample], packed: Packed) -> Tensor:
        index, clip = at[id(samples)]
        cells = some_cells(rng, len(index), model.total, 0.0 if blind else keep)
        visual = model.look(cache.features(index), clip, cells)
        return answer_logits(model.vlm.decoder, visual.tokens, visual.index, model.total, packed)

    return scored(tokenizer, batches, logits, FAMILIES)
