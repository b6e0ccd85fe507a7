"""Write a page for each method under docs/methods, from its module's docstring and its class.

`python scripts/method_pages.py` and `make docs` do it; `tests/scripts/test_method_pages.py` says when it is due.
"""

from __future__ import annotations

import inspect
import re
import sys
import typing
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from meteor_bench.core.registry import METHODS  # noqa: E402
from meteor_bench.core.settings import Range  # noqa: E402
from meteor_bench.report import listing  # noqa: E402
from meteor_bench.utils.atomic_io import write_whole  # noqa: E402

FOLDER = ROOT / "docs" / "methods"
FIGURES = FOLDER / "figures"  # drawn by scripts/method_figures.py
WHERE = {
    "input": "the picture, which is made smaller",
    "encode": "in the encoders or at their output",
    "fuse": "before the language model",
    "decode": "inside the language model",
}
SHARED = "meteor_bench.methods.shared."


def page_name(method: str) -> str:
    """A method's file under docs/methods; a plus has a meaning in addresses."""
    return f"{method.replace('+', '-plus')}.md"


def figure_name(method: str) -> str:
    """Name of a method's figure, beside its page's."""
    return str(Path(page_name(method)).with_suffix(".png"))


def page(row: dict[str, Any]) -> str:
    """The page of a row of `list methods`."""
    name = row["name"]
    made = METHODS.load(name)
    module = import_module(METHODS.target(name).partition(":")[0])
    # A method in a folder of its own is explained where the folder is.
    text = inspect.getdoc(module if module.__name__.count(".") == 2 else sys.modules[module.__package__ or ""]) or ""
    lead, _, rest = text.partition("\n\n")
    does, deviations = _split(rest)
    parts = [f"# {name}", _plain(_sentence(lead.removeprefix(f"{name}: "))), _facts(row)]
    if does:
        parts += ["## What it does", _plain(does)]
    if (file := FIGURES / figure_name(name)).is_file():
        parts += ["## What it keeps", _figure(name, file)]
    if deviations:
        parts += ["## Deviations" + (" from the paper" if row["year"] else ""), _plain(deviations)]
    parts += ["## Parameters", _parameters(made)]
    ratio = "0.0" if name == "none" else "0.5"
    command = f"meteor-bench run --method {name} --ratio {ratio} --suite ci --limit 4"
    parts += ["## Try it", f"```\n{command}\n```", "What it scored on the shipped model: [Results](../results.md)."]
    for shared in dict.fromkeys(re.findall(r"`(?:methods\.)?shared\.(\w+)`", text)):
        said = inspect.getdoc(import_module(SHARED + shared)) or ""
        parts += [f"## What `shared.{shared}` says", _plain(said)]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _figure(name: str, file: Path) -> str:
    return (
        f"![Three shipped pictures, and what {name} keeps of each](figures/{file.name})\n\n"
        "Three pictures of the shipped benchmarks, and what is left of each at a ratio of 0.76 after the last point "
        "where the method prunes, drawn as `meteor-bench show` draws it: a cell that is kept looks as it is, a dropped "
        "one is faded, and merged ones have a colour a group, with a dot on the cell that stands for it."
    )


def _split(text: str) -> tuple[str, str]:
    """What a docstring says before its deviations, and they."""
    before, *after = re.split(r"^Deviations\b[.:]?", text, maxsplit=1, flags=re.M)
    said = re.sub(r"^\((.*?)\):", r"\1:", "".join(after).strip(), flags=re.S)
    return before.strip(), _sentence(said)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _plain(text: str) -> str:
    """A docstring as Markdown: what looks like a tag is text."""
    pieces = re.split(r"(``.*?``|`[^`]*`)", text, flags=re.S)
    return "".join(piece if piece.startswith("`") else piece.replace("<", "&lt;") for piece in pieces)


def _facts(row: dict[str, Any]) -> str:
    where = "; ".join(WHERE[stage] for stage in row["stages"]) or "nowhere"
    positions = {"keep": "tokens keep their position ids", "renumber": "tokens are numbered anew"}[row["positions"]]
    told = {
        "paper": _paper(row["paper"]),
        "year": str(row["year"]),
        "prunes": where,
        "needs": ", ".join(row["needs"]) or "nothing beyond the tokens",
        "training": "trained" if row["trained"] else "none",
        "budget": {"exact": "exact: every sample ends with as many tokens"}.get(
            row["budget"], "met on average; a sample's own count varies"
        ),
        "positions": positions,
        "stands in": "; ".join(row["substitutes"]),
    }
    return "\n".join(
        ["| at a glance | |", "| --- | --- |", *(f"| {key} | {value} |" for key, value in told.items() if value)]
    )


def _paper(paper: str) -> str:
    if number := re.fullmatch(r"arXiv (\d{4}\.\d{5})", paper):
        return f"[{paper}](https://arxiv.org/abs/{number[1]})"
    return "none: a control" if paper == "control" else paper


def _parameters(made: type[Any]) -> str:
    """A row for each setting: default, what it may be, what it is."""
    hints = typing.get_type_hints(made, include_extras=True)
    said = _attributes(made)
    rows = []
    for field in fields(made):
        if field.init and field.name in made().parameters():
            default = field.default if field.default is not MISSING else field.default_factory()  # type: ignore[misc]
            allowed = _allowed(hints[field.name])
            rows.append(f"| `{field.name}` | {_value(default)} | {allowed} | {said.get(field.name, '')} |")
    if not rows:
        return "It has none."
    head = [
        "Set with `--param name=value`.",
        "",
        "| name | default | may be | what it is |",
        "| --- | --- | --- | --- |",
    ]
    return "\n".join([*head, *rows])


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(map(_value, value))
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value) or "empty"


def _allowed(hint: Any) -> str:
    """A type in a user's words, its range with it."""
    if hint is type(None):
        return "none"
    ranges = [str(extra) for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Range)]
    kind = get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
    if get_origin(kind) is Literal:
        return ", ".join(map(_value, get_args(kind)))
    names = {bool: "true, false", int: "a whole number", float: "a number", str: "a text"}
    if kind in names:
        return " ".join([names[kind], *ranges])
    if isinstance(kind, type) or get_origin(kind) in (tuple, list):
        each = list(dict.fromkeys(_allowed(part) for part in get_args(kind) if part is not ...))
        size = [f"length {extra}" for extra in ranges]
        return "; ".join(["a list of " + ", then ".join(each), *size])
    return " or ".join(_allowed(part) for part in get_args(kind))


def _attributes(made: type[Any]) -> dict[str, str]:
    """What the docstrings of a class and of those it derives from say of its fields."""
    found: dict[str, str] = {}
    for owner in reversed(made.__mro__):
        section = re.search(r"^Attributes:\n(.*?)(?=^\S|\Z)", inspect.cleandoc(owner.__doc__ or ""), re.S | re.M)
        for names, text in re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {5,}.*)*)", section[1] if section else "", re.M):
            found.update(
                {name.strip(): " ".join(_plain(text).split()).replace("|", "\\|") for name in names.split(",")}
            )
    return found


def pages() -> dict[str, str]:
    """File name -> text, of every method of this repository."""
    return {page_name(row["name"]): page(row) for row in listing.methods() if row["name"] in METHODS.rows}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        write_whole(FOLDER / name, text.encode())


if __name__ == "__main__":
    main()
