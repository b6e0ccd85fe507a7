"""CoMP (CVPR 2026, arXiv 2604.02956): parameters and tokens pruned together, then trained on. In the language model.

Offline, `scripts/train_comp.py` prunes one mode after another (parameters of the encoders, of the language model, of
the fusion, visual tokens), each time the one whose pruning has cost least accuracy for each FLOP, and trains on between
and afterwards. What it leaves is a narrower checkpoint; that of `pocket` ships as `pocket-comp`, which the method takes
where `pocket` is named. At run time visual tokens are dropped before a layer of the language model that the checkpoint
says: ``S_i = Norm(sum over queries n of the maximum over heads h of M_h A[h,n,i])``, A the attention of the layer
before and M the mask of its heads; the T highest stay. A head that was pruned is gone, which is what M_h = 0 is in a
maximum of attention. Ratios are of the unpruned `pocket`: of its FLOPs with `--match flops`, which count what the
parameters save; else of its 256 tokens.

The formulas were read in third-party notes of the paper (en.papernotes.org, "Collaborative Multi-Mode Pruning for
Vision-Language Models"), not in the paper; the authors' repository held no code. `pocket-comp` was trained on drawn
pictures for the minutes that its card says: most of the methods beside it in tables are training-free.

What the notes leave open, such as layers, structures and steps, is numbered among the deviations.

Deviations:

1. Four modes of five. Tokens of the question are not dropped: the engine knows visual tokens only, and the questions of
   `pocket` are short.
2. PDrop, the published base for LLaVA, drops in several stages. Here it is one, before layer 2 of 5: the budget decides
   how many tokens are left there, the same number of every picture, where a threshold would leave each its own.
3. The queries of S are the question's tokens, as PDrop ranks by the question; under a causal mask, queries of the
   picture would favour early tokens. Norm is the range brought to [0, 1], and changes no rank.
4. Structures are whole heads and hidden channels of MLPs, the ConvNeXt's too. A head's score is the mean of its
   channels'; a place's scores are divided by their mean, so that one threshold holds for all places of a mode. At least
   one head and a sixteenth of the channels stay.
5. A stage removes 6 % of the FLOPs, and at most a fifth of what its mode has. Masks of what goes fall from 1 to 0 in
   equal steps over the stage's training; M is that mask.
6. Weights of tokens in the parameters' scores: cells of the ConvNeXt, which has no attention, weigh the same; in the
   language model the question's tokens weigh the same, together as much as the visual ones, and the first token
   nothing; the last block takes its own scores where the next one's are meant; all layers are measured on all tokens.
7. Every mode is taken once before costs are compared. Accuracy is the mean of the benchmarks on questions of the
   calibration split. What is trained are low-rank additions, with the loss of the answers alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import ModelError, UnsupportedError
from meteor_bench.core.pruner import Decision, DecodePoint, DecodeView, Fact, Points, Pruner, keep_top
from meteor_bench.core.settings import Range

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["FACTS", "BoundComp", "Comp"]

FACTS = "comp.json"  # beside the weights of a checkpoint that CoMP has pruned


@dataclass(frozen=True)
class Comp(Pruner):
    """See the top of the file.

    Attributes:
        before: layer of the language model that tokens are dropped before; 0 for the checkpoint's. On a checkpoint
            whose parameters were not pruned it must be said, and the method is its token score alone.
    """

    before: Annotated[int, Range(least=0)] = 0

    fact: ClassVar[Fact] = Fact(
        year=2026,
        paper="arXiv 2604.02956",
        stages=("decode",),
        needs=("attention", "narrowed model"),
        trained=True,
    )
    positions: ClassVar[Literal["keep", "renumber"]] = "keep"
    prefers: ClassVar[Literal["independent", "shared", "narrowed"] | None] = "narrowed"

    def substitutes(self, vlm: VLM) -> tuple[str, ...]:
        """On a model that was not pruned by CoMP, the token score is all that there is."""
        return ("no parameters of this model were pruned",)

    def bind(self, vlm: VLM, budget: TokenBudget) -> Comp:
        """With the layer that the checkpoint says, and how long it was trained."""
        file = None if vlm.folder is None else vlm.folder / FACTS
        if file is not None and file.exists():
            before, minutes = _facts(file)
            return BoundComp(before=self.before or before, minutes=minutes)
        if self.before == 0:
            raise UnsupportedError(
                f"comp needs a model that it has pruned, and '{vlm.name}' is none; scripts/train_comp.py makes one, "
                "--param before=<layer> takes the token score alone"
            )
        return self

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Before one layer of the language model."""
        before = self.bind(vlm, budget).before
        if before >= vlm.decoder.depth:
            raise UnsupportedError(f"comp prunes before layer {before}; '{vlm.name}' has {vlm.decoder.depth} layers")
        return Points(decode=(DecodePoint(before=before, attention="text"),))

    def decode(self, view: DecodeView) -> Decision:
        """The tokens that the question's tokens attend to most, each query by the head that looks most."""
        score = view.attention.float().amax(1).sum(1)  # [B, H, R, N] -> [B, N]; rows of padding are zero
        return Decision(keep=keep_top(score, view.target, view.candidates), score=score, count=view.target)


@dataclass(frozen=True)
class BoundComp(Comp):
    """CoMP on a checkpoint that it has pruned.

    Attributes:
        minutes: that it was pruned and trained for.
    """

    minutes: float = 0.0

    def substitutes(self, vlm: VLM) -> tuple[str, ...]:
        """What every table has to say beside methods without training."""
        return (f"the model was pruned and trained on drawn pictures for {self.minutes:.0f} minutes",)


def _facts(file: Path) -> tuple[int, float]:
    """The layer that tokens are dropped before, and minutes of training in all."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        before, minutes = said["before"], sum(map(float, said["minutes"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{file} is corrupted: {type(error).__name__}") from error
    if not isinstance(before, int) or isinstance(before, bool) or before < 1:
        raise ModelError(f"{file} has before={before!r}; expected a layer of the language model, 1 or more")
    return before, minutes
