"""What the generator hands out."""

from dataclasses import dataclass, field

import numpy as np

from scripts.pocket.words import CHARS

GRID = 16
CELL = 8
# Channels of the dense labels, 0 = nothing. KIND: 1-8 shape, 9 plate, 10 + value for a bar.
KIND, COLOR, CHAR, SIZE, OUT_ARROW, IN_ARROW = range(6)
PLATE, BAR = 9, 10
STEPS = "step by step"


@dataclass(frozen=True)
class QA:
    """`chain` is a short working-out that precedes the answer; the question then ends with a marker."""

    family: str
    benchmark: str
    question: str
    answer: str
    chain: str = ""
    options: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        return f"{self.chain} {self.answer}".strip()


@dataclass
class Sample:
    """One image [128, 128, 3], or a clip of frames [4, 64, 64, 3], with labels [6, 16, 16] (clip: [6, 4, 8, 8])."""

    kind: str
    image: np.ndarray
    labels: np.ndarray
    qas: list[QA] = field(default_factory=list)

    @property
    def is_clip(self) -> bool:
        return self.labels.ndim == 4


class Labels:
    """Dense labels of one picture on a square grid of 8-pixel cells."""

    def __init__(self, grid: int = GRID) -> None:
        self.grid = grid
        self.cells = np.zeros((6, grid, grid), np.int64)

    def put_object(self, x: float, y: float, kind: int, color: int, size: int) -> None:
        """Mark the 2x2 cells round a centre: as many for a large object as for a small one, or counts mean area."""
        column, row = max(int((x - 4) // CELL), 0), max(int((y - 4) // CELL), 0)
        block = self.cells[:, row : row + 2, column : column + 2]
        block[KIND], block[COLOR], block[SIZE] = kind, color, size

    def put_char(self, x: float, y: float, char: str) -> None:
        column, row = int(x // CELL), int(y // CELL)
        if 0 <= column < self.grid and 0 <= row < self.grid:
            self.cells[CHAR, row, column] = 1 + CHARS.index(char)
