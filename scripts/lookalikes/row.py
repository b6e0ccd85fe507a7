"""A row of the look-alikes, with an answer that scores in full and one that scores nothing, and what rows show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

__all__ = ["LETTERS", "OPTIONS", "PICTURES", "Row", "colour", "letters", "picture"]

PICTURES = 3  # questions share them
OPTIONS = ("one apple", "two rivers", "three castles", "four violins")
LETTERS = "ABCD"


@dataclass(frozen=True)
class Row:
    """A document.

    Attributes:
        video: its file, relative to the benchmark's folder of videos.
    """

    columns: dict[str, Any]
    right: str
    wrong: str
    video: str = ""


def colour(i: int) -> tuple[int, int, int]:
    """Another for another number, up to 32."""
    return (40 + 53 * i % 200, 90 + 97 * i % 160, 30 + 31 * i % 220)


def picture(i: int) -> Image.Image:
    """A flat picture."""
    return Image.new("RGB", (48, 32), colour(i))


def letters(i: int) -> tuple[str, str]:
    """Of the right option of question i, and of a wrong one."""
    return LETTERS[i % 4], LETTERS[(i + 1) % 4]
