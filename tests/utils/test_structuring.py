"""Plain data into types: what fits, what does not, and where the message points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from meteor_bench.utils.structuring import PlainError, fit, plain


@dataclass(frozen=True)
class Inner:
    n: int
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str
    kind: Literal["a", "b"] = "a"
    inner: tuple[Inner, ...] = ()
    table: Mapping[str, float | None] = field(default_factory=dict)
    where: Path | None = None
    free: Any = None


def test_round_trip() -> None:
    outer = Outer("x", "b", (Inner(1), Inner(2, 0.25)), {"k": None, "m": 1.0}, Path("a/b"), {"any": [1]})
    assert fit(plain(outer), Outer) == outer


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (1, float, 1.0),
        ([1, 2], tuple[int, ...], (1, 2)),
        (None, int | None, None),
        ("p", Path, Path("p")),
        (True, bool, True),
    ],
)
def test_fits(value: Any, annotation: Any, expected: Any) -> None:
    result = fit(value, annotation)
    assert result == expected and type(result) is type(expected)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"name": 1}, "name: expected text, found 1"),
        ({"name": "x", "kind": "c"}, "kind: expected one of a, b, found 'c'"),
        ({"name": "x", "inner": [{"n": 1}, {"n": True}]}, "inner[1].n: expected a whole number, found True"),
        ({"name": "x", "inner": [{}]}, "inner[0].n: the key is missing"),
        ({"name": "x", "table": {"k": "v"}}, "table.k: expected a number or nothing, found 'v'"),
        ({"name": "x", "knid": "a"}, "knid: unknown key 'knid'; did you mean 'kind'?"),
        ({"name": "x", "inner": 3}, "inner: expected a list (a table of keys and values each), found 3"),
        ([], "expected a table of keys and values, found a list"),
        ({"name": "x", "table": {1: 2.0}}, "table: expected a table of keys and values, found a table"),
    ],
)
def test_does_not_fit(value: Any, message: str) -> None:
    with pytest.raises(PlainError) as caught:
        fit(value, Outer)
    assert str(caught.value) == message
