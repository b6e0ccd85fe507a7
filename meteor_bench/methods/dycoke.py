"""DyCoke: Dynamic Compression of Tokens for Fast Video LLMs (CVPR 2025, arXiv 2411.15024), its first stage.

Temporal token merging before the language model, in windows of four frames. The second frame of a window is compared
with the first, the fourth with the third, then the third with the first: cosine of the tokens at the same position. In
each of these frames the share p (published: 0.7) of the tokens that are most like their counterpart is dropped; a
window's first frame stays whole. No attention is needed.

Deviations:

1. p is not given but follows from the budget: what the first frames leave is divided evenly over the other frames, the
   first ones take the remainder. p = 0.7 is a keep share of (1 + 3·0.3) / 4 = 0.475.
2. A budget below the first frames' tokens (a keep share below 1/4) drops all others, and the first frames are a clip of
   their own, to which the same rule is applied, until one frame is left. Of a single frame, and so of a picture, which
   the authors leave alone, evenly spread tokens stay.
3. The second stage is left out: while an answer is decoded, the cached keys and values of visual tokens with little
   attention in layer 3 are set aside and taken back. It prunes nothing before the first token of the answer.
4. The authors' code compares no third frame in the last window, which so stays whole, and forgets the last of an odd
   number of frames. `official_quirks` does the former; the latter is never done.
5. On an independent fusion each encoder is pruned on its own, the budget split in proportion to the token counts. A
   token whose counterpart is gone already is dropped last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.host import on_device
from meteor_bench.core.pruner import Decision, Fact, FuseView
from meteor_bench.methods.shared.clips import as_clip, clip_of, cosine_to, decided, group_of_frames
from meteor_bench.methods.shared.helpers import divide, evenly, strided
from meteor_bench.methods.shared.picks import best_of_groups
from meteor_bench.methods.shared.scorers import FuseChooser

__all__ = ["DyCoke"]

WINDOW = 4


@dataclass(frozen=True)
class DyCoke(FuseChooser):
    """Attributes are explained at the top of the file.

    Attributes:
        official_quirks: leave the third frame of the last window whole.
    """

    official_quirks: bool = False

    fact: ClassVar[Fact] = Fact(year=2025, paper="arXiv 2411.15024")
    positions: ClassVar[Literal["keep", "renumber"]] = "renumber"

    def choose(self, view: FuseView, share: Tensor) -> Decision:
        """Windows, and windows of their first frames, until the budget is met."""
        tokens = as_clip(view).tokens
        if tokens.grid.t == 1:
            return Decision(keep=evenly(tokens, share), count=share)
        clip = clip_of(tokens)
        b, frames, cells = clip.shape
        sizes = clip.known.sum(2)  # [B, F]
        given, partner = torch.zeros_like(sizes), torch.full_like(sizes, -1)
        last = torch.zeros_like(sizes)  # what the only frame left gets
        for row in range(b):
            self._plan(list(range(frames)), int(share[row]), sizes[row], given[row], partner[row], last[row])
        every = list(range(frames))
        score = torch.full((b, frames, cells), 2.0, dtype=torch.float64, device=clip.x.device)
        for column in {tuple(row) for row in partner.tolist()}:
            rows = (partner == torch.tensor(column)).all(1)
            likeness = cosine_to(clip, every, [f if p < 0 else p for f, p in enumerate(column)])
            score = torch.where(on_device(rows, score.device)[:, None, None], -likeness, score)
        keep = best_of_groups(score.flatten(1), group_of_frames(clip), given)
        if bool(last.any()):
            spread = strided(clip.known.flatten(0, 1), last.flatten()).view(b, -1)
            keep = keep | on_device(spread & (last > 0).repeat_interleave(cells, 1), keep.device)
        return decided(tokens, clip, keep, share)

    def _plan(self, frames: list[int], total: int, sizes: Tensor, given: Tensor, partner: Tensor, last: Tensor) -> None:
        """How many tokens each of a row's frames keeps, and which frame it is compared with.

        Args:
            frames: those that are left.
            sizes, given, partner, last: [F]; all but the sizes are written to.
        """
        if len(frames) == 1:
            last[frames[0]] = min(total, int(sizes[frames[0]]))
            return
        first = frames[::WINDOW]
        whole = set(first)
        windows = range(0, len(frames), WINDOW)
        if self.official_quirks and len(frames) > 2:
            whole |= {frames[i + 2] for i in windows if i >= len(frames) - WINDOW and i + 2 < len(frames)}
        base = int(sizes[sorted(whole)].sum())
        if base > total:
            base, whole = int(sizes[first].sum()), set(first)
        if base > total:
            self._plan(first, total, sizes, given, partner, last)
            return
        for i in windows:
            for at, with_ in ((1, 0), (3, 2), (2, 0)):
                if i + at < len(frames):
                    partner[frames[i + at]] = frames[i + with_]
        others = [f for f in frames if f not in whole]
        given[sorted(whole)] = sizes[sorted(whole)]
        if others:
            caps = sizes[others][None]
            given[others] = divide(torch.tensor([total - base]), torch.ones_like(caps), caps)[0]
