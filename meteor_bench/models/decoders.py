"""Decoders over transformers' causal language models of the Llama family (Llama, Vicuna, Qwen2, Mistral, Yi)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from meteor_bench.core import flops
from meteor_bench.core.attention_probe import Probe, probing, unattended
from meteor_bench.core.model import Decoder, KVCache

__all__ = ["CausalLM", "LlamaDecoder", "MoeMropeDecoder", "MropeDecoder", "cast"]


class CausalLM(torch.nn.Module):
    """A language model's body and head, where a library keeps them apart, in the shape of a `ForCausalLM`."""

    def __init__(self, body: torch.nn.Module, head: torch.nn.Module) -> None:
        super().__init__()
        self.model, self.lm_head = body, head
        self.config: Any = body.config


class LlamaDecoder(Decoder):
    """One of transformers' Llama-like `ForCausalLM` modules, run layer by layer.

    Args:
        model: the library's module; its layers must take (hidden, attention_mask, position_embeddings,
            past_key_values).
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        config = model.config
        self.dim, self.depth = config.hidden_size, config.num_hidden_layers
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = getattr(config, "head_dim", None) or self.dim // self.heads
        self.inner, self.vocabulary = config.intermediate_size, config.vocab_size

    def embed(self, ids: Tensor) -> Tensor:
        out: Tensor = self.model.model.embed_tokens(ids)
        return out

    def rotary(self, h: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = self.model.model.rotary_emb(h, position_ids=positions)
        return cos, sin

    def layer(
        self,
        index: int,
        h: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: KVCache,
        probe: Probe | None,
    ) -> Tensor:
        with probing(probe):
            out: Tensor = self.model.model.layers[index](
                h, attention_mask=mask, position_embeddings=rotary, past_key_values=cache
            )
        return out

    def peek(
        self,
        index: int,
        h: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None,
        probe: Probe | None,
        scratch: KVCache,
    ) -> None:
        layer = self.model.model.layers[index]
        with probing(probe), unattended():  # the probe's rows against all keys, and nothing else of the attention
            layer.self_attn(
                layer.input_layernorm(h), position_embeddings=rotary, attention_mask=mask, past_key_values=None
            )

    def fill(self, index: int, h: Tensor, rotary: tuple[Tensor, Tensor], cache: KVCache) -> None:
        layer = self.model.model.layers[index]
        with unattended():
            layer.self_attn(
                layer.input_layernorm(h), position_embeddings=rotary, attention_mask=None, past_key_values=cache
            )

    def norm(self, h: Tensor) -> Tensor:
        out: Tensor = self.model.model.norm(h)
        return out

    def head(self, h: Tensor) -> Tensor:
        out: Tensor = self.model.lm_head(self.norm(h))
        return out

    def flops_layer(self, queries: int, keys: int) -> int:
        width, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return (
            flops.linear(queries, self.dim, width)
            + 2 * flops.linear(queries, self.dim, kv)
            + flops.linear(queries, width, self.dim)
            + flops.attention(queries, keys, width)
            + self.flops_mlp(queries)
        )

    def flops_mlp(self, tokens: int) -> int:
        """FLOPs of a layer's gated MLP on that many tokens."""
        return 3 * flops.linear(tokens, self.dim, self.inner)

    def flops_head(self, tokens: int) -> int:
        return flops.linear(tokens, self.dim, self.vocabulary)


class MropeDecoder(LlamaDecoder):
    """A language model whose positions have three axes: time, row and column. Text has the same on all."""

    axes = 3

    def rotary(self, h: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        axes = positions.expand(3, -1, -1) if positions.ndim == 2 else positions.movedim(2, 0)  # [3, B, T]
        return super().rotary(h, axes)


class MoeMropeDecoder(MropeDecoder):
    """The same with experts in each layer, of which a router chooses some for each token.

    Its FLOPs are those of the router and of the chosen ones, whichever they are.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        config = model.config
        self.experts, self.active, self.inner = (
            config.num_experts,
            config.num_experts_per_tok,
            config.moe_intermediate_size,
        )

    def flops_mlp(self, tokens: int) -> int:
        chosen: int = self.active * super().flops_mlp(tokens)
        return flops.linear(tokens, self.dim, self.experts) + chosen


def cast(model: torch.nn.Module, device: str, dtype: torch.dtype) -> None:
    """Move and cast a model in place, RoPE's inverse frequencies kept in float32.

    ``module.to(bfloat16)`` also casts buffers; the rounded frequencies would move every rotation.
    """
    names = ("inv_freq", "original_inv_freq")
    exact = [
        (module, name, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
        if name in names
    ]
    model.to(device=device, dtype=dtype)
    for module, name, buffer in exact:
        setattr(module, name, buffer.to(device))
