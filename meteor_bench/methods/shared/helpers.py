"""Small vectorised pieces shared by the methods. Pure functions: tensors in, tensors out, shapes stated.

Everything works row by row (a result never depends on the other rows of a batch) and ignores padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.ends import nearest
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.host import on_device
from meteor_bench.core.pruner import Decision, FuseView, View
from meteor_bench.core.rows import to_mean, unit
from meteor_bench.core.tokens import Tokens

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = [
    "NO_CLIP_TEXT",
    "depth_points",
    "divide",
    "earlier_target",
    "evenly",
    "flatness",
    "frame_shares",
    "mean_text",
    "more_than_target",
    "nearest_kept",
    "noise",
    "one_each",
    "per_tower",
    "rank_of",
    "round_half_up",
    "shares",
    "similarity_to_mean",
    "split_total",
    "strided",
    "unit",
    "view_similarity",
    "widened",
]


AnyView = TypeVar("AnyView", bound=View)
NO_CLIP_TEXT = "the mean of the question's embeddings in the language model takes the place of CLIP's text tower"


def similarity_to_mean(x: Tensor, valid: Tensor | None) -> Tensor:
    """Cosine similarity of each token to the mean token of its row.

    Args:
        x: [B, N, D].
        valid: [B, N] bool, tokens that count; None: all.

    Returns:
        [B, N] float32; 0 where not valid.
    """
    if valid is None:
        return to_mean(x)
    x = x.float().masked_fill(~valid[..., None], 0.0)
    mean = x.sum(1) / valid.sum(1).clamp(min=1)[:, None]  # [B, D]
    return torch.einsum("bnd,bd->bn", unit(x), unit(mean))


def view_similarity(view: View) -> Tensor:
    """`similarity_to_mean` of a view's tokens."""
    return similarity_to_mean(view.tokens.x, view.candidates)


def round_half_up(x: Tensor) -> Tensor:
    """Nearest integer as long, halves upwards (torch rounds halves to even)."""
    return torch.floor(x.double() + 0.5).long()


def flatness(mass: Tensor, visual: Tensor | None, count: Tensor) -> Tensor:
    """[R] float64 on the CPU: entropy of visual tokens' shares of a mass, over that of equal shares; waits for a GPU.

    Args:
        mass: [R, N], not negative.
        visual: [R, N] bool; None: all.
        count: [R] long on the CPU, how many they are.
    """
    mass = mass.double() if visual is None else mass.double().masked_fill(~visual, 0.0)
    parts: Tensor = torch.special.entr(mass / mass.sum(1, keepdim=True).clamp(min=1e-300))
    return (parts.sum(1).cpu() / count.clamp(min=2).double().log()).clamp(max=1)


def earlier_target(view: View, power: float) -> Tensor:
    """[B] on the CPU, tokens to leave at a point before the last one: the share kept to a power, never below the end.

    Rounded as `TokenBudget.tokens` rounds, which plans the points.
    """
    budget = TokenBudget(view.keep**power)
    left = torch.tensor([budget.tokens(n) for n in view.reference.tolist()], dtype=torch.long)
    return torch.maximum(left, view.target)


def more_than_target(view: View, factor: float) -> Tensor:
    """[B] on the CPU, ``factor`` times the target, for a point before the last one; at most the unpruned number."""
    return torch.minimum(round_half_up(view.target.double() * factor), view.reference)


def widened(views: Mapping[str, AnyView], factor: float) -> dict[str, AnyView]:
    """Views whose budget is `more_than_target`."""
    return {name: view.changed(target=more_than_target(view, factor)) for name, view in views.items()}


def nearest_kept(x: Tensor, keep: Tensor, visual: Tensor | None) -> Tensor:
    """[B, N] for each visual token the kept one of the largest cosine, itself where it is kept; -1 where none is.

    Args:
        x: [B, N, D].
        keep: [B, N] bool, among the visual ones.
        visual: [B, N] bool; None: all (`View.candidates`).
    """
    if x.shape[1] == 0:
        return keep.long()
    v = unit(x)
    into = nearest(v @ v.transpose(1, 2), keep)
    return into if visual is None else into.masked_fill_(~visual, -1)


def one_each(tokens: Tokens) -> Tensor | None:
    """Weights of a merge in which all tokens count alike.

    None, the mean by size, where the host knows that every token stands for one cell: that costs a GPU less.
    """
    return torch.ones(tokens.x.shape[:2], device=tokens.x.device) if tokens.merged else None


def rank_of(visual: Tensor) -> Tensor:
    """[B, N] place of each visual token among its row's visual tokens; meaningless elsewhere."""
    return visual.cumsum(1) - 1


def strided(visual: Tensor, k: Tensor) -> Tensor:
    """Keep the middle token of each of k equal runs of the sequence.

    Of n tokens these are the places floor((i + 1/2)·n/k) for i < k.

    Args:
        visual: [B, N] bool.
        k: [B] long, at most the row's number of visual tokens (else all are kept).

    Returns:
        [B, N] bool.
    """
    n, k = visual.sum(1, keepdim=True).clamp(min=1), on_device(k, visual.device)[:, None]
    k = 2 * torch.minimum(k, n)
    # ceil(p·k/n - 1/2) of the places lie before p: one more lie before p + 1 where the division leaves less than k.
    return visual & ((n - k * rank_of(visual)) % (2 * n) < k)


