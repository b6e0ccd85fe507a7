"""Phase 4: long clips for the model of the shared fusion, as a low-rank addition to it and a table of frames.

The towers and the norms behind them stay as they are, so a clip is encoded once and asked about several times, with
other questions and other tokens dropped each time. Dropping is uniformly random, which favours no method. Clips grow
from 8 frames to 64 on the way.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from meteor_bench.models.pocket.modules import TOWERS, PocketVLM, SharedFusion, load_pocket, normalise
from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts.pocket.attention import use_lean_attention
from scripts.pocket.batches import Curriculum, pack, right_answers
from scripts.pocket.joint import Visual, drop_at_random
from scripts.pocket.long_clips import FAMILIES, LongClip, long_clip
from scripts.pocket.loop import Progress, log
from scripts.pocket.low_rank import LowRank
from scripts.pocket.sample import QA
from scripts.pocket.symbolic import answer_logits
from scripts.pocket.world import split_rng

CELLS = 16  # tokens of a frame
CHANGES = {"frames": 64, "pool": 2, "max_positions": 2048}  # of the configuration
TRAINED = ("fusion.mlp", "fusion.frame_positions", "fusion.cell_positions", "decoder")
# Up to which share of the time clips of which lengths are drawn, and how often each.
LENGTHS = ((0.12, {8: 0.5, 16: 0.5}), (0.35, {16: 0.6, 32: 0.4}), (1.0, {16: 0.35, 32: 0.5, 64: 0.15}))


@dataclass(frozen=True)
class ClipsRecipe:
    minutes: float = 48
    tokens: int = 1536  # of a batch, before any dropping
    questions: int = 10
    rank: int = 20
    rate: float = 2e-3
    full_share: float = 0.25
    keep: tuple[float, float] = (0.1, 0.6)
    fresh: float = 0.15  # share of the clips that are new; the others were asked about before
    store: int = 200  # clips of each length that are held
    eval_every: float = 99
    eval_clips: int = 12


@dataclass(frozen=True)
class Encoded:
    """A clip behind towers, norms and pooling: [frames x 16, 3 x tower_dim]."""

    x: Tensor
    qas: list[QA]


def start_model(source: Path) -> PocketVLM:
    """The shipped model with room for long clips; its tables begin as those of a clip of four frames, stretched."""
    model = load_pocket(source)
    fusion = model.fusion
    if not isinstance(fusion, SharedFusion):
        raise TypeError("long clips are for the shared fusion")
    table = fusion.video_positions.detach().clone()  # [4, 64, hidden]
    model.extend(replace(model.config, base=source.name, **CHANGES))
    frames, cells = table.mean(1), table.mean(0)
    stretched = F.interpolate(frames.T[None], size=CHANGES["frames"], mode="linear")[0].T
    pooled = F.avg_pool2d(cells.unflatten(0, (8, 8)).permute(2, 0, 1), CHANGES["pool"]).flatten(1).T
    with torch.no_grad():
        fusion.frame_positions.copy_(stretched - frames.mean(0))
        fusion.cell_positions.copy_(pooled)
    use_lean_attention(model.decoder, model.towers["a"], model.towers["c"])
    return model


@torch.no_grad()
def encode(model: PocketVLM, clips: list[LongClip]) -> list[Encoded]:
    """What the fusion's projector gets of each clip; clips of one length."""
    rows = normalise(torch.as_tensor(np.stack([clip.image for clip in clips])))
    seen = model.encode(rows)
    parts = []
    for name in TOWERS:
        x = model.fusion.norm[name](seen[name])  # type: ignore[union-attr,operator,index]
        side = round(x.shape[1] ** 0.5)
        planes = x.transpose(1, 2).unflatten(2, (side, side))
        parts.append(F.adaptive_avg_pool2d(planes, round(CELLS**0.5)).flatten(2).transpose(1, 2))
    joined = torch.cat(parts, -1).unflatten(0, (len(clips), -1)).flatten(1, 2)
    return [Encoded(x.clone(), clip.qas) for x, clip in zip(joined, clips, strict=True)]


