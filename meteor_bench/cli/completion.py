"""What values of flags complete to: names of tables, and of comma lists the last name."""

from __future__ import annotations

from collections.abc import Callable

from meteor_bench.config.spec import Option

__all__ = ["complete", "completer", "table"]

_FIXED = {
    "devices": ("auto", "cpu", "cuda", "mps"),
}
Completer = Callable[[str], list[str]]


def table(name: str) -> list[str]:
    """The names of a table; a name that is no table's is its own."""
    from meteor_bench.core.registry import METHODS, MODELS
    from meteor_bench.data import suites
    from meteor_bench.report.paper.numbers import papers

    tables: dict[str, Callable[[], list[str]]] = {
        "models": MODELS.names,
        "methods": METHODS.names,
        "suites": suites.suite_names,
        "tasks": suites.task_names,
        "papers": lambda: list(papers()),
    }
    return list(_FIXED[name]) if name in _FIXED else tables[name]() if name in tables else [name]


def complete(*names: str, many: bool = False) -> Completer:
    """A function that Typer asks with what stands there so far.

    Args:
        names: tables, or single names.
        many: the value is a list separated by commas; its last name is completed.
    """

    def found(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",") if many else ("", "", incomplete)
        known = [name for part in names for name in table(part)]
        return [f"{before}{comma}{name}" for name in known if name.startswith(last)]

    return found


def completer(option: Option) -> Completer | None:
    """What a field's flag completes to; None for anything."""
    names = [*filter(None, option.completes.split(",")), *option.choices]
    return complete(*dict.fromkeys(names), many=option.several) if names else None
