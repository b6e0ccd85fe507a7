"""Qwen3-VL with experts (arXiv 2511.21631: 30B-A3B, 235B-A22B) as transformers has it.

All but the MLPs of the language model is Qwen3-VL. In each layer a router gives a token to some of the experts. The
published files hold the experts' matrices turned, [experts, inputs, outputs]; what transformers itself has saved holds
them as its module does, [experts, outputs, inputs]. As its own `from_pretrained` does, a matrix is turned where its
shape says so.

The experts that a token goes to follow from what it says, so that pruned and unpruned runs send the same token to
different ones; how many they are does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from meteor_bench.core.errors import ModelError
from meteor_bench.core.model import Decoder
from meteor_bench.models.decoders import CausalLM, MoeMropeDecoder
from meteor_bench.models.hub_family import HubFamily
from meteor_bench.models.qwen3_vl import VISION, Qwen3Adapter, row, text_of

__all__ = ["QWEN3_VL_30B_A3B", "QWEN3_VL_235B_A22B", "QWEN3_VL_MOE", "MoeAdapter", "card_for"]

EXPERTS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")


class MoeAdapter(Qwen3Adapter):
    """Qwen3-VL's, with experts in every layer of the language model."""

    def check(self, config: Any, name: str) -> None:
        super().check(config, name)
        text = config.text_config
        if text.mlp_only_layers or text.decoder_sparse_step != 1:
            raise ModelError(
                f"'{name}' has mlp_only_layers={list(text.mlp_only_layers)} and decoder_sparse_step="
                f"{text.decoder_sparse_step}; supported: [] and 1, experts in every layer"
            )

        if text.num_experts_per_tok > text.num_experts:
            raise ModelError(
                f"'{name}' has num_experts_per_tok={text.num_experts_per_tok}; expected at most num_experts "
                f"({text.num_experts})"
            )

    def fit(self, key: str, value: Tensor, shape: tuple[int, ...]) -> Tensor:
        turned = value.ndim == 3 and tuple(value.shape) != shape and tuple(value.transpose(1, 2).shape) == shape
        return value.transpose(1, 2).contiguous() if turned and key.endswith(EXPERTS) else value

    def decoder(self, language_model: Any, head: Any) -> Decoder:
        return MoeMropeDecoder(CausalLM(language_model, head))


QWEN3_VL_MOE = HubFamily("Qwen3VLMoeConfig", "Qwen3VLMoeForConditionalGeneration", "Qwen3VLProcessor", MoeAdapter())
card_for = QWEN3_VL_MOE.card


def _experts(hidden: int, inner: int, layers: int, heads: int) -> Mapping[str, Any]:
    """The `text_config` of a published size; the width of an MLP without experts is never used.

    Args:
        inner: width of an expert.
    """
    routed = {"moe_intermediate_size": inner, "num_experts": 128, "num_experts_per_tok": 8}
    return {**text_of(hidden, 3 * hidden, layers, heads, kv=4), **routed}


_VISION = {**VISION, "model_type": "qwen3_vl_moe_vision"}
_NOTE = "8 of 128 experts for each token"
QWEN3_VL_30B_A3B = row(QWEN3_VL_MOE, "30B-A3B", _experts(2048, 768, 48, 32), _VISION, note=_NOTE)
QWEN3_VL_235B_A22B = row(QWEN3_VL_MOE, "235B-A22B", _experts(4096, 1536, 94, 64), _VISION, note=_NOTE)
