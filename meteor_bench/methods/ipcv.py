"""IPCV: Information-Preserving Compression for MLLM Visual Encoders (arXiv 2512.18747). Training-free.

Inside the encoder, after block l (`block`), the tokens that the last block changed most, by ``|h_l - h_(l-1)|_2``, stay
in it. Of each token taken out, the `neighbours` nearest of those that stay (Euclidean, between the h_l) are remembered.
A token that is out is rebuilt as its own h_l plus the mean of what its neighbours have changed by since then
(neighbour-guided reconstruction). In the next `stable` blocks the attention runs on all tokens, rebuilt ones among
them, and the MLP on those that stay only (attention stabilisation); later blocks run on those that stay. At the
encoder's output all tokens are whole again, so that the encoder saves time and the language model sees every token.

There the budget is met by a method of the language model's own, DART or FastV (`llm`), before its layer `llm_layer`: a
ratio means what it means everywhere, tokens after the last pruning layer. The encoders keep the same share (`inside` is
0; any other number is a share of its own). What the encoders save is seen in FLOPs (``--match flops``), not in tokens.

Deviations. Numbers are the defaults of the authors' code (Perkzi/IPCV, 29726f0, for Qwen2-VL: after block 2, 3 blocks
stabilised, 10 neighbours, the same share in both parts).

1. Each frame, each tile and each of several images keeps the share of its own tokens and looks for neighbours among
   them. The authors' code takes the highest over all frames, and InternVL's over all tiles as neighbours.
2. Their blocks after that are told wrongly where frames begin: the first token of each frame but the first, where it
   stays, is attended to with the frame before. That is not repeated here, at no setting.
3. In an encoder that lays four patches together (Qwen) the four stay or go together.
4. A class token always stays, and is nobody's neighbour (in their InternVL it may be).
5. Where blocks are tapped (Qwen3-VL's DeepStack), what a tap gave is rebuilt in the same way.
6. An encoder of no more than l blocks is pruned before its last; one of a single block, or of none, is left whole.
7. Several encoders: each keeps the share of its own tokens. Nothing is missing at the outputs, so that fusion of any
   kind is as without pruning.
8. The language model's part is `dart` or `fastv` with all that is said there; the authors' DART leaves the final norm
   out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.gather import take_rows
from meteor_bench.core.pick import kept_places
from meteor_bench.core.pruner import (
    Decision,
    DecodeView,
    EncodePoint,
    EncodeView,
    Fact,
    Points,
    Pruner,
    Restored,
    keep_top,
)
from meteor_bench.core.settings import Layer, Range, Share
from meteor_bench.core.tokens import Tokens
from meteor_bench.methods.dart import Dart
from meteor_bench.methods.fastv import FastV

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["IPCV"]


@dataclass(frozen=True)
class IPCV(Pruner):
    """Attributes are explained at the top of the file.

    Attributes:
        block: encoder blocks that run on everything, l.
        inside: share of its tokens that stay in an encoder; 0 for the budget's share.
        stable: blocks after that whose attention runs on all tokens.
        neighbours: how many kept tokens a token is rebuilt from.
        llm: what meets the budget in the language model, dart or fastv.
        llm_layer: the language-model layer before which it does.
    """

    block: Annotated[int, Range(least=1)] = 2
    inside: Share = 0.0
    stable: Annotated[int, Range(least=0)] = 3
    neighbours: Annotated[int, Range(least=1)] = 10
    llm: Literal["dart", "fastv"] = "dart"
    llm_layer: Layer = 2

    fact: ClassVar[Fact] = Fact(year=2025, paper="arXiv 2512.18747", stages=("encode", "decode"), needs=("keys",))

    @property
    def _decoder(self) -> Dart | FastV:
        return Dart(layer=self.llm_layer) if self.llm == "dart" else FastV(layer=self.llm_layer)

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Before and after block l, inside and after the stabilised blocks, at the outputs; and the decoder's."""
        depths = {name: tower.depth for name, tower in vlm.towers.items() if tower.depth > 1}
        if not depths:
            raise UnsupportedError(f"ipcv prunes between an encoder's blocks; '{vlm.name}' has no encoder of several")
        if self.llm_layer >= vlm.decoder.depth:
            raise UnsupportedError(
                f"ipcv with llm_layer={self.llm_layer} needs a deeper language model than '{vlm.name}' "
                f"({vlm.decoder.depth} layers); take at most {vlm.decoder.depth - 1}"
            )
        ends = self._decoder.points(vlm, budget)
        if (self.inside or budget.keep) >= 1:
            return ends
        first = {name: self._first(depth) for name, depth in depths.items()}
        steps = [EncodePoint(after={name: at - 1 for name, at in first.items()}), EncodePoint(after=first)]
        for ahead in range(1, self.stable + 1):
            here = {name: at + ahead for name, at in first.items() if at + ahead <= depths[name]}
            back = {name: at for name, at in here.items() if ahead < self.stable and at < depths[name]}
            steps += [EncodePoint(after=here, inside=True)] if here else []
            steps += [EncodePoint(after=back)] if back else []
        return replace(ends, encode=(*steps, EncodePoint(after=depths)))

    def _first(self, depth: int) -> int:
        return min(self.block, depth - 1)

    def encode(self, views: Mapping[str, EncodeView]) -> Mapping[str, Decision]:
        """What each encoder's point is for follows from what is remembered."""
        return {name: self._decide(view) for name, view in views.items()}

    def decode(self, view: DecodeView) -> Decision:
        """The language model's part."""
        return self._decoder.decode(view)

    def _decide(self, view: EncodeView) -> Decision:
        name, tokens = f"ipcv.{view.tower}", view.tokens
        if f"{name}.x" not in view.memo:
            return Decision(keep=tokens.visual, memo={f"{name}.x": tokens.x})
        if f"{name}.near" not in view.memo:
            return self._choose(view, name)
        near = view.memo[f"{name}.near"]
        out, count = near[..., 0] >= 0, view.memo[f"{name}.out"]
        if view.inside:
            keep = tokens.visual & ~out.gather(1, tokens.origin.clamp(min=0))
            return Decision(keep=keep, count=tokens.counts() - count)
        before = [view.memo[f"{name}.x"]]
        x = _rebuilt(before[0], tokens, tokens.x, near)
        deep = None
        if tokens.deep is not None:
            tapped = view.memo.get(f"{name}.deep")
            before = ([] if tapped is None else [tapped]) + before * (tokens.deep.shape[2] // tokens.x.shape[2])
            deep = _rebuilt(torch.cat(before, 2)[..., : tokens.deep.shape[2]], tokens, tokens.deep, near)
        memo = {}
        if view.layer == view.layout.depths[view.tower]:  # nobody will ask any more
            memo = {
                key: value.reshape(len(value), -1)[:, :0]
                for key, value in view.memo.items()
                if key.startswith(f"{name}.")
            }
        return Decision(keep=tokens.visual, memo=memo, restored=Restored(out, x, deep, count))

    def _choose(self, view: EncodeView, name: str) -> Decision:
        """Who stays, and whom the others are rebuilt from."""
        tokens = view.tokens
        counts = tokens.counts()
        share = self.inside or view.keep  # the same of equal frames and tiles, which then need no padding
        left = torch.minimum((share * counts.double()).round(decimals=6).long().clamp(min=1), counts)
        changed = (tokens.x.float() - view.memo[f"{name}.x"].float()).norm(dim=2)
        keep = keep_top(changed, left, view.candidates)
        most, ragged = int(left.max()), bool((left != left[0]).any())
        index = kept_places(keep, most, ragged=ragged)  # [R, T]
        distance = torch.cdist(tokens.x.float(), take_rows(tokens.x, index).float())  # [R, N, T]
        if ragged:
            distance.masked_fill_(~keep.gather(1, index)[:, None], torch.inf)
        found = distance.topk(min(self.neighbours, most), dim=2, largest=False)
        cells = tokens.origin.gather(1, index)[:, None].expand_as(distance).gather(2, found.indices)
        absent = (keep | ~tokens.visual)[..., None] | found.values.isinf()
        memo = {
            f"{name}.x": _on_cells(tokens, tokens.x),
            f"{name}.near": _on_cells(tokens, cells.masked_fill(absent, -1), -1),
            f"{name}.out": counts - left,
        }
        if tokens.deep is not None:
            memo[f"{name}.deep"] = _on_cells(tokens, tokens.deep)
        if self.stable > 0:
            return Decision(keep=tokens.visual, memo=memo)
        return Decision(keep=keep, count=left, memo=memo)


def _on_cells(tokens: Tokens, values: Tensor, empty: int = 0) -> Tensor:
    """[R, G, ...] by cell what tokens have [R, N, ...]."""
    out = values.new_full((len(values), tokens.grid.n + 1, values.shape[2]), empty)  # one more for what has no cell
    place = torch.where(tokens.visual, tokens.origin, tokens.grid.n)
    return out.scatter_(1, place[..., None].expand_as(values), values)[:, :-1]


def _rebuilt(before: Tensor, tokens: Tokens, now: Tensor, near: Tensor) -> Tensor:
    """[R, G, D] what cells had plus the mean change of those near them.

    Args:
        before: [R, G, D] when tokens were taken out; now: [R, N, D] of those that stayed.
        near: [R, G, K] cells, -1 for none.
    """
    change = _on_cells(tokens, now).float() - before.float()
    total = torch.zeros_like(change)
    for cells in near.unbind(2):  # a handful; all at once would be K times the features
        total += take_rows(change, cells.clamp(min=0)).masked_fill_((cells < 0)[..., None], 0)
    return before + total / (near >= 0).sum(2, keepdim=True).clamp(min=1)
