"""HoliTom: Holistic Token Merging for Fast Video LLMs (NeurIPS 2025, arXiv 2505.21334), section 3.

Before the language model. A position is static in a run of frames if all neighbours there are more alike than 0.8
(cosine). A dynamic programme cuts the clip into the runs that save most: the sum of (static positions)·(frames - 1),
a lone frame saving nothing. Static positions of a run are averaged over its frames and stand in its first one. What
is left of the budget after that is shared in proportion: of the other tokens of each frame those with the most
attention stay; of each run's averaged tokens the strongest density peaks (density over the 7 nearest, or as many as
there are peaks to find), which take in the others, each the nearest: ``0.6·peak + 0.4·mean of those``. That leaves
2·T tokens, a run's averaged ones before those of its frames. In the language model (before layer 18 of 28) the T stay
that the last prompt token attends to most, and every other one is merged into the most similar of them (cosine). A
picture is a run of one frame: attention alone.

Deviations:

1. The authors round up per frame, and to the nearest per run; here 2·T and T are exact (largest remainder). `first` is
   the factor between them.
2. Where a clip is so still that averaging leaves fewer than 2·T tokens, as many of the averaged ones stay by themselves
   as are missing, those least like their mean first.
3. In the language model a token becomes the plain mean of itself and all that it takes in. The authors' code halves
   what is there with each newcomer, so that the last counts half, the one before a quarter: `official_quirks`.
4. The share of a frame's tokens that would be clustered instead of chosen by attention is 0 as in their scripts, so
   that part is left out. No random noise on the densities: of two equal ones the lower index counts as denser.
5. Averaged tokens stand first as in the authors' code for LLaVA-OneVision; `order` = spatial puts them at their places
   in the run's first frame, as their code does where each row of the grid ends in a newline (LLaVA-Video). In the
   language model they keep the places that tokens had when they came in; here those that stay are counted anew.
6. On an independent fusion each encoder is pruned on its own, the budget split in proportion to the token counts; on a
   shared one the encoders' attention is averaged, see `methods.shared.selection`. A token that is gone is not static.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.host import on_device, places
from meteor_bench.core.pruner import Decision, DecodePoint, DecodeView, Fact, FuseView, Points, View
from meteor_bench.core.settings import Range, Share
from meteor_bench.methods.shared.clips import (
    Clip,
    ClipScorer,
    clip_of,
    cosine_to,
    decided,
    on_clip,
)
from meteor_bench.methods.shared.density import clustered
from meteor_bench.methods.shared.helpers import depth_points, divide, widened
from meteor_bench.methods.shared.late import taken_in
from meteor_bench.methods.shared.orders import AuthorsOrder
from meteor_bench.methods.shared.picks import best_of_groups
from meteor_bench.methods.shared.still import averaged, still_of, undone

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["HoliTom", "runs"]

LATE = Fraction(18, 28)
NEIGHBOURS = 7


def runs(alike: Tensor) -> list[range]:
    """The runs of frames in which averaging static positions saves most tokens.

    Of equal savings the shorter last run wins.

    Args:
        alike: [F - 1, P] bool on the CPU, whether a position is alike in neighbouring frames.
    """
    frames = len(alike) + 1
    saves = [[0] * frames for _ in range(frames)]
    for a in range(frames - 1):
        for gap, static in enumerate(alike[a:].long().cumprod(0).sum(1).tolist(), start=1):
            saves[a][a + gap] = static * gap
    best, start = [0] * (frames + 1), [0] * frames  # best[i]: of the first i frames
    for last in range(frames):
        best[last + 1], start[last] = best[last], last
        for a in range(last - 1, -1, -1):
            if best[a] + saves[a][last] > best[last + 1]:
                best[last + 1], start[last] = best[a] + saves[a][last], a
    found, last = [], frames - 1
    while last >= 0:
        found.append(range(start[last], last + 1))
        last = start[last] - 1
    return found[::-1]


class _Choice(NamedTuple):
    """Of one clip: what stays, where the rest ends, what each counts there, its sort key; [F·P] each."""

    keep: Tensor
    into: Tensor
    weight: Tensor
    order: Tensor


@dataclass(frozen=True)
class HoliTom(AuthorsOrder, ClipScorer):
    """Attributes are explained at the top of the file; see also `EncodeScorer`.

    Attributes:
        threshold: how alike (cosine) neighbours must be to be static.
        first: tokens that the language model gets, as a multiple of the budget.
        beta: how much a peak counts against those that it takes in.
        official_quirks: halve with each newcomer in the language model.
    """

    threshold: float = 0.8
    first: Annotated[float, Range(least=1)] = 2.0
    beta: Share = 0.6
    official_quirks: bool = False

    fact: ClassVar[Fact] = Fact(
        year=2025, paper="arXiv 2505.21334", stages=("encode", "fuse", "decode"), needs=("attention",)
    )
    positions: ClassVar[Literal["keep", "renumber"]] = "renumber"

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """The encoders' outputs, the projected tokens, late in the language model."""
        (layer,) = depth_points(self.title, vlm, (LATE,))
        return replace(super().points(vlm, budget), decode=(DecodePoint(before=layer, attention="last"),))

    def fuse(self, views: Mapping[str, FuseView]) -> Mapping[str, Decision]:
        """More than the budget; the rest of the work is the language model's."""
        return super().fuse(widened(views, self.first))

    def choose(self, view: View, score: Tensor, share: Tensor) -> Decision:
        """Average what is static, then share what is left."""
        tokens, counts = view.tokens, view.tokens.counts()
        if bool((share == counts).all()):
            return Decision(keep=tokens.visual)
        clip = clip_of(tokens)
        b, frames, cells = clip.shape
        alike = torch.zeros(b, 0, cells, dtype=torch.bool)
        if frames > 1:
            later = list(range(1, frames))
            alike = (cosine_to(clip, later, [f - 1 for f in later]) > self.threshold).cpu()
        salience = on_clip(clip, score).flatten(1)
        rows = [self._row(clip, row, alike[row], salience[row], int(share[row])) for row in range(b)]
        keep, into, weight, turn = (torch.stack(parts) for parts in zip(*rows, strict=True))
        order = None if self.ordered or frames == 1 else turn
        return decided(tokens, clip, keep, share, into=into, weight=weight, order=order)

    def _row(self, clip: Clip, row: int, alike: Tensor, salience: Tensor, total: int) -> _Choice:
        """One clip's tokens.

        Args:
            alike: [F - 1, P] bool on the CPU; salience: [F·P].
        """
        frames, x = clip.shape[1], clip.x[row].flatten(0, 1)
        device, found = x.device, runs(alike)
        nothing = torch.zeros(clip.shape[2], dtype=torch.bool)
        static = [alike[run[0] : run[-1]].all(0) if len(run) > 1 else nothing for run in found]
        still = still_of(clip.known[row], found, static)
        own = places(len(x), device)
        turn = torch.tensor([2 * r + 1 for r, run in enumerate(found) for _ in run]).repeat_interleave(clip.shape[2])
        for at in still.heads:
            turn[at] -= 1
        order = on_device(turn, device)
        if int(still.caps.sum()) <= total:
            into = undone(x, still, total)
            return _Choice(into == own, into, torch.ones_like(salience), order)
        mean, into = averaged(x, still)
        given = divide(torch.tensor([total]), still.caps[None], still.caps[None])
        frame = torch.arange(frames)[:, None].expand_as(still.moving).masked_fill(~still.moving, frames)
        keep = best_of_groups(salience[None], on_device(frame.flatten(), device)[None], given[:, :frames])[0]
        to = torch.where(keep, own, -1)  # where each head ends
        weight = 1 / on_device(still.length, device)
        for cells, peaks in zip(still.heads, given[0, frames:].tolist(), strict=True):
            if peaks == 0:
                continue
            at = on_device(cells, device)
            peak, nearest, _ = clustered(mean[at], peaks, min(NEIGHBOURS, peaks))
            joined = torch.zeros(len(at), device=device).index_add_(0, nearest, (~peak).float())
            counted = torch.where(joined > 0, self.beta, 1.0)
            counted = torch.where(peak, counted, (1 - self.beta) / joined[nearest].clamp(min=1))
            weight[at] = weight[at] * counted
            to[at], keep[at] = at[nearest], peak
        # Every frame of an averaged token goes where its first one does, and counts as much.
        return _Choice(keep, to[into], weight[into], order)

    def decode(self, view: DecodeView) -> Decision:
        """What the last prompt token looks at takes in the rest."""
        return taken_in(view, halved=self.official_quirks)
