"""A composition's YAML file, read and checked without any library that takes seconds.

Keys: towers (name: {type, sizes...} or {same_as: name}), fusion, decoder; and optionally image, reference, weights,
template, licence, note. See docs/encoders.md.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from meteor_bench.core.errors import ConfigError, UnknownNameError
from meteor_bench.core.settings import Range
from meteor_bench.models.composed.encoders import TOWERS
from meteor_bench.models.composed.parts import DECODERS, Decoder, Fusion, Side, Tower
from meteor_bench.utils.structuring import Place, PlainError, fit
from meteor_bench.utils.yaml_file import line_of, parsed

__all__ = ["Recipe", "is_recipe", "read"]

SUFFIXES = (".yaml", ".yml")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_DEFAULT_PIXELS = 336  # of a picture, where no tower says


@dataclass(frozen=True, kw_only=True)
class _File:
    """The keys of a file; towers and decoder are looked at by their types."""

    towers: Mapping[str, Mapping[str, Any]]
    fusion: Fusion
    decoder: Mapping[str, Any]
    image: Side | None = None
    reference: Annotated[int, Range(least=1)] | None = None
    weights: Path | None = None
    template: Literal["vicuna_v1", "llama3", "yi_34b_chatml_direct"] | None = None
    licence: str = "that of the weights you give it"
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A composition that fits together.

    Attributes:
        name: the file's, without its suffix.
        digest: SHA-256 of the file's bytes.
        towers: name -> tower, in the order of the file.
        same: name -> the tower whose modules and weights (projector included, where each has one) it shares.
        decoder_type: key of `DECODERS`.
        image: side in pixels of the square that a picture is made.
        reference: visual tokens of a picture that a ratio is of.
        weights: folder; None for random weights only.
        template: of the prompt; None: what the weights' tokenizer says.
    """

    name: str
    digest: str
    towers: Mapping[str, Tower]
    same: Mapping[str, str]
    fusion: Fusion
    decoder_type: str
    decoder: Decoder
    image: int
    reference: int
    weights: Path | None
    template: str | None
    licence: str
    note: str

    @property
    def tokens(self) -> int:
        """Visual tokens that the language model gets of a picture, unpruned."""
        if self.fusion.grid is not None:
            return self.fusion.grid**2
        return sum(tower.side**2 for tower in self.towers.values())


def is_recipe(name: str) -> bool:
    """Whether a model's name can only mean a composition's file."""
    return name.endswith(SUFFIXES)


def read(file: Path) -> Recipe:
    """A file as a recipe.

    Raises:
        ConfigError: one line with file, line, key and what would be right.
    """
    top, given = parsed(file)
    if top is None:
        raise ConfigError(f"{file}: it is empty; a composition has towers, fusion and decoder")
    try:
        said: _File = fit(given, _File)
        towers, same = _towers(said.towers)
        _check_fusion(said.fusion, towers, same)
        kind, decoder = _decoder(said.decoder)
    except PlainError as error:
        raise ConfigError(f"{file}:{line_of(top, error.place)}: {error}") from None
    sides = [tower.pixels_side for tower in towers.values() if tower.pixels_side is not None]
    recipe = Recipe(
        name=file.stem,
        digest=hashlib.sha256(file.read_bytes()).hexdigest(),
        towers=towers,
        same=same,
        fusion=said.fusion,
        decoder_type=kind,
        decoder=decoder,
        image=said.image or max(sides, default=_DEFAULT_PIXELS),
        reference=said.reference or 0,
        weights=None if said.weights is None else file.parent / said.weights,
        template=said.template,
        licence=said.licence,
        note=said.note,
    )
    return recipe if recipe.reference else Recipe(**{**vars(recipe), "reference": recipe.tokens})


