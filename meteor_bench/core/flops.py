"""Closed-form FLOP counts; 1 multiply-accumulate = 2 FLOPs.

The forms equal ``torch.utils.flop_counter.FlopCounterMode`` on the same forward: matrix products, convolutions and
attention count; norms, activations, RoPE and softmax count as zero, and causal attention gets no discount.
"""

from __future__ import annotations

__all__ = ["attention", "conv2d", "linear"]


def linear(tokens: int, inputs: int, outputs: int) -> int:
    """[tokens, inputs] @ [inputs, outputs]."""
    return 2 * tokens * inputs * outputs


def attention(queries: int, keys: int, width: int) -> int:
    """Scores and weighted sum of all heads together; ``width`` is heads times head dimension."""
    return 4 * queries * keys * width


def conv2d(out_height: int, out_width: int, inputs: int, outputs: int, kernel: int, groups: int = 1) -> int:
    """A convolution with a square kernel, per image."""
    return 2 * out_height * out_width * outputs * (inputs // groups) * kernel * kernel