def evenly(tokens: Tokens, k: Tensor) -> Tensor:
    """`strided` among a sequence's visual tokens, worked out on the CPU where the host knows that all tokens are.

    Args:
        k: [B] on the CPU.
    """
    if not tokens.plain:
        return strided(tokens.visual, k)
    return on_device(strided(torch.ones(len(k), tokens.x.shape[1], dtype=torch.bool), k), tokens.x.device)


def noise(view: View) -> Tensor:
    """[B, N] uniform numbers, one per cell of the unpruned grid, so that they do not depend on the batch's padding."""
    # One generator per row is the only way to make a row independent of its batch.
    cells = [torch.rand(view.tokens.grid.n, generator=g, device=g.device) for g in view.generators]
    drawn = on_device(torch.stack(cells), view.tokens.x.device)  # [B, G]
    if view.tokens.whole:
        return drawn
    return drawn.gather(1, view.tokens.origin.clamp(min=0))


def split_total(total: Tensor, weights: Mapping[str, Tensor | float], caps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`TokenBudget.split` for a batch: share totals in proportion to weights; the sums are exact.

    Largest remainder, ties to the earlier name; nobody gets more than its cap, what it cannot take goes to the others.

    Args:
        total: [B] long, as everything here on the CPU, where budgets are; clipped to the sum of the caps.
        weights: name -> [B] or a number, non-negative.
        caps: name -> [B] long.

    Returns:
        name -> [B] long.
    """
    names = list(caps)
    cap = torch.stack([caps[n] for n in names], 1)  # [B, L]
    weight = torch.stack(
        [torch.as_tensor(weights[n], dtype=torch.float64, device=cap.device).expand(cap.shape[0]) for n in names], 1
    )
    total = torch.minimum(total, cap.sum(1))
    share, free = torch.zeros_like(cap), cap > 0

    def ideal() -> Tensor:
        left = (total - share.sum(1))[:, None].double()
        mass = (weight * free).sum(1, keepdim=True)
        even = free.double() / free.sum(1, keepdim=True).clamp(min=1)
        return left * torch.where(mass > 0, weight * free / mass.clamp(min=1e-300), even)

    exact = ideal()
    for _ in names:  # each round fills at least one name
        full = free & (exact >= cap)
        if not bool(full.any()):
            break
        share, free = torch.where(full, cap, share), free & ~full
        exact = ideal()
    whole = exact.floor().long()
    rest = (total - share.sum(1) - whole.sum(1))[:, None]
    remainder = torch.where(free, exact - whole, -torch.ones_like(exact))
    order = remainder.argsort(dim=1, descending=True, stable=True)
    place = torch.empty_like(order).scatter_(1, order, torch.arange(len(names), device=cap.device).expand_as(order))
    share = share + whole + (place < rest).long()
    return {n: share[:, i] for i, n in enumerate(names)}


def divide(total: Tensor, weights: Tensor, caps: Tensor) -> Tensor:
    """[B, G] whole numbers in proportion to weights that add up to ``total`` [B]; see `split_total`.

    Args:
        weights, caps: [B, G], as everything here on the CPU.
    """
    names = [str(g) for g in range(caps.shape[1])]
    given = split_total(
        total,
        dict(zip(names, weights.double().unbind(1), strict=True)),
        dict(zip(names, caps.unbind(1), strict=True)),
    )
    return torch.stack([given[name] for name in names], 1)


def shares(views: Mapping[str, FuseView]) -> dict[str, Tensor]:
    """Our rule for single-encoder methods: the fuse point's total split in proportion to the towers' token counts."""
    counts = {name: view.tokens.counts() for name, view in views.items()}
    total = next(iter(views.values())).target
    return split_total(total, {n: c.double() for n, c in counts.items()}, counts)


def per_tower(views: Mapping[str, FuseView], rule: Callable[[FuseView, Tensor], Decision]) -> dict[str, Decision]:
    """Lift a rule for one sequence to all views of a fuse point; each gets its share [B], no more than it has."""
    share = shares(views)
    # A tower that an earlier stage emptied has nothing to decide about.
    return {
        name: rule(view, share[name]) if view.tokens.x.shape[1] > 0 else Decision(keep=view.tokens.visual)
        for name, view in views.items()
    }


def mean_text(view: FuseView) -> Tensor:
    """[B, D] mean of the question's token embeddings at a fuse point; padding is zero rows."""
    live = (view.text != 0).any(-1).sum(1).clamp(min=1)
    return view.text.sum(1) / live[:, None]


def depth_points(method: str, vlm: VLM, stops: Sequence[Fraction]) -> tuple[int, ...]:
    """Language-model layers at given shares of the model's depth, for layers published for another depth.

    Rounded to the nearest layer, halves up; each at least 1 and after the one before it.

    Raises:
        UnsupportedError: the model has too few layers.
    """
    depth, out = vlm.decoder.depth, [0]
    for share in stops:
        out.append(max(out[-1] + 1, floor(share * depth + Fraction(1, 2))))
    if out[-1] >= depth:
        raise UnsupportedError(
            f"{method} prunes before {len(stops)} layers after the first; '{vlm.name}' has {depth} layers"
        )
    return tuple(out[1:])


def frame_shares(view: View) -> dict[str, Tensor]:
    """Our rule at a tower point of an independent fusion: the frame's total [R], split as `shares` does."""
    sizes = {name: torch.full_like(view.target, grid.n) for name, grid in view.layout.grids.items()}
    return split_total(view.target, {name: n.double() for name, n in sizes.items()}, sizes)