def _towers(said: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Tower], dict[str, str]]:
    """The towers, and which of them are another once more."""
    towers: dict[str, Tower] = {}
    same: dict[str, str] = {}
    if not said:
        raise PlainError(("towers",), "expected at least one tower")
    for name, sizes in said.items():
        place: Place = ("towers", name)
        if not _NAME.fullmatch(name):
            raise PlainError(place, "expected a name of small letters, digits, - and _, at most 32")
        if "same_as" in sizes:
            towers[name], same[name] = _twin(sizes, towers, same, place)
            continue
        kind = _typed(sizes, TOWERS, "tower", place)
        towers[name] = fit({k: v for k, v in sizes.items() if k != "type"}, kind, place)
        for key, reason in towers[name].wrong():
            raise PlainError((*place, key), reason)
    return towers, same


def _twin(
    sizes: Mapping[str, Any], towers: Mapping[str, Tower], same: Mapping[str, str], place: Place
) -> tuple[Tower, str]:
    other = sizes["same_as"]
    if set(sizes) != {"same_as"}:
        raise PlainError((*place, next(k for k in sizes if k != "same_as")), "expected nothing beside same_as")
    if other not in towers or other in same:
        known = ", ".join(name for name in towers if name not in same) or "none"
        raise PlainError((*place, "same_as"), f"expected a tower that stands before it ({known}), found '{other}'")
    return towers[other], other


def _typed(sizes: Mapping[str, Any], table: Mapping[str, Any], what: str, place: Place) -> Any:
    """The row of a table that a part's type names."""
    if "type" not in sizes:
        raise PlainError((*place, "type"), f"the key is missing; one of {', '.join(table)}")
    kind = sizes["type"]
    if not isinstance(kind, str) or kind not in table:
        said = str(UnknownNameError(what, str(kind), table))
        guessed = any(name not in said for name in table)  # then it names that guess alone
        raise PlainError((*place, "type"), f"{said} ({what}s: {', '.join(table)})" if guessed else said)
    return table[kind]


def _check_fusion(fusion: Fusion, towers: Mapping[str, Tower], same: Mapping[str, str]) -> None:
    """Whether the grids can be joined."""
    if fusion.kind == "sequence":
        for key, given in (("grid", fusion.grid), ("fold", fusion.fold)):
            if given:
                raise PlainError(("fusion", key), "a sequence has no common grid; leave it out, or take kind: channels")
        return
    if fusion.grid is None:
        raise PlainError(("fusion", "grid"), "the key is missing; kind: channels needs the side of the common grid")
    for at, name in enumerate(fusion.fold):
        if name not in towers:
            raise PlainError(("fusion", "fold", at), str(UnknownNameError("tower", name, towers)))
        side = towers[name].side
        if side != 2 * fusion.grid:
            raise PlainError(
                ("fusion", "fold", at),
                f"'{name}' has {side}x{side} cells, which do not fold into {fusion.grid}x{fusion.grid}: expected "
                f"{2 * fusion.grid}x{2 * fusion.grid}; leave it out of fold to have it resampled, or take grid: "
                f"{side // 2}",
            )
    coarse = min(tower.side for tower in towers.values())
    fine = max(tower.side for tower in towers.values())
    if not coarse <= fusion.grid <= fine:
        raise PlainError(
            ("fusion", "grid"),
            f"grids of {coarse}x{coarse} to {fine}x{fine} cells cannot be joined on one of "
            f"{fusion.grid}x{fusion.grid}: expected a side from {coarse} to {fine}",
        )


def _decoder(sizes: Mapping[str, Any]) -> tuple[str, Decoder]:
    """Only language models: a decoder that reads no text answers nothing."""
    place: Place = ("decoder",)
    _typed(sizes, DECODERS, "decoder", place)
    if "vocab_size" not in sizes:
        raise PlainError(
            (*place, "vocab_size"), "the key is missing: a decoder without text; say how many tokens it knows"
        )
    decoder: Decoder = fit({k: v for k, v in sizes.items() if k != "type"}, Decoder, place)
    for key, reason in decoder.wrong():
        raise PlainError((*place, key), reason)
    return str(sizes["type"]), decoder
