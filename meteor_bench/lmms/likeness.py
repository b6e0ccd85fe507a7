"""How like two answers are, as lmms-eval measures it."""

from __future__ import annotations

__all__ = ["anls"]


def anls(answer: str, other: str) -> float:
    """The likeness of two texts, 0 to 1: lmms-eval's ANLS of an answer with one reference."""
    from lmms_eval.api import metrics  # loads all of lmms-eval

    return float(metrics.anls([other], [answer])["anls"])
