"""VidCom2: Video Compression Commander (EMNLP 2025, arXiv 2505.14454), section 3. Training-free, needs no attention.

Before the language model, on projected tokens. Of the channels, the half with the lowest variance over the video; in
these, tokens of length 1. A token's typicality is ``sum over a of exp(-d² / 2a)``, a = 1/8, 1/4, 1/2, 1, 2, with d its
distance to the mean of the video (V) and to that of its frame (F). A frame's share of the budget is ``r·(1 + p - mean
p)``, where p is a softmax over frames of minus the mean V, divided by 0.01: frames unlike the video get more. In each
frame the tokens with the lowest V + F stay. In a single picture V and F are the same.

Deviations:

1. The authors round each frame's count by itself and keep at least one token a frame, so that a video's total is off
   by some; here the counts add up to the budget exactly (largest remainder), no frame gets more than it has, and one
   may get nothing where there are fewer tokens than frames.
2. Newlines and separators between the frames stay, as in the authors' code for LLaVA-Video.
3. On an independent fusion each encoder is pruned on its own, the budget split in proportion to the token counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.pruner import Decision, Fact, FuseView, keep_top
from meteor_bench.core.settings import Range
from meteor_bench.methods.shared.clips import as_clip
from meteor_bench.methods.shared.helpers import divide, unit
from meteor_bench.methods.shared.picks import best_of_groups
from meteor_bench.methods.shared.scorers import FuseChooser

__all__ = ["VidCom2", "typicality"]

WIDTHS = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0)


def typicality(x: Tensor, mean: Tensor) -> Tensor:
    """[B, N] sum of Gaussian kernels of the distance of each token to a mean; x and mean [B, N, D]."""
    square = (x - mean).square().sum(2)
    return sum((torch.exp(-square / (2 * a)) for a in WIDTHS), torch.zeros_like(square))


@dataclass(frozen=True)
class VidCom2(FuseChooser):
    """Attributes are explained at the top of the file.

    Attributes:
        temperature: of the softmax over frames.
    """

    temperature: Annotated[float, Range(above=0)] = 0.01

    fact: ClassVar[Fact] = Fact(year=2025, paper="arXiv 2505.14454")
    positions: ClassVar[Literal["keep", "renumber"]] = "renumber"

    def choose(self, view: FuseView, share: Tensor) -> Decision:
        """Frames by how unlike the video they are, tokens by how unlike both."""
        tokens = as_clip(view).tokens
        visual, frames = tokens.visual, tokens.grid.t
        frame = torch.where(visual, tokens.origin // (tokens.grid.h * tokens.grid.w), 0)
        member = (frame[:, None] == torch.arange(frames, device=visual.device)[:, None]) & visual[:, None]  # [B, F, N]
        x = _steady(tokens.x.float(), visual)
        weight = member.double() / member.sum(2, keepdim=True).clamp(min=1)
        of_frame = (weight.to(x.dtype) @ x).gather(1, frame[..., None].expand_as(x))
        whole = (x * visual[..., None]).sum(1, keepdim=True) / visual.sum(1).clamp(min=1)[:, None, None]
        video = typicality(x, whole.expand_as(x))
        score = -(video + typicality(x, of_frame))
        if frames == 1:
            return Decision(keep=keep_top(score, share, view.candidates), score=score, count=share)
        there = member.any(2)  # [B, F]
        unlike = -(weight * video[:, None].double()).sum(2) / self.temperature
        p = unlike.masked_fill(~there, -torch.inf).softmax(1)
        part = (1 + p - 1 / there.sum(1, keepdim=True).clamp(min=1)).masked_fill(~there, 0.0)
        # Shares are whole numbers that add up: the host works them out, once for all frames.
        sizes = member.sum(2)
        told = torch.cat([part, sizes.double()], 1).cpu()
        part, caps = told[:, :frames], told[:, frames:].long()
        # In proportion to the tokens that a frame has, too: all alike in a video that nothing has pruned yet.
        given = divide(share, part * caps, caps)
        keep = best_of_groups(score, frame.masked_fill(~visual, frames), given)
        return Decision(keep=keep, score=score, count=share)


def _steady(x: Tensor, visual: Tensor) -> Tensor:
    """[B, N, D'] unit tokens in the half of the channels [B, N, D] that vary least over the visual tokens."""
    mask = visual[..., None]
    number = visual.sum(1).clamp(min=1)[:, None]
    mean = (x * mask).sum(1) / number
    variance = ((x - mean[:, None]).square() * mask).sum(1) / number  # [B, D]
    half = max(1, x.shape[2] // 2)
    chosen = variance.argsort(dim=1, stable=True)[:, :half].sort(dim=1).values
    return unit(x.gather(2, chosen[:, None].expand(-1, x.shape[1], -1)))
