"""HTML elements from Python: every text is escaped unless it is an element already."""

from __future__ import annotations

from html import escape

__all__ = ["Html", "counted", "tag"]

_VOID = frozenset({"input", "meta", "br"})


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def tag(name: str, /, *children: str | None, **attributes: str | float | bool | None) -> Html:
    """An element.

    Args:
        children: elements, or texts to be escaped; None is left out.
        attributes: ``class_`` and ``for_`` for the words that Python keeps, ``data_v`` for ``data-v``; True stands
            without a value, False and None are left out.
    """
    said = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{said}>")
    inner = "".join(child if isinstance(child, Html) else escape(child) for child in children if child is not None)
    return Html(f"<{name}{said}>{inner}</{name}>")


def counted(n: int, one: str, many: str | None = None) -> str:
    """A number of things in words: "1 benchmark", "12 benchmarks"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
