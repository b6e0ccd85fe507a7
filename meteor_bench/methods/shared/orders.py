"""How survivors stand: as the authors' code leaves them, or in spatial order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from meteor_bench.core.pruner import Pruner

__all__ = ["AuthorsOrder"]


@dataclass(frozen=True)
class AuthorsOrder(Pruner):
    """A method whose authors move some survivors behind others.

    Attributes:
        order: of what stays: authors, as their code leaves it, or spatial.
    """

    order: Literal["authors", "spatial"] = "authors"

    @property
    def ordered(self) -> bool:  # type: ignore[override]
        """Only where it is asked for."""
        return self.order == "spatial"
