"""OC-VTP (arXiv 2511.20439): object-centric token pruning, by a small trained pruner. After the encoder.

The features of an inner encoder layer go through LayerNorm and an MLP into three iterations of slot attention with as
many slots as tokens are to stay. Each slot takes the token it attends to most; tokens taken twice count once, and the
places left are filled by the attention that tokens receive in the last block. The pruner is trained, once for an
encoder, to let the features be reconstructed from the slots (`scripts/train_oc_vtp.py`); nothing else is.

Deviations (the authors' code is public: github.com/GarryLarry010131/OC-VTP):

- Widths follow the encoder: slots half as wide, the MLPs twice (encoder) and four times (slots), as published for
  CLIP-L's 1024. On the shipped models, 128 wide, that is 64, 256 and 256. The layer is at the published share of the
  depth, after 9 blocks of 24: after 2 of 4 and 1 of 3 on the shipped ones; an encoder without blocks is read at its
  output.
- The class token takes no part and is not kept. (Theirs is kept and counts.)
- The slots' random start is seeded per sample and frame, and the attention that fills up is that of the last block the
  model runs (`block`): see `shared.selection`. Theirs is unseeded, so that the same image gives other tokens each time.
- Several encoders: a pruner for each. On a shared fusion each encoder proposes tokens with as many slots as the budget
  (or as it has tokens); a token's score is 1 where a slot took it, plus its attention over twice the highest one; the
  rest as in `shared.selection`. With one encoder this is the published choice.
- Training: see the script.

A model without a trained pruner is not supported, unless `weights` names a folder with one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.host import on_device
from meteor_bench.core.pruner import Decision, EncodePoint, EncodeView, Fact, Points, TowerAttention
from meteor_bench.methods.shared.helpers import frame_shares
from meteor_bench.methods.shared.selection import AttentionScorer
from meteor_bench.methods.shared.slots import SlotPruner, SlotTower, feature_block, load_slots, read_towers
from meteor_bench.models.checkpoint import digest

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["FOLDER", "OCVTP", "RANDOM", "BoundOCVTP", "taken"]

FOLDER = "oc-vtp"  # beside a model's own weights
RANDOM = "random"
MEMO = "oc-vtp."


def taken(
    pruner: SlotPruner,
    x: Tensor,
    visual: Tensor,
    slots: Tensor,
    generators: Sequence[torch.Generator],
    present: Tensor | None = None,
) -> Tensor:
    """[R, N] bool, the tokens that a slot attends to most.

    Args:
        x: [R, N, D] features.
        visual: [R, N] bool, tokens that count.
        slots: [R] long on the CPU, how many slots; rows with none, or with one for each token, are left alone.
        generators: one per row.
        present: [R] long on the CPU, how many tokens count; None: the device is asked.
    """
    present = visual.sum(1).cpu() if present is None else present
    count = slots * (slots < present)
    found = torch.zeros_like(visual)
    chosen = count.nonzero()[:, 0]
    if len(chosen) == 0:
        return found
    count, rows = count[chosen], on_device(chosen, x.device)
    real = torch.arange(int(count.max())) < count[:, None]  # [R', K]
    noise = torch.zeros(*real.shape, pruner.slot_dim)
    # One generator per row, asked for just what the row needs, makes it independent of its batch.
    for i, (row, k) in enumerate(zip(chosen.tolist(), count.tolist(), strict=True)):
        noise[i, :k] = torch.randn(k, pruner.slot_dim, generator=generators[row])
    real, noise = on_device(real, x.device), on_device(noise, x.device)
    seen = visual[rows]
    attention = pruner(x[rows].float().masked_fill(~seen[..., None], 0.0), seen, noise, real).attention
    best = attention.masked_fill(~seen[:, None], -1.0).argmax(-1)  # [R', K]
    picks = torch.zeros_like(seen, dtype=torch.long).scatter_add_(1, best, real.long()) > 0
    return found.index_copy(0, rows, picks)


@dataclass(frozen=True)
class _Base(AttentionScorer):
    """What the method is before and after it knows its pruner. Attributes: see `OCVTP`."""

    weights: str = ""

    fact: ClassVar[Fact] = Fact(
        year=2025,
        paper="arXiv 2511.20439",
        stages=("encode",),
        needs=("attention", "trained pruner"),
        trained=True,
    )
    title: ClassVar[str] = "oc-vtp"
    statistic: ClassVar[TowerAttention | None] = "received"

    @property
    def draws(self) -> bool:
        """The slots start at random."""
        return True


@dataclass(frozen=True)
class OCVTP(_Base):
    """Attributes are explained at the top of the file; see also `AttentionScorer`.

    Attributes:
        weights: folder of the trained pruner; empty for the one beside the model's weights, "random" for an untrained
            one, to compare with and to time.
    """

    def bind(self, vlm: VLM, budget: TokenBudget) -> BoundOCVTP:
        """With the pruner that it takes on this model."""
        if self.weights == RANDOM:
            towers = tuple(SlotTower(n, t.inside, feature_block(t.depth)) for n, t in vlm.towers.items())
            return self._with("", RANDOM, towers)
        beside = None if vlm.folder is None else vlm.folder / FOLDER
        folder = Path(self.weights) if self.weights else beside
        if folder is None or not (folder / "config.json").exists():
            where = "" if folder is None else f" in {folder}"
            raise UnsupportedError(
                f"oc-vtp needs a pruner trained for the encoders of '{vlm.name}' and there is none{where}; "
                "scripts/train_oc_vtp.py makes one, --param weights=<folder> takes it"
            )
        towers = read_towers(folder)
        for tower in towers:
            own = vlm.towers.get(tower.name)
            if own is None or own.inside != tower.dim or own.depth < tower.after:
                raise UnsupportedError(
                    f"oc-vtp: the pruner in {folder} was not trained for '{vlm.name}': its tower '{tower.name}' is "
                    f"{tower.dim} wide and read after block {tower.after}"
                )
        return self._with(str(folder), digest(folder), towers)

    def _with(self, folder: str, digest: str, towers: tuple[SlotTower, ...]) -> BoundOCVTP:
        return BoundOCVTP(**self.parameters(), folder=folder, digest=digest, towers=towers)

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Those that it has once it knows its pruner."""
        return self.bind(vlm, budget).points(vlm, budget)


