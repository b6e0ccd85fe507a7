"""FastVID: Dynamic Density Pruning for Fast Video LLMs (NeurIPS 2025, arXiv 2503.11187), section 3.

Before the language model. The clip is cut into segments: between the c - 1 = 7 pairs of neighbouring frames that are
least alike (cosine of their global features), and wherever neighbours are less alike than 0.9. A frame's part of the
budget is 60 % salient tokens, those with the most attention, which stay as they are, and 40 % contextual ones. The
contextual ones of a segment stand in every fourth of its frames, counted back from its last (the anchor frames), the
same number in each: of what is not salient there the strongest density peaks (density over the 4 nearest, itself among
them). Every token of the segment that is not salient joins, once for each anchor frame, the most similar peak in it
(cosine); a peak becomes ``w·itself + (1 - w)·mean`` of the c tokens that joined, itself included, with ``w = max(1/(c +
1), 0.6)``. Positions are kept. A picture is a segment of one frame, which is its own anchor frame.

Deviations:

1. The authors round down, per frame and per anchor frame; here a clip's tokens are exactly the budget: split evenly
   over frames and over a segment's anchor frames, the first take the remainder. What an anchor frame cannot hold goes
   to the segment's other anchor frames, then to its other frames.
2. A frame's global feature is the mean of its projected tokens, not the encoder's pooled output; salience is the class
   token's attention or, without one, the mean attention received, in place of the attention pooling head's.
3. No random noise on the densities: of two equal ones the lower index counts as denser.
4. Where a clip keeps everything nothing is mixed. In pictures a dropped token goes to the most similar peak of its
   segment.
5. On an independent fusion each encoder is pruned on its own, the budget split in proportion to the token counts. On a
   shared one the encoders' attention is averaged, see `methods.shared.selection`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.pick import kept_places
from meteor_bench.core.pruner import Decision, Fact, View
from meteor_bench.core.settings import Range, Share
from meteor_bench.methods.shared.clips import (
    Clip,
    ClipScorer,
    clip_of,
    decided,
    frame_likeness,
    group_of_frames,
    on_clip,
    segments,
)
from meteor_bench.methods.shared.density import density_scores
from meteor_bench.methods.shared.helpers import divide, unit
from meteor_bench.methods.shared.picks import best_of_groups

__all__ = ["FastVID"]

NEIGHBOURS = 4


@dataclass(frozen=True)
class FastVID(ClipScorer):
    """Attributes are explained at the top of the file; see also `EncodeScorer`.

    Attributes:
        segments: the least number of segments (where there are as many frames).
        threshold: frames less alike than this are always cut apart.
        contextual: share of the budget that goes to contextual tokens.
        every: anchor frames are so many frames apart.
        beta: the least that a peak itself counts.
    """

    segments: Annotated[int, Range(least=1)] = 8
    threshold: float = 0.9
    contextual: Share = 0.4
    every: Annotated[int, Range(least=1)] = 4
    beta: Share = 0.6

    fact: ClassVar[Fact] = Fact(year=2025, paper="arXiv 2503.11187", stages=("encode", "fuse"), needs=("attention",))
    positions: ClassVar[Literal["keep", "renumber"]] = "keep"

    def choose(self, view: View, score: Tensor, share: Tensor) -> Decision:
        """Salient tokens of every frame, and density peaks of the anchor frames that take in the rest."""
        tokens = view.tokens
        if bool((share == tokens.counts()).all()):
            return Decision(keep=tokens.visual)
        clip = clip_of(tokens)
        b, frames, cells = clip.shape
        sizes = clip.known.sum(2)  # [B, F]
        cuts = [segments(row, self.segments - 1, self.threshold) for row in frame_likeness(clip)]
        slots = divide(share, sizes, sizes)
        salient = slots - torch.floor(slots * self.contextual + 1e-9).long()
        wanted = torch.stack([self._anchors(*row) for row in zip(cuts, slots - salient, sizes - salient, strict=True)])
        group = group_of_frames(clip)
        top = best_of_groups(on_clip(clip, score).flatten(1), group, salient)
        rest = clip.there.flatten(1) & ~top
        live = rest.view(b * frames, cells)
        near = (sizes - salient).flatten().clamp(max=NEIGHBOURS)
        peaks = density_scores(clip.x.flatten(0, 1), live, near).score.view(b, -1)
        anchor = best_of_groups(peaks, group, wanted)
        keep = top | anchor
        mix, into = self._mixed(clip, cuts, keep, anchor, rest, wanted, share)
        return decided(tokens, clip, keep, share, into=into, mix=mix)

    def _anchors(self, parts: list[range], total: Tensor, room: Tensor) -> Tensor:
        """[F] peaks in each frame.

        Args:
            total: [F] the frame's part of the contextual tokens.
            room: [F] tokens that are not salient.
        """
        wanted = torch.zeros_like(total)
        for part in parts:
            anchors = [f for f in part if (part[-1] - f) % self.every == 0]
            left = total[list(part)].sum()
            for some in (anchors, [f for f in part if f not in anchors]):
                if some and int(left) > 0:
                    cap = room[some][None]
                    wanted[some] = divide(left[None], torch.ones_like(cap), cap)[0]
                    left = left - wanted[some].sum()
        return wanted

    def _mixed(
        self,
        clip: Clip,
        cuts: list[list[range]],
        keep: Tensor,
        anchor: Tensor,
        rest: Tensor,
        wanted: Tensor,
        share: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """What each kept token is made of [B, K, F·P], and the peak that each dropped one goes to [B, F·P]."""
        cells, width = clip.shape[2], int(share.max())
        counts = clip.known.sum((1, 2))
        row = kept_places(keep, width, ragged=len(set(share.tolist())) > 1)
        mix = torch.zeros(*row.shape, keep.shape[1], device=keep.device).scatter_(2, row[..., None], 1.0)
        place = keep.long().cumsum(1) - 1
        into = torch.full_like(place, -1)
        v = unit(clip.x).flatten(1, 2)
        for b, parts in enumerate(cuts):
            if share[b] == counts[b]:
                continue
            ends = [0, *wanted[b].cumsum(0).tolist()]
            at = torch.nonzero_static(anchor[b], size=ends[-1])[:, 0]
            for part in parts:
                inside = slice(part[0] * cells, (part[-1] + 1) * cells)
                mine = at[ends[part[0]] : ends[part[-1] + 1]]
                if len(mine) == 0:
                    continue
                likeness = v[b, mine] @ v[b, inside].T  # [peaks, tokens of the segment]
                gone = rest[b, inside] & ~anchor[b, inside]
                into[b, inside] = torch.where(gone, mine[likeness.argmax(0)], -1)
                for f in part:
                    some = slice(ends[f] - ends[part[0]], ends[f + 1] - ends[part[0]])
                    if some.start == some.stop:
                        continue
                    joins = likeness[some].argmax(0) == torch.arange(some.stop - some.start, device=at.device)[:, None]
                    joins = (joins & rest[b, inside]).float()
                    number = joins.sum(1, keepdim=True)
                    own = (1 / (number + 1)).clamp(min=self.beta)
                    rows, itself = place[b, mine[some]], mine[some] - inside.start
                    made = (1 - own) * joins / number.clamp(min=1)
                    made.scatter_add_(1, itself[:, None], own)
                    mix[b, rows, inside] = made
        return mix, into
