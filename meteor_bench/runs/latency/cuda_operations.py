"""What CUDA makes of torch's operations: how many kernels, which waits, and what it has that the CPU has not."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["INDEXED", "ON_CUDA_ALONE", "WAITS", "Operation", "kernels", "known"]

# Composite operations for which CUDA has a kernel of its own.
FUSED = frozenset(
    "scaled_dot_product_attention linear layer_norm rms_norm conv2d matmul softmax gelu group_norm embedding".split()
)
WAITS = frozenset(
    "_local_scalar_dense nonzero masked_select equal _unique2 unique_dim unique_consecutive bincount is_nonzero "
    "_linalg_check_errors linalg_eigh _linalg_eigh _linalg_svd linalg_cholesky_ex".split()
)
FREE = frozenset(
    "detach alias lift_fresh lift_fresh_copy _unsafe_view empty empty_like new_empty empty_strided new_empty_strided "
    "sym_size sym_stride sym_numel is_pinned is_same_size _local_scalar_dense equal unsqueeze squeeze transpose t view "
    "expand set".split()
)
INDEXED = ("index", "index_put", "_index_put_impl")  # these take indices from the host, and wait
# These copy what they are given and write into the copy; in place it is one kernel.
COPYING = frozenset("masked_fill scatter scatter_add scatter_reduce index_add index_copy".split())
# Kernels for one such operation where it is not one.
KERNELS = {
    "sort": 4,
    "argsort": 4,
    "topk": 3,
    "nonzero": 4,
    "_linalg_eigh": 400,
    "bincount": 3,
    "cummax": 2,
    "cdist": 3,
    "_unique2": 8,
    "received": 3,  # two of Triton's, and the mean of their parts
    "isolation": 3,  # two of Triton's, and a median between them
    "seats": 2,
    "standing": 2,
    "in_places": 2,
    "peaked": 3,  # two of Triton's, and the largest distance between them
    "to_mean": 2,  # torch's sum, and one of Triton's
}


class Operation(NamedTuple):
    """What is asked of an operation whenever it runs.

    Attributes:
        base: its name, without what says that it works in place.
        parts: whether it is run as what it is made of.
        written: (place, name) of the arguments that it writes to.
        returns: how many results it has.
    """

    base: str
    parts: bool
    written: tuple[tuple[int, str], ...]
    returns: int


@cache
def known(func: Any) -> Operation:
    """What an operation is."""
    schema = func._schema
    base = schema.name.split("::")[1]
    base = base if base.startswith("_") else base.rstrip("_")
    composite = torch._C.DispatchKey.CompositeImplicitAutograd
    parts = base not in FUSED and torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), composite)
    named = ((i, a) for i, a in enumerate(schema.arguments) if a.alias_info is not None and a.alias_info.is_write)
    written = tuple((i, a.name) for i, a in named)
    return Operation(base, parts, () if func.is_view else written, len(schema.returns))


def kernels(base: str, func: Any) -> int:
    """What a GPU is sent for an operation: none for one that only looks at its argument differently."""
    if func.is_view or base in FREE:
        return 0
    copied = base in COPYING and not func._schema.name.endswith("_")
    return KERNELS.get(base, 1) + copied


def _gru_cell(inward: Tensor, hidden: Tensor, h: Tensor, *biases: Tensor) -> tuple[Tensor, Tensor]:
    """CUDA's fused kernel of a GRU cell, which the CPU has not: ``inward`` and ``hidden`` are [N, 3·S] products."""
    if biases:
        inward, hidden = inward + biases[0], hidden + biases[1]
    reset, update, new = inward.chunk(3, 1)
    reset_h, update_h, new_h = hidden.chunk(3, 1)
    reset, update = torch.sigmoid(reset + reset_h), torch.sigmoid(update + update_h)
    fresh = torch.tanh(new + reset * new_h)
    return (h - fresh) * update + fresh, inward.new_zeros(0)


def _histc(values: Tensor, *bounds: Any, **named: Any) -> Tensor:
    """CUDA counts integers too, as transformers has it count the tokens of each expert; the CPU only floats."""
    return torch.histc(values.float(), *bounds, **named).to(values.dtype)


ON_CUDA_ALONE = {"_thnn_fused_gru_cell": _gru_cell, "histc": _histc}  # what stands in for it
