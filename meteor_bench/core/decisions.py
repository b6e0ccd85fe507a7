"""What a method's hook gave back, checked before it is used: types, shapes and kinds of numbers.

Only what the host knows is looked at, so that nothing waits for a device. On a CPU, where looking is free, so is where
merges lead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from meteor_bench.core.decision import Decision, Restored
from meteor_bench.core.errors import PluginError
from meteor_bench.core.interrupts import contained
from meteor_bench.core.seats import Seats
from meteor_bench.core.tokens import Tokens
from meteor_bench.core.view import View

__all__ = ["asked_all", "asked_one"]

V = TypeVar("V", bound=View)


def asked_all(
    method: object, views: Mapping[str, V], call: Callable[[Mapping[str, V]], Mapping[str, Decision]]
) -> Mapping[str, Decision]:
    """Decisions for several towers, of `encode` or `fuse`; towers that are left out are not pruned.

    Raises:
        PluginError: naming method, hook and what is wrong; or the hook tried to end the process.
    """
    where = f"{type(method).__name__}.{next(iter(views.values())).stage}"
    with contained(where):
        decisions = call(views)
    if not isinstance(decisions, Mapping):
        raise PluginError(f"{where} gave {_kind(decisions)}; expected a mapping from tower to Decision")
    for tower, decision in decisions.items():
        if tower not in views:
            raise PluginError(f"{where} decided on '{tower}'; it was shown {', '.join(views)}")
        _check(f"{where} ({tower})", decision, views[tower])
    return decisions


def asked_one(method: object, view: V, call: Callable[[V], Decision]) -> Decision:
    """The decision of `decode`; errors as for `asked_all`."""
    where = f"{type(method).__name__}.{view.stage}"
    with contained(where):
        decision = call(view)
    _check(where, decision, view)
    return decision


def _check(where: str, decision: Any, view: View) -> None:
    tokens = view.tokens
    if not isinstance(decision, Decision):
        raise PluginError(f"{where} gave {_kind(decision)}; expected a Decision")
    rows = len(tokens.x)
    if not isinstance(decision.memo, Mapping):
        raise PluginError(f"{where}: Decision.memo is {_kind(decision.memo)}; expected a mapping from name to tensor")
    for name, value in decision.memo.items():
        if not isinstance(value, Tensor) or value.ndim < 1 or len(value) != rows:
            raise PluginError(f"{where}: Decision.memo['{name}'] is {_kind(value)}; expected a tensor [{rows}, ...]")
    for name in ("count", "in_windows"):
        value = getattr(decision, name)
        if value is not None:
            shape = (rows,) if name == "count" else (rows, None)
            _tensor(where, name, value, "whole", shape, torch.device("cpu"))
    if decision.seats is None:
        _check_masks(where, decision, tokens)
    else:
        _check_seats(where, decision.seats, tokens)
    if decision.restored is not None:
        if view.stage != "encode":
            raise PluginError(f"{where}: Decision.restored brings tokens back into encoders only")
        _check_restored(where, decision.restored, tokens)


def _check_masks(where: str, decision: Decision, tokens: Tokens) -> None:
    """What is said of each token, where it is not said by places."""
    rows, width = tokens.x.shape[:2]
    device = tokens.x.device
    _tensor(where, "keep", decision.keep, "bool", (rows, width), device)
    if decision.mix is not None:
        _tensor(where, "mix", decision.mix, "float", (rows, None, width), device)
    for name, numbers in (("merge_into", "whole"), ("weight", "any"), ("score", "any"), ("order", "any")):
        value = getattr(decision, name)
        if value is not None:
            _tensor(where, name, value, numbers, (rows, width), device)
    if device.type != "cpu":
        return
    if decision.count is not None:
        _check_count(where, decision.keep & tokens.visual, decision.count, tokens)
    if decision.merge_into is not None:
        _check_merges(where, decision.keep, decision.merge_into, tokens)
        if decision.total:
            _check_total(where, decision.keep, decision.merge_into, tokens)
        if decision.weight is not None and decision.normalise and bool((tokens.visual & (decision.weight <= 0)).any()):
            raise PluginError(f"{where}: Decision.weight has weights that are not positive, whose mean is asked for")


def _check_seats(where: str, seats: Seats, tokens: Tokens) -> None:
    """Each place has one token that stays, and every other token leads to one."""
    rows, width = tokens.x.shape[:2]
    _tensor(where, "seats.places", seats.places, "whole", (rows, width), tokens.x.device)
    if tokens.heads != seats.heads:
        raise PluginError(
            f"{where}: Decision.seats is for rows of equal length whose special tokens stand first: seats.heads is "
            f"{seats.heads}, Tokens.heads {tokens.heads}"
        )
    if tokens.x.device.type != "cpu":
        return
    wanted = torch.arange(seats.left).tolist()
    for row, places in enumerate(seats.places):
        if places[: seats.heads].tolist() != wanted[: seats.heads] or bool((~places < seats.heads)[places < 0].any()):
            raise PluginError(f"{where}: Decision.seats of row {row} moves a special token, or merges into one")
        if places[places >= 0].sort().values.tolist() != wanted or int(places.min()) < -seats.left:
            raise PluginError(
                f"{where}: Decision.seats of row {row} is not {seats.left} tokens and others that end in them"
            )


_NUMBERS: dict[str, tuple[str, Callable[[Tensor], bool]]] = {
    "bool": ("bool", lambda value: value.dtype == torch.bool),
    "whole": ("int64", lambda value: value.dtype == torch.int64),
    "float": ("floating-point", lambda value: value.is_floating_point()),
    "any": ("numbers", lambda value: value.dtype != torch.bool and not value.is_complex()),
}


def _tensor(
    where: str, name: str, value: Any, numbers: str, shape: tuple[int | None, ...], device: torch.device
) -> None:
    said, right = _NUMBERS[numbers]
    wanted = f"{said} [{', '.join('K' if size is None else str(size) for size in shape)}] on {device}"
    if isinstance(value, Tensor) and right(value) and value.device == device and value.ndim == len(shape):
        if all(size in (None, found) for size, found in zip(shape, value.shape, strict=True)):
            return
    raise PluginError(f"{where}: Decision.{name} is {_kind(value)}; expected {wanted}")


def _check_count(where: str, keep: Tensor, count: Tensor, tokens: Tokens) -> None:
    """What a decision says of its count is what it keeps."""
    said = torch.minimum(count, tokens.counts()).tolist()
    for row, (said_of_row, found) in enumerate(zip(said, keep.sum(1).tolist(), strict=True)):
        if said_of_row != found:
            raise PluginError(f"{where}: Decision.count says {said_of_row} of row {row}; Decision.keep has {found}")


def _check_merges(where: str, keep: Tensor, merge_into: Tensor, tokens: Tokens) -> None:
    """Dropped tokens merge into kept ones of their row, or into nothing."""
    merged = tokens.visual & ~keep & (merge_into >= 0)
    width = keep.shape[1]
    outside = merged & (merge_into >= width)
    if bool(outside.any()):
        found = int(merge_into[outside].max())
        raise PluginError(f"{where}: Decision.merge_into leads to token {found}; there are {width}, from 0")
    kept = (keep & tokens.visual) | (tokens.special & tokens.valid)
    lost = merged & ~kept.gather(1, merge_into.clamp(0, max(width - 1, 0)))
    if bool(lost.any()):
        row, at = lost.nonzero()[0].tolist()
        raise PluginError(
            f"{where}: Decision.merge_into leads from token {at} of row {row} to {int(merge_into[row, at])}, "
            "which is not kept"
        )


def _check_total(where: str, keep: Tensor, merge_into: Tensor, tokens: Tokens) -> None:
    """A decision that says so discards nothing, and sends kept tokens to themselves."""
    away = keep & (merge_into != torch.arange(keep.shape[1], device=keep.device))
    wrong = tokens.visual & (away | (merge_into < 0))
    if bool(wrong.any()):
        row, at = wrong.nonzero()[0].tolist()
        raise PluginError(
            f"{where}: Decision.total says that every token ends in a kept one; token {at} of row {row} leads to "
            f"{int(merge_into[row, at])}"
        )


def _check_restored(where: str, restored: Restored, tokens: Tokens) -> None:
    """What comes back has been gone, and is as wide as what is there."""
    rows, cells, device = len(tokens.x), tokens.grid.n, tokens.x.device
    _tensor(where, "restored.cells", restored.cells, "bool", (rows, cells), device)
    _tensor(where, "restored.x", restored.x, "float", (rows, cells, tokens.x.shape[2]), device)
    if tokens.deep is not None:
        _tensor(where, "restored.deep", restored.deep, "float", (rows, cells, tokens.deep.shape[2]), device)
    if restored.count is not None:
        _tensor(where, "restored.count", restored.count, "whole", (rows,), torch.device("cpu"))
    if device.type != "cpu":
        return
    there = restored.cells & (tokens.group >= 0)
    if bool(there.any()):
        row, cell = there.nonzero()[0].tolist()
        raise PluginError(f"{where}: Decision.restored brings back cell {cell} of row {row}, which has its token")
    found = restored.cells.sum(1).tolist()
    if restored.count is not None and restored.count.tolist() != found:
        raise PluginError(f"{where}: Decision.restored.count says {restored.count.tolist()}; its cells are {found}")


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)} on {value.device}"
    return "None" if value is None else f"a {type(value).__name__}"
