"""Running the towers with tokens dropped inside them: at random (neutral) or by METEOR's stages 1 and 2.

Training pocket-independent applies METEOR's rules at random ratios, as the paper trains its models, so that any ratio
works later. Stage 2 compares projected tokens without their positions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meteor_bench.models.pocket.modules import TOWERS, tower_inputs

# (layer, tokens before it, tokens after it, leading special tokens) -> [rows, n], the highest stay
Score = Callable[[nn.Module, Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class Seen:
    """Features [rows, kept, d] of a tower and the grid cell [rows, kept] of each."""

    features: Tensor
    cells: Tensor


@dataclass(frozen=True)
class Point:
    keep: float
    score: Score


def keep_best(score: Tensor, keep: float) -> Tensor:
    """Index [rows, k] of the k best, in order."""
    kept = max(round(score.shape[1] * keep), 1)
    return score.topk(kept, dim=1).indices.sort(dim=1).values


def take(x: Tensor, index: Tensor) -> Tensor:
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))


def random_score(rng: np.random.Generator) -> Score:
    return lambda layer, before, after, special: torch.as_tensor(rng.random((after.shape[0], after.shape[1] - special)))


def unlike_mean(layer: nn.Module | None, before: Tensor, after: Tensor, special: int) -> Tensor:
    """METEOR, shallow: a token close to the mean token says little of its own."""
    x = after[:, special:].float()
    return -F.cosine_similarity(x, x.mean(1, keepdim=True), dim=-1)


def attention_of(layer: nn.Module, before: Tensor, queries: Tensor) -> Tensor:
    """Attention [rows, heads, queries, n] that the layer pays, from the tokens it was given."""
    attention = layer.self_attn
    normed = layer.layer_norm1(before)

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)

    q = heads(attention.q_proj(normed[:, queries]))
    k = heads(attention.k_proj(normed))
    return torch.softmax((q @ k.transpose(2, 3)).float() * attention.head_dim**-0.5, dim=-1)


def cls_attention(layer: nn.Module, before: Tensor, after: Tensor, special: int) -> Tensor:
    """METEOR, deep, with a CLS token: what CLS attends to."""
    return attention_of(layer, before, torch.tensor([0]))[:, :, 0, special:].mean(1)


def attention_received(layer: nn.Module, before: Tensor, after: Tensor, special: int) -> Tensor:
    """METEOR, deep, without a CLS token: what the other tokens attend to."""
    return attention_of(layer, before, torch.arange(before.shape[1])).mean(dim=(1, 2))[:, special:]


def run_layers(tower: nn.Module, x: Tensor, special: int, points: dict[int, Point]) -> tuple[Tensor, Tensor]:
    """Tokens [rows, special + n, d] through the layers, pruned at the end of the layers named (1 is the first)."""
    cells = torch.arange(x.shape[1] - special).expand(x.shape[0], -1)
    for number, layer in enumerate(tower.encoder.layers, start=1):
        before, x = x, layer(x, None)
        if number in points:
            point = points[number]
            index = keep_best(point.score(layer, before, x, special), point.keep)
            x = torch.cat([x[:, :special], take(x[:, special:], index)], dim=1)
            cells = cells.gather(1, index)
    return x, cells


def run_towers(
    towers: nn.ModuleDict, rows: Tensor, points: dict[str, dict[int, Point]]
) -> tuple[dict[str, Seen], Tensor]:
    """-> what each tower sees of [rows, 3, H, W], and the CLS token of tower a. Tower b is pruned at its output (0)."""
    pixels = tower_inputs(rows)
    a, b, c = (towers[name] for name in TOWERS)
    xa = a.pre_layrnorm(a.embeddings(pixels["a"], interpolate_pos_encoding=True))
    xa, at_a = run_layers(a, xa, 1, points.get("a", {}))
    xc, at_c = run_layers(c, c.embeddings(pixels["c"], interpolate_pos_encoding=True), 0, points.get("c", {}))
    xb = b(pixels["b"]).last_hidden_state.flatten(2).transpose(1, 2)
    at_b = torch.arange(xb.shape[1]).expand(xb.shape[0], -1)
    if 0 in points.get("b", {}):
        point = points["b"][0]
        index = keep_best(point.score(b, xb, xb, 0), point.keep)
        xb, at_b = take(xb, index), index
    seen = {"a": Seen(xa[:, 1:], at_a), "b": Seen(xb, at_b), "c": Seen(c.post_layernorm(xc), at_c)}
    return seen, a.post_layernorm(xa[:, 0])


def random_points(rng: np.random.Generator) -> dict[str, dict[int, Point]]:
    """Random dropping inside a and c, 25-100 % kept in all."""
    score = random_score(rng)
    keeps = rng.uniform(0.5, 1, 4)
    return {
        "a": {1: Point(keeps[0], score), 3: Point(keeps[1], score)},
        "c": {1: Point(keeps[2], score), 2: Point(keeps[3], score)},
    }


def meteor_points(rng: np.random.Generator) -> dict[str, dict[int, Point]]:
    """METEOR's stage 1 at random ratios."""
    keeps = rng.uniform(0.5, 1, 5)
    return {
        "a": {1: Point(keeps[0], unlike_mean), 3: Point(keeps[1], cls_attention)},
        "b": {0: Point(keeps[2], unlike_mean)},
        "c": {1: Point(keeps[3], unlike_mean), 2: Point(keeps[4], attention_received)},
    }


def least_redundant(tokens: dict[str, Tensor], keep: int, there: Tensor | None = None) -> Tensor:
    """METEOR's stage 2: index [batch, keep], in order, into the concatenated sequence.

    A token's redundancy is the sum of its cosine similarities to all tokens of the other encoders.

    Args:
        there: [batch, N], tokens that count, ``keep`` or more of each row; None: all.
    """
    units = {name: F.normalize(z.float(), dim=-1) for name, z in tokens.items()}
    if there is not None:
        parts = there.split([z.shape[1] for z in tokens.values()], 1)
        units = {name: u * part[..., None] for (name, u), part in zip(units.items(), parts, strict=True)}
    sums = {name: u.sum(1) for name, u in units.items()}
    total = torch.stack(list(sums.values())).sum(0)
    redundancy = torch.cat([torch.einsum("bnd,bd->bn", u, total - sums[name]) for name, u in units.items()], dim=1)
    if there is not None:
        redundancy = redundancy.masked_fill(~there, torch.inf)
    return (-redundancy).topk(min(keep, redundancy.shape[1]), dim=1).indices.sort(dim=1).values