def look(model: PocketVLM, clips: list[Encoded]) -> Visual:
    """Visual tokens of clips of one length, none dropped."""
    fusion = model.fusion
    plain = fusion.mlp(torch.stack([clip.x for clip in clips]))  # type: ignore[operator]
    table = fusion.long_positions(plain.shape[1] // CELLS).flatten(0, 1)  # type: ignore[operator]
    index = torch.arange(plain.shape[1]).expand(len(clips), -1)
    return Visual(plain + table, plain, index)


class Store:
    """Clips that were encoded before, by length; the oldest make room."""

    def __init__(self, model: PocketVLM, recipe: ClipsRecipe, rng: np.random.Generator, split: str) -> None:
        self.model, self.recipe, self.rng, self.split = model, recipe, rng, split
        self.held: dict[int, list[Encoded]] = {}

    def batch(self, frames: int) -> list[Encoded]:
        count = max(self.recipe.tokens // (frames * CELLS), 2)
        held = self.held.setdefault(frames, [])
        fresh = count if len(held) < 4 * count else int(self.rng.binomial(count, self.recipe.fresh))
        old = [held[i] for i in self.rng.permutation(len(held))[: count - fresh]]
        new = encode(self.model, [long_clip(self.rng, self.split, frames) for _ in range(fresh)]) if fresh else []
        held += new
        del held[: max(len(held) - self.recipe.store, 0)]
        return new + old


def draw_length(rng: np.random.Generator, fraction: float) -> int:
    shares = next(shares for until, shares in LENGTHS if fraction <= until)
    return int(rng.choice(list(shares), p=list(shares.values())))


def choose(clip: Encoded, rng: np.random.Generator, weights: dict[str, float], count: int) -> list[QA]:
    """Questions without replacement: by the weight of their family, shared among those that the clip has of it."""
    number = {qa.family: sum(other.family == qa.family for other in clip.qas) for qa in clip.qas}
    keys = [rng.random() ** (number[qa.family] / weights[qa.family]) for qa in clip.qas]
    return [clip.qas[i] for i in np.argsort(keys)[::-1][:count]]


def logits_of(model: PocketVLM, clips: list[Encoded], packed: object, keep: float, rng: np.random.Generator) -> Tensor:
    """Logits at the positions with a target, of a random share of the tokens (1: all, 0: none)."""
    visual = look(model, clips)
    total = visual.index.shape[1]
    if keep == 0:
        visual = Visual(visual.tokens[:, :0], visual.plain[:, :0], visual.index[:, :0])
    elif keep < 1:
        visual = drop_at_random(visual, rng, keep)
    return answer_logits(model.decoder, visual.tokens, visual.index, total, packed)  # type: ignore[arg-type]


def train_clips(folder: Path, source: Path, seed: int, recipe: ClipsRecipe) -> LowRank:
    """Train on from the weights in `source`; the checkpoint in `folder` is resumed."""
    torch.manual_seed(seed)
    tokenizer = PocketTokenizer(source / "tokenizer.json")
    model = start_model(source)
    start = {n: p.detach().clone() for n, p in model.named_parameters() if n in TRAINED[1:3]}
    with torch.no_grad():  # what they begin with is part of the addition
        for name in start:
            model.get_parameter(name).zero_()
    addition = LowRank(model, TRAINED, recipe.rank, recipe.rate, tables=True)
    with torch.no_grad():
        for name, value in start.items():
            addition.parts[name][0].copy_(value)
    addition.apply()
    progress = Progress("clips", folder, recipe.minutes, decay_from=0.4, families=FAMILIES)
    curriculum = Curriculum(dict.fromkeys(FAMILIES, "clip"))
    if saved := progress.resume():
        addition.resume(saved, curriculum)
    rng = split_rng("train", seed * 1_000_003 + progress.step + 4_000_000)
    store = Store(model, recipe, rng, "train")
    last_eval = progress.elapsed
    while progress.goes_on:
        clips = store.batch(draw_length(rng, progress.fraction))
        weights = curriculum.weights
        packed = pack([choose(clip, rng, weights, recipe.questions) for clip in clips], tokenizer, FAMILIES)
        keep = 1.0 if rng.random() < recipe.full_share else float(rng.uniform(*recipe.keep))
        logits = logits_of(model, clips, packed, keep, rng)
        loss = F.cross_entropy(logits, packed.target[packed.target >= 0])
        loss.backward()
        families, right = right_answers(packed, logits.argmax(-1))
        curriculum.record(families, right)
        norm = addition.step(progress.factor)
        progress.count(len(clips), families, right, loss=loss.item(), norm=norm)
        progress.line()
        if progress.elapsed - last_eval > recipe.eval_every or progress.fraction == 1:
            last_eval = progress.elapsed
            report(model, tokenizer, recipe)
        progress.save(addition.saved(curriculum))
    return addition


@torch.no_grad()
def scores(
    model: PocketVLM, tokenizer: PocketTokenizer, clips: list[Encoded], keep: float, at_once: int = 4
) -> dict[str, float]:
    """Share of right answers of each family: every token of chain and answer is the likeliest one."""
    rng = np.random.default_rng(0)
    right, asked = np.zeros(len(FAMILIES)), np.zeros(len(FAMILIES))
    for i in range(0, len(clips), at_once):
        part = clips[i : i + at_once]
        packed = pack([clip.qas for clip in part], tokenizer, FAMILIES)
        family, good = right_answers(packed, logits_of(model, part, packed, keep, rng).argmax(-1))
        np.add.at(right, family, good)
        np.add.at(asked, family, 1)
    return {f: round(float(r / n), 3) for f, r, n in zip(FAMILIES, right, asked, strict=True) if n}


def report(model: PocketVLM, tokenizer: PocketTokenizer, recipe: ClipsRecipe) -> None:
    """Scores on clips of 32 frames of the calibration split, which training never sees."""
    rng = split_rng("calib", 12)
    clips = encode(model, [long_clip(rng, "calib", 32) for _ in range(recipe.eval_clips)])
    for keep in (1.0, 0.24, 0.0):
        found = scores(model, tokenizer, clips, keep)
        mean = np.mean(list(found.values()))
        log.info("clips EVAL keep %s: %.3f families %s", keep, mean, json.dumps(found))
