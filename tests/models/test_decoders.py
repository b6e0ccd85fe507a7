"""Casting a model must not touch its rotations, whatever kind of RoPE it has."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from meteor_bench.models.decoders import cast

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.mark.parametrize("rope", [{"rope_type": "default", "rope_theta": 10000.0}, LLAMA3])
def test_inverse_frequencies_stay_in_float32(rope: dict[str, Any]) -> None:
    config = LlamaConfig(
        vocab_size=8,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
        rope_parameters=rope,
    )
    model = LlamaForCausalLM(config)
    before = model.model.rotary_emb.inv_freq.clone()
    cast(model, "cpu", torch.bfloat16)
    assert model.lm_head.weight.dtype == torch.bfloat16
    assert torch.equal(model.model.rotary_emb.inv_freq, before)
    assert torch.equal(model.model.rotary_emb.original_inv_freq, before)
