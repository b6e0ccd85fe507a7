"""Attention for training on a CPU: scores and softmax stay in bf16; the library's eager kernel goes through fp32."""

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

NAME = "pocket_lean"


def lean_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **_: object,
) -> tuple[Tensor, Tensor]:
    """[batch, heads, n, d] each; the mask is additive."""
    scores = (query * scaling) @ key.transpose(2, 3)
    if attention_mask is not None:
        scores += attention_mask
    rows = torch.softmax(scores, dim=-1)
    return (rows @ value).transpose(1, 2), rows


def use_lean_attention(*models: nn.Module) -> None:
    AttentionInterface.register(NAME, lean_attention)
    AttentionMaskInterface.register(NAME, eager_mask)
    for model in models:
        model.set_attn_implementation(NAME)
