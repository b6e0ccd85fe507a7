"""Modules with fewer channels and heads: linear layers are sliced, so that what is gone costs nothing.

A unit is a hidden channel of an MLP or a head of an attention. Which units stay is said at the layer that they leave
by, as NAME.keep: a bool for each channel of an MLP's second layer, or for each head of an attention's output layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from torch import Tensor, nn

from meteor_bench.core.errors import ModelError

__all__ = ["HEAD_OUT", "WAYS_IN", "cuts", "narrow"]

# The layer that units leave by -> the layers beside it that make them.
WAYS_IN = {
    "fc2": ("fc1",),
    "pwconv2": ("pwconv1",),
    "2": ("0",),
    "down_proj": ("gate_proj", "up_proj"),
    "out_proj": ("q_proj", "k_proj", "v_proj"),
    "o_proj": ("q_proj", "k_proj", "v_proj"),
}
HEAD_OUT = ("out_proj", "o_proj")  # of attentions: their units are heads


def cuts(model: nn.Module, keep: Mapping[str, Tensor]) -> Iterator[tuple[nn.Linear, str, int, Tensor]]:
    """Of each linear layer that is cut: itself, its name, the axis of its weight, and the indices that stay.

    Args:
        keep: name of the layer that units leave by -> [units] bool.

    Raises:
        ModelError: no such layer, a number of units that it does not have, or none that stays.
    """
    layers = dict(model.named_modules())
    for name, stays in keep.items():
        above, _, last = name.rpartition(".")
        out = layers.get(name)
        if last not in WAYS_IN or not isinstance(out, nn.Linear):
            raise ModelError(f"'{name}' is no layer that channels or heads leave by")
        size = cast("int", layers[above].head_dim) if last in HEAD_OUT else 1
        units = out.in_features // size
        if stays.shape != (units,):
            raise ModelError(f"'{name}' has {units} units; found a list of {list(stays.shape)}")
        index = stays.bool().repeat_interleave(size).nonzero()[:, 0]
        if len(index) == 0:
            raise ModelError(f"'{name}' would be left without any unit")
        yield out, name, 1, index
        for way in WAYS_IN[last]:
            yield cast("nn.Linear", layers[f"{above}.{way}"]), f"{above}.{way}", 0, index


def narrow(model: nn.Module, keep: Mapping[str, Tensor]) -> None:
    """Take everything out of a model that does not stay, in place; arguments and errors as of `cuts`."""
    for layer, _, axis, index in list(cuts(model, keep)):
        at = index.to(layer.weight.device)
        layer.weight = nn.Parameter(layer.weight.detach().index_select(axis, at), layer.weight.requires_grad)
        if axis == 1:
            layer.in_features = len(at)
            continue
        layer.out_features = len(at)
        if layer.bias is not None:
            layer.bias = nn.Parameter(layer.bias.detach().index_select(0, at), layer.bias.requires_grad)
    for name in keep:
        above, _, last = name.rpartition(".")
        attention = model.get_submodule(above)
        if last in HEAD_OUT and hasattr(attention, "num_heads"):
            kept = cast("nn.Linear", model.get_submodule(name)).in_features
            attention.num_heads = kept // cast("int", attention.head_dim)  # type: ignore[assignment]
