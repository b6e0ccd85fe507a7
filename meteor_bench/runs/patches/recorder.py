"""What is left of one sample's visual tokens at each point of the engine, as panels of grid cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from meteor_bench.core.join import join_frames
from meteor_bench.core.model import PLAIN, Scene
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.engine.engine import Engine

__all__ = ["ALONE", "COLOURS", "DROPPED", "Panel", "PatchRecorder", "Point"]

Stage = Literal["encode", "fuse", "decode"]
DROPPED, ALONE = -1, 0
COLOURS = 7


@dataclass(frozen=True)
class Panel:
    """The cells of one grid at one point.

    Attributes:
        tower: whose grid it is; "fused" where the encoders share one.
        title: "a, block 3/6".
        grid: unpruned, t frames.
        start: number of the grid's first cell; the grids of an independent fusion are counted through.
        group: per cell the number of the cell that stands for it (itself, or the one it was merged into), -1 where it
            was dropped.
        colour: per cell `DROPPED`, `ALONE` for a token that stands for itself only, or 1 to `COLOURS` for a merged
            group; groups that touch have different colours as long as there are enough of them.
        kept: tokens left, counted from the tensors.
    """

    tower: str
    title: str
    grid: Grid
    start: int
    group: tuple[int, ...]
    colour: tuple[int, ...]
    kept: int


class Point(NamedTuple):
    """All grids at one point, in the order of the towers."""

    stage: Stage
    title: str
    panels: tuple[Panel, ...]

    @property
    def kept(self) -> int:
        """Tokens left, all grids together."""
        return sum(panel.kept for panel in self.panels)


class _Part(NamedTuple):
    """A grid before it is coloured."""

    tower: str
    title: str
    grid: Grid
    start: int
    group: list[int]
    kept: int


class PatchRecorder:
    """A recorder of the engine (`Engine.recorder`) for one sample.

    Raises:
        ValueError: it is shown a batch of several samples.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int, str], Tokens] = {}

    def __call__(self, kind: str, point: int, tower: str, tokens: Tokens) -> None:
        """Note the tokens after a point; encoders' frames become one row."""
        if kind == "encode":
            tokens = join_frames(tokens, tokens.x.shape[0])
        if tokens.x.shape[0] != 1:
            raise ValueError(f"a recorder is of one sample, not of {tokens.x.shape[0]}")
        self._seen[kind, point, tower] = tokens

    def points(self, engine: Engine, scene: Scene = PLAIN) -> list[Point]:
        """What was seen, in the order of the stages.

        Encoders that the method leaves alone stand beside the others' last point, at their output.
        """
        return [*self._encoders(engine), *self._joined(engine, scene)]

    def _encoders(self, engine: Engine) -> Iterator[Point]:
        towers, asked = engine.vlm.towers, engine.points.encode
        rows = [
            ("encode" if len(asked) == 1 else f"encode {i + 1} of {len(asked)}", dict(p.after))
            for i, p in enumerate(asked)
        ]
        left_alone = {name: towers[name].depth for name in towers if not any(name in after for _, after in rows)}
        rows = rows or [("encoders' output", {})]
        rows[-1][1].update(left_alone)
        for index, (title, after) in enumerate(rows):
            panels: list[Panel] = []
            for name in [name for name in towers if name in after]:
                key = ("tower", 0, name) if name in left_alone else ("encode", index, name)
                depth, inside = towers[name].depth, name not in left_alone and asked[index].inside
                where = f"block {after[name]}/{depth}" if 0 < after[name] < depth or inside else "output"
                panels += _coloured([_part(self._seen[key], name, f"{name}, {where}")])
            yield Point("encode", title, tuple(panels))

    def _joined(self, engine: Engine, scene: Scene) -> Iterator[Point]:
        fusion = engine.vlm.at(scene).fusion
        grids = {name: self._seen["tower", 0, name].grid for name in engine.vlm.towers}

        def parts(tokens: Tokens) -> list[_Part]:
            if fusion.kind == "independent":
                return _split(tokens, grids)
            if len(cells := fusion.cells(grids)) == 1:  # a sequence, made of the cells of the only tower
                ((name, source),) = cells.items()
                return [_laid_out(tokens, name, grids[name], source.tolist())]
            return [_part(tokens, "fused", "all encoders")]

        yield Point("fuse", "after fusion", _coloured(parts(self._seen["fuse", 0, "fused"])))
        for index, point in enumerate(engine.points.decode):
            title = f"before LLM layer {point.before} of {engine.vlm.decoder.depth}"
            yield Point("decode", title, _coloured(parts(self._seen["decode", index, "llm"])))


def _part(tokens: Tokens, tower: str, title: str, grid: Grid | None = None, start: int = 0) -> _Part:
    """A grid's share of a sequence: the whole of it, or the cells from ``start`` on."""
    grid = grid or tokens.grid
    origin = tokens.origin[tokens.visual]
    kept = int(((origin >= start) & (origin < start + grid.n)).sum())
    return _Part(tower, title, grid, start, tokens.group[0, start : start + grid.n].tolist(), kept)


def _split(tokens: Tokens, grids: Mapping[str, Grid]) -> list[_Part]:
    """The joined sequence by the towers it was concatenated from."""
    parts, start = [], 0
    for name, grid in grids.items():
        parts.append(_part(tokens, name, name, grid, start))
        start += grid.n
    return parts


def _laid_out(tokens: Tokens, name: str, grid: Grid, source: Sequence[int]) -> _Part:
    """A sequence back on the tower's grid; a cell that no token was made of (padding) counts as dropped.

    Args:
        source: for each place of the unpruned sequence the cell it was made of.
    """
    group = [DROPPED] * grid.n
    for place, standing in enumerate(tokens.group[0].tolist()):
        if standing >= 0:
            group[source[place]] = source[standing]
    return _Part(name, name, grid, 0, group, int(tokens.counts()[0]))


def _coloured(parts: Sequence[_Part]) -> tuple[Panel, ...]:
    """Colours of merged groups, first come first served: the first that no touching group has."""
    size = Counter(g for part in parts for g in part.group if g >= 0)
    touching: dict[int, set[int]] = {}
    for part in parts:
        for one, other in _edges(part.grid):
            a, b = part.group[one], part.group[other]
            if a != b and size[a] > 1 and size[b] > 1 and a >= 0 and b >= 0:
                touching.setdefault(a, set()).add(b)
                touching.setdefault(b, set()).add(a)
    colours: dict[int, int] = {DROPPED: DROPPED}
    for number, group in enumerate(sorted(size)):
        taken = {colours.get(other) for other in touching.get(group, ())}
        free = [c for c in range(1, COLOURS + 1) if c not in taken]
        # Starting elsewhere each time: otherwise two colours would do most of the work.
        turn = number % len(free) if free else 0
        colours[group] = ALONE if size[group] == 1 else free[turn] if free else 1 + number % COLOURS
    return tuple(
        Panel(p.tower, p.title, p.grid, p.start, tuple(p.group), tuple(colours[g] for g in p.group), p.kept)
        for p in parts
    )


def _edges(grid: Grid) -> Iterator[tuple[int, int]]:
    """Cells side by side or one above the other in the same frame."""
    for cell in range(grid.n):
        row, column = divmod(cell % (grid.h * grid.w), grid.w)
        if column + 1 < grid.w:
            yield cell, cell + 1
        if row + 1 < grid.h:
            yield cell, cell + grid.w
