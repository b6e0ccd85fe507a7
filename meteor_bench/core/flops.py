"""Closed-form FLOP counts; 1 multiply-accumulate = 2 FLOPs.

The forms equal ``torch.utils.flop_counter.FlopCounterMode`` on the same forward: matrix products, convolutions and
attention count; norms, activations, RoPE and softmax count as zero, and causal attention gets no discount.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

__all__ = ["attention", "conv2d", "convnext", "linear", "mlp"]


def linear(tokens: int, inputs: int, outputs: int) -> int:
    """[tokens, inputs] @ [inputs, outputs]."""
    return 2 * tokens * inputs * outputs


def attention(queries: int, keys: int, width: int) -> int:
    """Scores and weighted sum of all heads together; ``width`` is heads times head dimension."""
    return 4 * queries * keys * width


def mlp(tokens: int, widths: Sequence[int]) -> int:
    """Matrices one after another: widths[0] -> widths[1] -> ..."""
    return sum(linear(tokens, a, b) for a, b in pairwise(widths))


def conv2d(out_height: int, out_width: int, inputs: int, outputs: int, kernel: int, groups: int = 1) -> int:
    """A convolution with a square kernel, per image."""
    return 2 * out_height * out_width * outputs * (inputs // groups) * kernel * kernel


def convnext(height: int, width: int, inputs: int, patch: int, channels: Sequence[int], depths: Sequence[int]) -> int:
    """A ConvNeXt without its head, per image of that many pixels."""
    h, w = height // patch, width // patch
    total = conv2d(h, w, inputs, channels[0], patch)
    for stage, (dim, depth) in enumerate(zip(channels, depths, strict=True)):
        if stage > 0:
            h, w = h // 2, w // 2
            total += conv2d(h, w, channels[stage - 1], dim, 2)
        total += depth * (conv2d(h, w, dim, dim, 7, groups=dim) + mlp(h * w, (dim, 4 * dim, dim)))
    return total
