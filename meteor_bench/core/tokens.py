"""Batches of visual tokens with everything that pruning has to keep track of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any, Generic, NamedTuple, Self, TypeVar, overload

import torch
from torch import Tensor

from meteor_bench.core.host import places, trues

__all__ = ["Block", "Grid", "Later", "LaterEach", "Lazy", "Length", "Tokens", "worked_out"]

T = TypeVar("T")


class Later(Generic[T]):
    """A value that is worked out when it is first asked for, and never where nobody asks."""

    __slots__ = ("_made", "_value")

    def __init__(self, made: Callable[[], T]) -> None:
        self._made: Callable[[], T] | None = made

    def get(self) -> T:
        """The value."""
        if self._made is not None:
            self._value, self._made = self._made(), None
        return self._value


class LaterEach(Mapping[str, T]):
    """Values by name, each worked out when it is first asked for; who only looks for names works nothing out."""

    def __init__(self, made: Mapping[str, Later[T]]) -> None:
        self._made = dict(made)

    def __getitem__(self, name: str) -> T:
        return self._made[name].get()

    def __contains__(self, name: object) -> bool:
        return name in self._made

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    def each(self, change: Callable[[T], T]) -> LaterEach[T]:
        """What ``change`` makes of each value, later."""
        return LaterEach({name: Later(partial(_changed, made, change)) for name, made in self._made.items()})


def _changed(made: Later[T], change: Callable[[T], T]) -> T:
    return change(made.get())


def worked_out(field: Any) -> Any:
    """The value of a field as `Tokens.raw` gives it: that of a `Later`, else itself."""
    return field.get() if isinstance(field, Later) else field


class Lazy(Generic[T]):
    """A field of a dataclass that may be given as a `Later`; whoever reads it gets the value.

    Args:
        optional: the field is None where it is not given.
    """

    def __init__(self, *, optional: bool = False) -> None:
        self._optional, self._name = optional, ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, owner: None, kind: type) -> T: ...

    @overload
    def __get__(self, owner: object, kind: type | None = None) -> T: ...

    def __get__(self, owner: object | None, kind: type | None = None) -> T:
        if owner is None and self._optional:
            return None  # type: ignore[return-value]
        if owner is None:
            raise AttributeError(self._name)  # the field has no default
        value: T | Later[T] = vars(owner)[self._name]
        return value.get() if isinstance(value, Later) else value

    def __set__(self, owner: object, value: T | Later[T]) -> None:
        vars(owner)[self._name] = value


class Grid(NamedTuple):
    """Extent of an unpruned token grid: t frames or tiles, h rows, w columns."""

    t: int
    h: int
    w: int

    @property
    def n(self) -> int:
        """Number of cells."""
        return self.t * self.h * self.w


class Length(NamedTuple):
    """Tokens of a row, as the host knows them."""

    visual: int
    special: int

    @property
    def all(self) -> int:
        """Both kinds."""
        return self.visual + self.special


@dataclass(frozen=True)
class Tokens:
    """A padded batch of token sequences.

    What is bookkeeping (all but the features) may be given as a `Later`: on a GPU each field costs kernels, and many
    are never looked at.

    Attributes:
        x: [B, N, D] features.
        valid: [B, N] bool, False where a row is padding.
        origin: [B, N] long, index of the token in the unpruned grid (raster order), -1 for special tokens and
            padding. A merged token carries the origin of the token it was merged into.
        special: [B, N] bool, class and register tokens, in the language model newlines and separators: never pruned,
            not counted as visual tokens.
        size: [B, N] number of unpruned tokens that a token stands for (1 unless merged).
        group: [B, G] long, for each cell of the unpruned grid the origin of the token that stands for it now,
            -1 where the cell was dropped. G = grid.n.
        grid: extent of the unpruned grid.
        slot: [B, N] long, place in the unpruned visual block of the language model (newlines and separators have one
            too), -1 for padding; None before the tokens stand in that block, or where it is nothing but the grid.
        lengths: B, how many tokens each row has, where that is known without asking the device; None: it is asked
            when somebody wants to know. Whoever changes ``valid`` or ``special`` must change it too.
        merged: whether any token may stand for several.
        in_windows: [B, W] long on the CPU, tokens in each window of an encoder that has some, where the host knows.
        raster: whether the host knows that visual tokens stand in ascending order of their origins.
        ahead: whether the host knows that special tokens, if there are any, stand before all others.
        deep: [B, N, K·D] what else the language model gets of each token (DeepStack, arXiv 2406.04334), each part as
            wide as ``x``: in an encoder what its K taps gave, behind the projector what is added to the token behind
            each of the first K layers; None where a model has no such thing. It goes where its token goes, and is
            merged as ``x`` is, with the same weights: a merged token is given the same mean (or sum) of what its parts
            would have been given as if they had been merged after it was added.
    """

    x: Tensor
    valid: Lazy[Tensor] = Lazy()
    origin: Lazy[Tensor] = Lazy()
    special: Lazy[Tensor] = Lazy()
    size: Lazy[Tensor] = Lazy()
    group: Lazy[Tensor] = Lazy()
    grid: Lazy[Grid] = Lazy()
    slot: Lazy[Tensor | None] = Lazy(optional=True)
    lengths: tuple[Length, ...] | None = None
    merged: bool = True
    raster: bool = False
    ahead: bool = False
    in_windows: Tensor | None = None
    deep: Tensor | None = None

    @classmethod
    def dense(cls, x: Tensor, grid: Grid, specials: int = 0) -> Tokens:
        """Tokens of an unpruned grid; the first ``specials`` tokens of each row are special.

        Args:
            x: [B, specials + grid.n, D].
        """
        b, n, _ = x.shape
        device = x.device
        place = Later(lambda: torch.arange(-specials, grid.n, device=device) if specials else places(n, device))
        return cls(
            x=x,
            valid=Later(partial(trues, b, n, device)),
            origin=Later(lambda: (place.get().clamp(min=-1) if specials else place.get()).expand(b, n)),
            special=Later(lambda: (place.get() < 0).expand(b, n)),
            size=Later(lambda: torch.ones(b, n, device=device)),
            group=Later(lambda: place.get()[specials:].expand(b, grid.n)),
            grid=grid,
            lengths=(Length(n - specials, specials),) * b,
            merged=False,
            raster=True,
            ahead=True,
        )

    # Asked for again and again at every pruning point; each is worked out once.
    @cached_property
    def visual(self) -> Tensor:
        """[B, N] bool, True for the tokens that a method may keep or drop."""
        if self.plain:
            return self.valid
        return self.valid & ~self.special

    @cached_property
    def host(self) -> tuple[Length, ...]:
        """How many tokens each row has; waits for the device where ``lengths`` does not say."""
        if self.lengths is not None:
            return self.lengths
        both = torch.stack([(self.valid & ~self.special).sum(1), (self.valid & self.special).sum(1)], 1)
        return tuple(Length(*row) for row in both.tolist())

    @cached_property
    def _counts(self) -> Tensor:
        return torch.tensor([row.visual for row in self.host], dtype=torch.long)

    def counts(self) -> Tensor:
        """[B] long on the CPU, number of visual tokens in each row."""
        return self._counts

    @property
    def padded(self) -> bool:
        """Whether any row holds padding (then every attention needs a mask)."""
        return any(row.all != self.x.shape[1] for row in self.host)

    @property
    def plain(self) -> bool:
        """Whether the host knows that every token is a visual one."""
        return self.lengths is not None and all(row == (self.x.shape[1], 0) for row in self.lengths)

    @property
    def whole(self) -> bool:
        """Whether the host knows that every cell of the grid has its token, in raster order."""
        return self.raster and self.plain and self.x.shape[1] == self.grid.n

    @property
    def heads(self) -> int | None:
        """Special tokens that stand before the others in rows of equal length; None where the host does not know."""
        n, known = self.x.shape[1], self.lengths
        if not known or any(row != known[0] or row.all != n for row in known):
            return None
        return known[0].special if self.ahead or known[0].special == 0 else None

    def raw(self, name: str) -> Any:
        """A field as it was given: a value, a `Later`, or None."""
        return vars(self)[name]

    def changed(self, **changes: Any) -> Self:
        """The same tokens with other fields; what is not worked out yet stays so."""
        return type(self)(**{name: value for name, value in vars(self).items() if name in _FIELDS} | changes)

    def with_x(self, x: Tensor) -> Tokens:
        """The same tokens with other features [B, N, D']."""
        other = self.changed(x=x)
        for name in ("visual", "host", "_counts"):  # what was worked out holds for them too
            if name in vars(self):
                vars(other)[name] = vars(self)[name]
        return other


_FIELDS = frozenset(field.name for field in fields(Tokens))


@dataclass(frozen=True)
class Block:
    """An unpruned visual block of L slots, the same for every sample of its shape.

    Attributes:
        slots: [G] long, the slot of each cell of the visual tokens' grid, ascending.
        special: [S, D] embeddings of the special tokens.
        special_slots: [S] long, ascending.
        positions: [L] or [L, A] position ids of the slots, from 0; None: the slot's own index.
        span: what the block adds to the position ids of the text behind it; None: L.
    """

    slots: Tensor
    special: Tensor
    special_slots: Tensor
    positions: Tensor | None = None
    span: int | None = None

    @property
    def length(self) -> int:
        """L."""
        return len(self.slots) + len(self.special_slots)
