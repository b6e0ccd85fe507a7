"""What happened to the visual tokens of each sample, counted from tensors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

__all__ = ["SampleTrace"]


@dataclass
class SampleTrace:
    """Token counts of one sample: visual tokens, of real tensors.

    The host knows them beside the masks; a decision that says another count than its mask has is refused.

    Attributes:
        towers: tower -> tokens that left it (all frames), class tokens not counted.
        fused: tokens after fusion (and its pruning).
        llm: visual tokens in the input of each language-model layer.
        cache: visual tokens held in each layer's key/value cache after the prefill.
        text: tokens around the visual ones (template and question), and newlines and separators between them.
        answer: tokens generated, the end token included.
        reference: N, what the unpruned reference model feeds its LLM for this sample.
        target: the budget's count after the last pruning point.
        padded: width of the padded visual block in each layer's batch, beside the useful counts above.
        flops: stage -> FLOPs of this sample run alone: "encode.<tower>", "fuse", "prefill", "decode"; where they were
            counted, those of the selection, "prune".
        reference_flops: what the unpruned reference model takes to the first token of this sample; 0: not worked out.
        notes: substitutions that were made, say a tower without a class token.
    """

    towers: dict[str, int] = field(default_factory=dict)
    fused: int = 0
    llm: list[int] = field(default_factory=list)
    cache: list[int] = field(default_factory=list)
    text: int = 0
    answer: int = 0
    reference: int = 0
    target: int = 0
    padded: list[int] = field(default_factory=list)
    flops: dict[str, int] = field(default_factory=dict)
    reference_flops: int = 0
    notes: tuple[str, ...] = ()

    def copy(self) -> SampleTrace:
        """For another question about the same image."""
        return replace(self, flops=dict(self.flops))

    @property
    def final(self) -> int:
        """Tokens after the last pruning point: what ``--ratio`` is measured on."""
        return self.llm[-1]

    def as_record(self) -> dict[str, Any]:
        """The columns of the token table, as plain data."""
        return {
            "towers": dict(self.towers),
            "fused": self.fused,
            "llm_input": self.llm[0],
            "final": self.final,
            "layer_mean": sum(self.llm) / len(self.llm),
            "kv_mean": sum(self.cache) / len(self.cache),
            "text": self.text,
            "answer": self.answer,
            "reference": self.reference,
            "target": self.target,
            **({"reference_flops": self.reference_flops} if self.reference_flops else {}),
        }
