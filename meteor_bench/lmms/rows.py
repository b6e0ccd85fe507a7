"""Documents without their pictures, read some at a time: ``datasets`` takes longer over a row than over its values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["Rows"]

TOGETHER = 64


class Rows:
    """What lmms-eval uses of a ``Dataset``. Every row is made anew: some tasks change them while scoring."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.features = dataset.features

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, number: int) -> Any:
        return self._dataset[number]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self), TOGETHER):
            columns = self._dataset[start : start + TOGETHER]
            for values in zip(*columns.values(), strict=True):
                yield dict(zip(columns, values, strict=True))

    def select(self, numbers: Iterable[int]) -> Rows:
        """These rows alone."""
        return Rows(self._dataset.select(numbers))
