"""LaTeX read back by a parser of its own (pylatexenc), strictly: what is not balanced or not escaped is an error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pylatexenc.latex2text import LatexNodes2Text, MacroTextSpec
from pylatexenc.latex2text import get_default_latex_context_db as texts
from pylatexenc.latexwalker import (
    LatexCharsNode,
    LatexCommentNode,
    LatexEnvironmentNode,
    LatexGroupNode,
    LatexMacroNode,
    LatexMathNode,
    LatexNode,
    LatexSpecialsNode,
    LatexWalker,
    get_default_latex_context_db,
)
from pylatexenc.macrospec import MacroSpec

RULES = {"toprule", "midrule", "bottomrule"}
MACROS = RULES | {"centering", "caption", "resizebox", "textwidth", "textbf", "par", "footnotesize", "\\", ","}
LETTERS = set("&%$#_{}") | {"textbackslash", "textasciitilde", "textasciicircum", "textbar", "dag", "ddag", "S"}
MATHS = {"$-$", "$<$", "$>$", "$^2$", "$\\pm$", "$\\to$", "$\\leq$", "$\\geq$", "$^\\circ$", "$\\times$"}


@dataclass
class Read:
    """A table as TeX would set it; texts have their symbols again."""

    caption: str
    columns: str
    rows: list[list[str]]
    bold: set[tuple[int, int]]
    notes: str


def read(text: str) -> list[Read]:
    """The tables of a LaTeX text.

    Raises:
        LatexWalkerParseError: a group, an environment or a formula is not closed.
        AssertionError: something stands there that TeX would take for a command, or a command that is not ours.
    """
    context = get_default_latex_context_db()
    context.add_context_category("tables", [MacroSpec("resizebox", "{{{"), MacroSpec("caption", "{")], prepend=True)
    nodes, _, length = LatexWalker(text, latex_context=context, tolerant_parsing=False).get_latex_nodes()
    assert length == len(text)
    outside = [n for n in nodes if not isinstance(n, LatexEnvironmentNode)]
    assert all(isinstance(n, LatexCommentNode) or _text([n]) == "" for n in outside)
    tables = [n for n in nodes if isinstance(n, LatexEnvironmentNode)]
    assert {n.environmentname for n in tables} == {"table"}
    return [_table(n) for n in tables]


def _table(node: LatexEnvironmentNode) -> Read:
    (caption,) = (n for n in node.nodelist if isinstance(n, LatexMacroNode) and n.macroname == "caption")
    (tabular,) = (n for n in _all(node.nodelist) if isinstance(n, LatexEnvironmentNode))
    assert tabular.environmentname == "tabular"
    _checked(_all(node.nodelist), tabular)
    (spec,) = (_text(a.nodelist) for a in tabular.nodeargd.argnlist if isinstance(a, LatexGroupNode))
    rows, bold = _rows(tabular.nodelist)
    last = max(i for i, n in enumerate(node.nodelist) if tabular in [n, *_all([n])])
    return Read(_text(caption.nodeargd.argnlist), spec, rows, bold, _text(node.nodelist[last + 1 :]))


def _checked(nodes: Iterator[LatexNode], tabular: LatexEnvironmentNode) -> None:
    cells = set(map(id, tabular.nodelist))
    for node in nodes:
        source = node.latex_verbatim()
        if isinstance(node, LatexMacroNode):
            assert node.macroname in MACROS | LETTERS, source
        elif isinstance(node, LatexMathNode):
            assert source in MATHS, source
        elif isinstance(node, LatexSpecialsNode):
            assert source in ("--", "---") or (source == "&" and id(node) in cells), source
        elif isinstance(node, LatexCharsNode):
            assert not set(node.chars) & set("&%$#_{}~^\\"), source
        elif isinstance(node, LatexCommentNode):
            # The one that keeps a box's line end from being a space.
            assert node.comment == "", source
        else:
            assert isinstance(node, LatexGroupNode) or node is tabular, source


def _rows(nodes: Sequence[LatexNode]) -> tuple[list[list[str]], set[tuple[int, int]]]:
    cells: list[list[list[LatexNode]]] = [[[]]]
    for node in nodes:
        if isinstance(node, LatexSpecialsNode) and node.specials_chars == "&":
            cells[-1].append([])
        elif isinstance(node, LatexMacroNode) and node.macroname == "\\":
            cells.append([[]])
        elif not (isinstance(node, LatexMacroNode) and node.macroname in RULES):
            cells[-1][-1].append(node)
    assert [_text(cell) for cell in cells.pop()] == [""], "a row is not ended"
    bold = {
        (i, j)
        for i, row in enumerate(cells)
        for j, cell in enumerate(row)
        if any(isinstance(n, LatexMacroNode) and n.macroname == "textbf" for n in cell)
    }
    return [[_text(cell) for cell in row] for row in cells], bold


def _all(nodes: Sequence[LatexNode]) -> Iterator[LatexNode]:
    """Nodes with all that they hold, but without the letters of a formula."""
    for node in nodes:
        yield node
        arguments = node.nodeargd.argnlist if getattr(node, "nodeargd", None) else []
        inner = [] if isinstance(node, LatexMathNode) else getattr(node, "nodelist", None) or []
        yield from _all([n for n in [*(arguments or []), *inner] if n is not None])


def _text(nodes: Sequence[LatexNode]) -> str:
    context = texts()
    said = {"S": "§", "ddag": "‡", "textbar": "|", "textasciicircum": "^"}
    context.add_context_category("marks", [MacroTextSpec(name, sign) for name, sign in said.items()], prepend=True)
    made: str = LatexNodes2Text(context, math_mode="text", strict_latex_spaces=True).nodelist_to_text(list(nodes))
    return " ".join(made.replace("^∘", "°").replace("^2", "²").split())


def plain(text: str) -> str:
    """A text as `read` gives it."""
    return " ".join(text.replace("−", "-").split())
