"""The training loop of phase 2, the same for both models."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from meteor_bench.models.pocket.modules import PocketConfig
from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts.pocket.batches import Curriculum, choose_questions, draw_samples, labels_of, learn, pack
from scripts.pocket.joint import JointModel, Visual, drop_at_random
from scripts.pocket.loop import Progress, log
from scripts.pocket.optim import MasterWeights
from scripts.pocket.sample import Sample
from scripts.pocket.scores import benchmark_scores, family_scores, score_samples
from scripts.pocket.stages import take
from scripts.pocket.symbolic import answer_logits, choose_cells, gather_cells, split_labels
from scripts.pocket.world import split_rng

LEARNING_RATE = 1.5e-3
READER = "vlm.towers.b"  # the tower that reads characters learns on, the others stay as phase 1b left them
ALIGN_WEIGHT = 0.3
FULL_SHARE = {"shared": 0.4, "independent": 0.25}  # share of the steps without any dropping
SYMBOLIC_SHARE = 0.2  # share of the steps on symbols, in the first half


@dataclass(frozen=True)
class JointRecipe:
    minutes: float = 46
    batch: int = 12
    questions: int = 10
    align_minutes: float = 3
    eval_every: float = 9
    per_kind: int = 25  # pictures of each kind in an evaluation


def look_all(
    model: JointModel, samples: list[Sample], rng: np.random.Generator, prune: bool
) -> tuple[list[Visual], list[list[Sample]]]:
    """Images and clips apart, each with its own random share of tokens."""
    parts = [part for part in ([s for s in samples if not s.is_clip], [s for s in samples if s.is_clip]) if part]
    visuals = []
    for part in parts:
        visual = model.look(part, rng if prune and not model.shared else None)
        if prune and model.shared:
            visual = drop_at_random(visual, rng, float(rng.uniform(0.2, 1)))
        visuals.append(visual)
    return visuals, parts


def symbolic_visual(model: JointModel, samples: list[Sample], rng: np.random.Generator) -> Visual:
    clips = torch.tensor([s.is_clip for s in samples])
    labels = labels_of(samples)
    if not model.shared:
        labels = split_labels(labels, clips, rng)
    index = choose_cells(labels, rng)
    plain = model.symbols(gather_cells(labels, index), model.embedding)
    return Visual(plain + take(model.tables(clips), index), plain, index)


def train_joint(folder: Path, tokenizer: PocketTokenizer, fusion: str, seed: int, recipe: JointRecipe) -> JointModel:
    torch.manual_seed(seed)
    name = f"joint-{fusion}"
    progress = Progress(name, folder, recipe.minutes, decay_from=0.4)
    model = JointModel(PocketConfig(fusion=fusion, vocab_size=len(tokenizer)), tokenizer, True)  # type: ignore[arg-type]
    saved = progress.resume()
    if saved:
        model.load_state_dict(saved["model"], strict=False)  # before the masters, which copy what they find
    else:
        symbolic, encoders = (
            torch.load(folder / f"{n}.pt", weights_only=True)["masters"] for n in ("symbolic", "encoders")
        )
        model.start_from(symbolic, encoders)
    weights = MasterWeights(model, LEARNING_RATE, ["vlm.fusion", "vlm.decoder", READER], slow=READER)
    curriculum = Curriculum()
    if saved:
        weights.restore(saved)
        curriculum.load(saved["curriculum"])
    frozen = {n: p for n, p in model.state_dict().items() if n not in weights.masters}
    fixed = score_samples(seed=1, per_kind=recipe.per_kind, split="eval")
    rng = split_rng("train", seed * 1_000_003 + progress.step + (1_000_000 if fusion == "shared" else 2_000_000))
    last_eval = progress.elapsed
    while progress.goes_on:
        aligning = progress.elapsed < recipe.align_minutes
        symbolic = not aligning and progress.fraction < 0.5 and rng.random() < SYMBOLIC_SHARE
        samples = draw_samples(rng, recipe.batch, curriculum, draw=not symbolic, max_objects=9)
        prune = rng.random() > FULL_SHARE[fusion]
        numbers: dict[str, float] = {}
        if aligning:
            visuals, parts = look_all(model, samples, rng, prune)
            loss = torch.stack([model.align_loss(v, p) for v, p in zip(visuals, parts, strict=True)]).mean()
            loss.backward()
            numbers["align"] = loss.item()
            families = right = None
        else:
            if symbolic:
                visuals, parts = [symbolic_visual(model, samples, rng)], [samples]
            else:
                visuals, parts = look_all(model, samples, rng, prune)
            results = []
            for visual, part in zip(visuals, parts, strict=True):
                packed = pack([choose_questions(s, rng, curriculum, recipe.questions) for s in part], tokenizer)
                logits = answer_logits(model.vlm.decoder, visual.tokens, visual.index, model.total, packed)
                name_of, align = ("symbol_loss", None) if symbolic else ("loss", model.align_loss(visual, part))
                share = len(part) / recipe.batch
                results.append(learn(logits, packed, share, numbers, name_of, align, ALIGN_WEIGHT))
            families, right = (np.concatenate(r) for r in zip(*results, strict=True))
            if not prune and not symbolic:  # what dropping made unanswerable says nothing about what to practise
                curriculum.record(families, right)
            else:
                families = right = None
        norm = weights.step(progress.factor)
        progress.count(recipe.batch, families, right, norm=norm, **numbers)
        progress.line()
        if not aligning and (progress.elapsed - last_eval > recipe.eval_every or progress.fraction == 1):
            last_eval = progress.elapsed
            report(model, tokenizer, fixed, name, complete=progress.fraction == 1)
        progress.save({**weights.state(), "model": frozen, "curriculum": curriculum.state()})
    return model


def report(
    model: JointModel, tokenizer: PocketTokenizer, batches: list[list[Sample]], name: str, complete: bool
) -> None:
    """Scores with all tokens; at the end also with a random 24 % of them and without any."""
    settings: dict[str, dict] = {"all tokens": {}}
    if complete:
        settings |= {"24 % kept": {"keep": 0.24}, "no vision": {"blind": True}}
    for label, options in settings.items():
        scores = family_scores(model, tokenizer, batches, **options)
        whole = benchmark_scores(scores)
        mean = np.mean(list(whole.values()))
        log.info("%s EVAL %s: %.3f %s families %s", name, label, mean, json.dumps(whole), json.dumps(scores))
