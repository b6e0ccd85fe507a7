"""Phase 3: the third stage of METEOR in the loop, on a low-rank addition to what the joint phase left.

Each question keeps the visual tokens that its own words attend to before language-model layer `LAYER`, as the method
does when it answers, and the layers behind it see those alone. What is trained is W + B A for the matrices of the
fusion and the decoder, so that the addition is small enough to ship beside the checkpoint that it is added to.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from meteor_bench.models.pocket.modules import PocketConfig, load_pocket
from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts.pocket.batches import (
    IGNORE,
    Curriculum,
    Packed,
    choose_questions,
    draw_samples,
    pack,
    right_answers,
)
from scripts.pocket.joint import JointModel, Visual
from scripts.pocket.loop import Progress, log
from scripts.pocket.low_rank import LowRank
from scripts.pocket.optim import working_dtype
from scripts.pocket.sample import Sample
from scripts.pocket.scores import benchmark_scores, score_samples, scored
from scripts.pocket.symbolic import answer_logits, prompt_of
from scripts.pocket.world import split_rng

LAYER, HEADS = 3, 2  # meteor's depth=0.6 of five layers, head_share=0.5 of three heads
CLAMP = (0.25, 4.0)
REFERENCE, POWER = 256, 0.4  # tokens that a ratio is of; meteor's fuse_power
MASKED = -1e4
Pick = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class ThroughRecipe:
    minutes: float = 60
    batch: int = 12
    questions: int = 8
    rank: int = 16
    rate: float = 2e-3
    full_share: float = 0.1
    eval_every: float = 8
    per_kind: int = 20


def question_rows(packed: Packed) -> Tensor:
    """[batch, T] bool: the tokens of a question as they stand in the prompt, the mark of the answer included."""
    wanted = packed.target != IGNORE
    before = F.pad(wanted[:, :-1], (1, 0)) & (packed.segment == F.pad(packed.segment[:, :-1], (1, 0)))
    return (packed.segment > 0) & ~(wanted & before)


def text_attention(layer: nn.Module, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor, start: int) -> Tensor:
    """[batch, heads, T, n] attention rows of the tokens from `start` on."""
    attention = layer.self_attn
    normed = layer.input_layernorm(x)

    def heads(part: Tensor) -> Tensor:
        return part.unflatten(2, (-1, attention.head_dim)).transpose(1, 2)

    q, k = heads(attention.q_proj(normed)), heads(attention.k_proj(normed))
    q, k = apply_rotary_pos_emb(q, k, *rotary)
    scores = (q[:, :, start:] @ k.transpose(2, 3)).float() * attention.scaling + mask[:, :, start:].float()
    return scores.softmax(-1)


def choose(attention: Tensor, rows: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """The K tokens of each question, K by its attention mass: order [B, Q, most] in rising place, and which count.

    Args:
        attention: [B, H, T, N] of text to visual tokens.
        rows: [B, Q, T] bool, the rows of each question.
    """
    share = rows.float() / rows.sum(2, keepdim=True).clamp(min=1)
    by_head = torch.einsum("bhtn,bqt->bqhn", attention, share)
    value = by_head.sum(-1)
    chosen = torch.zeros_like(value).scatter_(2, value.topk(HEADS, dim=2).indices, 1.0)
    score = (by_head * chosen[..., None]).sum(2)
    mass, real = score.sum(-1), rows.any(2)
    mean = (mass * real).sum() / real.sum()
    n = attention.shape[3]
    k = (keep * mass / mean).round().clamp(max(1, CLAMP[0] * keep), min(n, CLAMP[1] * keep)).long()
    most = int(k.max())
    best = score.topk(most, dim=2)
    place, at = best.indices.sort(dim=2)
    return place, at < k[..., None]


def through_logits(
    model: JointModel, visual: Visual, packed: Packed, keep: int, *, layer: int = LAYER, pick: Pick = choose
) -> Tensor:
    """Logits at the positions with a target, in `packed`'s order; every question with `keep` tokens from `layer` on.

    Args:
        pick: arguments and result as of `choose`; it sees the attention of the layer before.
    """
    decoder = model.vlm.decoder.model
    batch, n = visual.index.shape
    x, positions, mask = prompt_of(model.vlm.decoder, visual.tokens, visual.index, model.total, packed)
    rotary = decoder.rotary_emb(x, positions)
    for early in decoder.layers[: layer - 1]:
        x = early(x, attention_mask=mask, position_ids=positions, position_embeddings=rotary)
    last = decoder.layers[layer - 1]
    with torch.no_grad():
        attention = text_attention(last, x, rotary, mask, 1 + n)[..., 1 : 1 + n]
    x = last(x, attention_mask=mask, position_ids=positions, position_embeddings=rotary)

    count = int(packed.segment.max())
    mine = packed.segment[:, None] == torch.arange(1, count + 1)[None, :, None]  # [B, Q, T]
    place, real = pick(attention, mine & question_rows(packed)[:, None], keep)
    length = int(mine.sum(2).max())
    text = (mine.float() - torch.arange(mine.shape[2]) * 1e-4).topk(length, dim=2).indices.sort(dim=2).values
    there = mine.gather(2, text)  # padding of a shorter question comes from its neighbours and is masked

    def rows(of: Tensor, at: Tensor, offset: int) -> Tensor:
        wide = of[:, None].expand(-1, count, *of.shape[1:])
        return wide.gather(2, (at + offset)[..., None].expand(*at.shape, of.shape[2])).flatten(0, 1)

    first = x[:, :1].repeat_interleave(count, 0)
    y = torch.cat([first, rows(x, place, 1), rows(x, text, 1 + n)], dim=1)
    where = positions[..., None]
    at = torch.cat([where[:, :1].repeat_interleave(count, 0), rows(where, place, 1), rows(where, text, 1 + n)], 1)
    at = at.squeeze(2)
    seen = torch.cat([torch.ones(batch * count, 1).bool(), real.flatten(0, 1), there.flatten(0, 1)], 1)
    # Text indices rise within a question, so does its place: causal by order of the row.
    order = torch.arange(y.shape[1])
    allowed = (order[:, None] >= order[None]) & seen[:, None]
    allowed |= torch.eye(y.shape[1]).bool()  # a row that does not count sees itself, lest its softmax be of nothing
    bias = torch.zeros(allowed.shape, dtype=y.dtype).masked_fill_(~allowed, MASKED)[:, None]
    rotary = decoder.rotary_emb(y, at)
    for late in decoder.layers[layer:]:
        y = late(y, attention_mask=bias, position_ids=at, position_embeddings=rotary)
    y = decoder.norm(y[:, -length:]).unflatten(0, (batch, count))
    flat = torch.zeros(batch, mine.shape[2], y.shape[3], dtype=y.dtype)
    b, q, t = there.nonzero(as_tuple=True)
    flat = flat.index_put((b, text[b, q, t]), y[b, q, t])
    return (flat[packed.target >= 0] @ decoder.embed_tokens.weight.T).float()


def logits_at(
    samples: list[Sample], packed: Packed, *, model: JointModel, rng: np.random.Generator, keep: float | None
) -> Tensor:
    """Logits under all three stages at a share: stage 1 at random ratios, stage 2 at what meteor gives at this share.

    None: without any pruning.
    """
    if keep is None:
        visual = model.look(samples)
        return answer_logits(model.vlm.decoder, visual.tokens, visual.index, model.total, packed)
    visual = model.look(samples, rng, stage2=max(round(REFERENCE * keep**POWER), 1))
    return through_logits(model, visual, packed, round(REFERENCE * keep))


def train_through(folder: Path, source: Path, seed: int, recipe: ThroughRecipe) -> LowRank:
    """Train on from the weights in `source`; the checkpoint in `folder` is resumed."""
    torch.manual_seed(seed)
    tokenizer = PocketTokenizer(source / "tokenizer.json")
    model = JointModel(PocketConfig.load(source), tokenizer)
    model.vlm.load_state_dict(load_pocket(source).state_dict())
    progress = Progress("through", folder, recipe.minutes, decay_from=0.5)
    addition = LowRank(model, ("vlm.fusion", "vlm.decoder"), recipe.rank, recipe.rate)
    rotary = model.vlm.decoder.model.rotary_emb
    frequencies = rotary.inv_freq.clone()
    model.to(working_dtype())
    rotary.inv_freq = frequencies  # rounding the rotary frequencies ruins long positions
    curriculum = Curriculum()
    if saved := progress.resume():
        addition.resume(saved, curriculum)
    fixed = score_samples(seed=11, per_kind=recipe.per_kind, split="eval")
    rng = split_rng("train", seed * 1_000_003 + progress.step + 3_000_000)
    last_eval = progress.elapsed
    if not saved:
        report(model, tokenizer, fixed)
    while progress.goes_on:
        samples = draw_samples(rng, recipe.batch, curriculum, draw=True, max_objects=9)
        full = rng.random() < recipe.full_share
        drawn = float(np.exp(rng.uniform(math.log(0.07), math.log(0.6))))
        numbers: dict[str, float] = {}
        results = []
        for part in ([s for s in samples if not s.is_clip], [s for s in samples if s.is_clip]):
            if not part:
                continue
            packed = pack([choose_questions(s, rng, curriculum, recipe.questions) for s in part], tokenizer)
            logits = logits_at(part, packed, model=model, rng=rng, keep=None if full else drawn)
            loss = F.cross_entropy(logits, packed.target[packed.target >= 0])
            numbers["loss"] = loss.item()
            (loss * len(part) / recipe.batch).backward()
            results.append(right_answers(packed, logits.argmax(-1)))
        families, right = (np.concatenate(r) for r in zip(*results, strict=True))
        if full:
            families = right = None
        else:
            curriculum.record(families, right)
        norm = addition.step(progress.factor)
        progress.count(recipe.batch, families, right, norm=norm, **numbers)
        progress.line()
        if progress.elapsed - last_eval > recipe.eval_every or progress.fraction == 1:
            last_eval = progress.elapsed
            report(model, tokenizer, fixed)
        progress.save(addition.saved(curriculum))
    return addition


def report(model: JointModel, tokenizer: PocketTokenizer, batches: list[list[Sample]]) -> None:
    for keep in (None, 0.24, 0.11):
        logits = partial(logits_at, model=model, rng=np.random.default_rng(0), keep=keep)
        found = scored(tokenizer, batches, logits)
        whole = benchmark_scores(found)
        mean = np.mean(list(whole.values()))
        log.info("through EVAL keep %s: %.3f %s families %s", keep, mean, json.dumps(whole), json.dumps(found))
