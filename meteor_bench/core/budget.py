"""How many tokens may be kept, where. One word for the amount kept: ``keep``; ``ratio`` (removed) is the user's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from meteor_bench.core.errors import ConfigError

__all__ = ["TokenBudget"]


@dataclass(frozen=True)
class TokenBudget:
    """The share of visual tokens that survives the last pruning point.

    Attributes:
        keep: in (0, 1]; 1 - ratio.
    """

    keep: float

    @classmethod
    def from_ratio(cls, ratio: float) -> TokenBudget:
        """Budget of ``--ratio`` (the fraction removed).

        Raises:
            ConfigError: not in [0, 1).
        """
        if not 0.0 <= ratio < 1.0:  # also catches NaN
            raise ConfigError(f"ratio {ratio} is outside [0, 1); 0.76 removes 76 % of the visual tokens")
        return cls(keep=1.0 - ratio)

    def tokens(self, reference: int) -> int:
        """Target after the last pruning point, of ``reference`` tokens that the unpruned model feeds its LLM.

        At least one token survives. Rounded to the nearest, a half to the even neighbour (as where methods publish
        ``round(share * tokens)``: 12.5 gives 12), after removing the noise of 1 - ratio and of the product.
        """
        return max(1, round(round(round(self.keep, 12) * reference, 6)))

    @staticmethod
    def split(total: int, weights: Mapping[str, float], caps: Mapping[str, int]) -> dict[str, int]:
        """Share ``total`` among names in proportion to ``weights``; the sum is exact.

        Largest remainder; nobody gets more than its cap, what it cannot take goes to the others.

        Args:
            total: tokens to hand out, at most the sum of the caps.
            weights: name -> non-negative weight.
            caps: name -> the most it can take.

        Raises:
            ConfigError: more tokens than the caps can take.
        """
        if total > sum(caps.values()):
            raise ConfigError(f"cannot keep {total} of {sum(caps.values())} tokens")
        share = dict.fromkeys(weights, 0)
        left, free = total, [n for n in weights if caps[n] > 0]
        while left > 0:
            mass = sum(weights[n] for n in free)
            ideal = {n: left * (weights[n] / mass if mass > 0 else 1 / len(free)) for n in free}
            full = [n for n in free if share[n] + ideal[n] >= caps[n]]
            if full:
                for n in full:
                    left -= caps[n] - share[n]
                    share[n] = caps[n]
                free = [n for n in free if n not in full]
                continue
            for n in free:
                share[n] += int(ideal[n])
            rest = left - sum(int(v) for v in ideal.values())
            by_remainder = sorted(free, key=lambda n: (int(ideal[n]) - ideal[n], list(weights).index(n)))
            for n in by_remainder[:rest]:
                share[n] += 1
            left = 0
        return share
