"""Values that are worked out for whoever asks."""

from __future__ import annotations

from meteor_bench.core.tokens import Later, LaterEach


def test_each_value_is_worked_out_once_and_only_when_asked_for() -> None:
    made: list[str] = []

    def make(name: str) -> str:
        made.append(name)
        return name.upper()

    each = LaterEach({name: Later(lambda name=name: make(name)) for name in ("a", "b")})
    assert "a" in each and "c" not in each and list(each) == ["a", "b"] and len(each) == 2
    assert not made
    twice = each.each(lambda value: 2 * value)
    assert not made and twice["b"] == "BB" and each["b"] == "B" and made == ["b"]
