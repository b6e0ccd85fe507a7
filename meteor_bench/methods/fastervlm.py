"""FasterVLM: [CLS] Attention is All You Need for Training-Free Visual Token Pruning (arXiv 2412.01818), section 3.2.

After the encoder the tokens are ranked by the class token's attention, averaged over heads; the T highest stay.

Deviations: several encoders, frames, encoders without a class token or attention, and the block that the attention is
read from: see `methods.shared.selection`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from meteor_bench.core.pruner import Fact
from meteor_bench.methods.shared.selection import AttentionScorer

__all__ = ["FasterVLM"]


@dataclass(frozen=True)
class FasterVLM(AttentionScorer):
    """Attributes: see `AttentionScorer`."""

    fact: ClassVar[Fact] = Fact(year=2024, paper="arXiv 2412.01818", stages=("encode",), needs=("attention",))
    title: ClassVar[str] = "fastervlm"