@dataclass(frozen=True)
class BoundOCVTP(_Base):
    """OC-VTP on a model.

    Attributes:
        folder, digest: of the trained pruner.
        towers: that it was trained for.
    """

    folder: str = ""
    digest: str = ""
    towers: tuple[SlotTower, ...] = ()

    def parameters(self) -> dict[str, Any]:
        """The hyperparameters, and whose weights these are by their content: where they lie changes nothing."""
        return {name: value for name, value in super().parameters().items() if name not in ("folder", "towers")}

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """The inner layers, then as every selector."""
        found = super().points(vlm, budget)
        (end,) = found.encode
        after = {tower.name: tower.after for tower in self.towers if tower.name in end.after}
        if missing := sorted(set(end.after) - set(after)):
            raise UnsupportedError(
                f"oc-vtp: the pruner for '{vlm.name}' was not trained on its tower '{missing[0]}'; "
                "scripts/train_oc_vtp.py trains all"
            )
        return replace(found, encode=(EncodePoint(after=after), end))

    def encode(self, views: Mapping[str, EncodeView]) -> Mapping[str, Decision]:
        """Let the slots take their tokens at the inner layers, choose at the outputs."""
        first = next(iter(views.values()))
        if first.point == 1:
            return super().encode(views)
        pruners = load_slots(self.folder, self.digest, self.towers, str(first.tokens.x.device))
        share = dict.fromkeys(views, first.target) if first.layout.fusion == "shared" else frame_shares(first)
        decisions = {}
        for name, view in views.items():
            visual = view.tokens.visual
            present = view.tokens.counts()
            slots = torch.minimum(share[name], present)
            memo = {MEMO + name: taken(pruners[name], view.tokens.x, visual, slots, view.generators, present)}
            decisions[name] = Decision(keep=visual, memo=memo)
        return decisions

    def score(self, view: EncodeView) -> Tensor:
        """Tokens that a slot took, then the others by the attention they receive."""
        visual = view.tokens.visual
        fill = super().score(view).masked_fill(~visual, 0.0)
        top = fill.amax(1, keepdim=True).clamp(min=1e-12) if fill.shape[1] > 0 else 1.0
        return view.memo[MEMO + view.tower].float() + fill / (2 * top)
