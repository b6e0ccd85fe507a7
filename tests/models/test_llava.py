"""LLaVA-1.5 at its real size, counted on tensors without storage."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from meteor_bench.engine.kv_cache import LayerCache
from meteor_bench.models.llava import LLAVA_7B


def test_a_prefill_of_576_tokens_takes_7_63_tflops() -> None:
    assert LLAVA_7B.random is not None and LLAVA_7B.tokens == 576
    vlm = LLAVA_7B.random("meta", torch.bfloat16)
    decoder, tower = vlm.decoder, vlm.towers["clip"]
    assert sum(p.numel() for m in vlm.modules().values() for p in m.parameters()) == pytest.approx(7.06e9, rel=1e-3)
    closed = decoder.depth * decoder.flops_layer(576, 576)
    assert closed / 1e12 == pytest.approx(7.63, abs=0.005)
    h = torch.empty(1, 576, decoder.dim, device="meta", dtype=torch.bfloat16)
    rotary, cache = decoder.rotary(h, torch.empty(1, 576, device="meta")), LayerCache(decoder.depth)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():
        for layer in range(decoder.depth):
            h = decoder.layer(layer, h, rotary, None, cache, None)
    assert counter.get_total_flops() == closed
    assert (tower.depth, tower.grid(*vlm.native).n) == (23, 576)
    assert (tower.flops_embed(336, 336) + 24 * tower.flops_block(577, 577)) / 1e12 == pytest.approx(0.38, abs=0.005)
