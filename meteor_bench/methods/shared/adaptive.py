"""Selectors whose count depends on the image: a threshold, calibrated so that the mean count meets the budget."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from meteor_bench.core.errors import ConfigError
from meteor_bench.core.pruner import EncodeView, FuseView, Stage, View
from meteor_bench.methods.shared.helpers import frame_shares
from meteor_bench.methods.shared.selection import AttentionScorer

__all__ = ["AdaptiveScorer", "fit_threshold"]


@dataclass(frozen=True)
class AdaptiveScorer(AttentionScorer):
    """A selector whose count depends on the image and meets the budget on average.

    A row keeps the more tokens the more of its `evidence` lies above a threshold, which is calibrated, one for each
    encoder ("fused" on a shared fusion). Where the budget leaves a row nothing, or everything, that is what it keeps.
    """

    @property
    def exact(self) -> bool:
        """On average only."""
        return False

    @property
    def calibration(self) -> tuple[Stage, ...]:
        """The threshold: at the encoders' outputs, or on a shared fusion where they meet."""
        return ("encode", "fuse")

    @abstractmethod
    def evidence(self, view: View, score: Tensor) -> Tensor:
        """[R, M] float64 values to hold against the threshold; NaN or -inf where a row has fewer."""

    @abstractmethod
    def counts(self, values: Tensor, tokens: Tensor) -> Tensor:
        """[S, M + 1] tokens that a row keeps when 0, 1, … M of its values lie above the threshold.

        Args:
            values: [S, M], what `evidence` gave, NaN where a row has fewer.
            tokens: [S] long, the row's visual tokens.
        """

    def threshold(self, view: View) -> float:
        """The calibrated threshold of the view's tower."""
        found = view.facts.get(f"{self.title}.threshold", {}).get(view.tower)
        if found is None:
            raise ConfigError(f"{self.title}: the threshold of '{view.tower}' is not measured; calibrate first")
        return float(found)

    def observe_encode(self, view: EncodeView) -> Mapping[str, Tensor]:
        """Evidence, shares and token counts, where the choice is made at the encoders' outputs."""
        if view.layout.fusion == "shared":
            return {}
        return self._observed(view, self.score(view), frame_shares(view)[view.tower])

    def observe_fuse(self, view: FuseView) -> Mapping[str, Tensor]:
        """The same, where the encoders meet."""
        part = self.cut(view, view.target)
        return self._observed(part.view, part.score, part.share, part.per_sample)

    def _observed(self, view: View, score: Tensor, share: Tensor, rows: int = 1) -> Mapping[str, Tensor]:
        """Of each row, ``rows`` of them a sample's; at an encoder's output a frame counts as a sample."""
        values = self.evidence(view, score).masked_fill(~view.tokens.visual.any(1, keepdim=True), torch.nan)
        return {
            f"values.{view.tower}": values.masked_fill(values == -torch.inf, torch.nan),
            f"share.{view.tower}": share,
            f"tokens.{view.tower}": view.tokens.counts(),
            f"rows.{view.tower}": torch.full_like(share, rows),
        }

    def fit(self, stage: Stage, observed: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """One threshold for each tower, with the counts it gives."""
        towers = [name.removeprefix("share.") for name in observed if name.startswith("share.")]
        if not towers:
            return {}
        weight = observed["requests"].cpu()
        found: dict[str, float] = {}
        kept: list[Tensor] = []
        wanted: list[Tensor] = []
        for tower in towers:
            values, share, tokens = (observed[f"{name}.{tower}"].cpu() for name in ("values", "share", "tokens"))
            open_ = (share > 0) & (share < tokens)
            count = torch.minimum(share, tokens)
            found[tower] = 0.0
            if bool(open_.any()):
                table = self.counts(values[open_], tokens[open_])
                # Tokens that the towers before owe.
                owed = sum(int((weight * (w - k)).sum()) for w, k in zip(wanted, kept, strict=True))
                found[tower], count[open_] = fit_threshold(values[open_], table, share[open_], weight[open_], owed)
            kept.append(count)
            wanted.append(share)
        rows = observed[f"rows.{towers[0]}"].cpu()
        total, target, weight = (
            _per_sample(part, rows) for part in (torch.stack(kept).sum(0), torch.stack(wanted).sum(0), weight / rows)
        )
        return {
            f"{self.title}.threshold": found,
            f"{self.title}.calibrated": {
                "samples": len(total),
                "target": _mean(target, weight),
                "mean": _mean(total, weight),
                "min": int(total.min()),
                "max": int(total.max()),
            },
        }


def _per_sample(values: Tensor, rows: Tensor) -> Tensor:
    """[R] values, row after row -> [S] sums over each sample's rows, of which ``rows`` [R] says how many there are."""
    sums, at = [], 0
    while at < len(values):
        end = at + int(rows[at])
        sums.append(values[at:end].sum())
        at = end
    return torch.stack(sums)


def _mean(values: Tensor, weight: Tensor) -> float:
    return float((values.double() * weight).sum() / weight.sum())


def fit_threshold(
    values: Tensor, counts: Tensor, shares: Tensor, weight: Tensor, owed: int = 0
) -> tuple[float, Tensor]:
    """The threshold c for which rows keep what ``shares`` says on average.

    A row with m values above c keeps ``counts[row, m]`` tokens. The mean of what all rows keep is brought as near to
    the mean of the shares as the values allow; c lies halfway between two neighbouring values.

    Args:
        values: [S, M] float64, NaN where a row has fewer.
        counts: [S, M + 1] tokens kept.
        shares: [S] tokens wanted.
        weight: [S] long, how often each row counts.
        owed: tokens wanted besides, of all rows together.

    Returns:
        c, and [S] the tokens that each row then keeps.
    """
    values = values.nan_to_num(nan=-torch.inf)
    ranked = values.sort(dim=1, descending=True).values
    gain = (weight[:, None] * (counts[:, 1:] - counts[:, :-1])).double()  # what the m-th value adds
    pooled, order = ranked.flatten().sort(descending=True, stable=True)
    real = pooled > -torch.inf
    pooled, order = pooled[real], order[real]
    total = (weight * counts[:, 0]).double().sum() + torch.cat(
        [gain.new_zeros(1), gain.flatten()[order].cumsum(0)]
    )  # [P + 1]
    above = torch.cat([pooled[:1] + 1, (pooled[:-1] + pooled[1:]) / 2, pooled[-1:] - 1])
    apart = torch.ones_like(total, dtype=torch.bool)
    apart[1:-1] = pooled[:-1] > pooled[1:]
    error = (total - (weight * shares).double().sum() - owed).abs().masked_fill(~apart, torch.inf)
    c = float(above[int(error.argmin())])
    m = (values > c).sum(1, keepdim=True)
    return c, counts.gather(1, m)[:, 0]
