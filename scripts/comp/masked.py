"""A model in training whose units are masked at the layers that they leave by, and what passes there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from scripts.comp.sites import Site

__all__ = ["Masked"]

Seen = Callable[[str, Tensor], None]


class Masked:
    """Masks [units] between 0 and 1, multiplied into what the layers are given; all 1 at first.

    Args:
        vlm: `PocketVLM`; hooks stay on it until `close`.
    """

    def __init__(self, vlm: nn.Module, places: list[Site]) -> None:
        self.places = {site.name: site for site in places}
        self.masks = {site.name: torch.ones(site.units) for site in places}
        self._given: Seen | None = None
        self._attended: Seen | None = None
        self._hooks = []
        for name, site in self.places.items():
            layer = vlm.get_submodule(name)
            self._hooks.append(layer.register_forward_pre_hook(self._mask(name)))
            if site.pairs:
                attention = name.rpartition(".")[0]
                self._hooks.append(vlm.get_submodule(attention).register_forward_hook(self._read(attention)))

    def close(self) -> None:
        """Take the hooks off."""
        for hook in self._hooks:
            hook.remove()

    def set(self, keep: Mapping[str, Tensor]) -> None:
        """Masks of 0 and 1."""
        self.masks = {name: keep[name].float() for name in self.masks}

    def fade(self, old: Mapping[str, Tensor], new: Mapping[str, Tensor], done: float) -> None:
        """Masks on the way from one set of units to a smaller one: what goes has 1 - done."""
        self.masks = {
            name: old[name].float() * (new[name].float() + (1 - new[name].float()) * (1 - done)) for name in self.masks
        }

    def heads(self, attention: str) -> Tensor:
        """[H] masks of an attention's heads."""
        return next(self.masks[name] for name in self.masks if name.rpartition(".")[0] == attention)

    @contextmanager
    def watched(self, given: Seen, attended: Seen) -> Iterator[None]:
        """Inside, what each layer is given (after the mask) and each attention's weights are shown, by name."""
        self._given, self._attended = given, attended
        try:
            yield
        finally:
            self._given = self._attended = None

    def _mask(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...] | None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
            mask, (x, *rest) = self.masks[name], inputs
            changed = not bool((mask == 1).all())
            if changed:
                x = x * mask.repeat_interleave(self.places[name].size).to(x.dtype)
            if self._given is not None:
                self._given(name, x.detach())
            return (x, *rest) if changed else None

        return hook

    def _read(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if self._attended is not None:
                self._attended(name, output[1].detach())

        return hook
