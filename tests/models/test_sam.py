"""SAM's layers on whole pictures against the library's own forward, with either of its attentions."""

from __future__ import annotations

import pytest
import torch
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from meteor_bench.models.sam import whole_layer
from tests.hub_pieces import enliven


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.inference_mode()
def test_whole_layers_are_the_library_s(attention: str) -> None:
    sizes = {"hidden_size": 32, "mlp_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "output_channels": 8}
    config = SamVisionConfig(**sizes, image_size=96, patch_size=8, window_size=5, global_attn_indexes=[1])
    config._attn_implementation = attention
    model = enliven(SamVisionEncoder(config), 1)  # twelve cells a side: the last windows are filled up
    x = torch.randn(2, 12, 12, 32, generator=torch.Generator().manual_seed(0))
    assert [layer.window_size for layer in model.layers] == [5, 0]
    for layer in model.layers:
        assert torch.equal(whole_layer(layer, x), layer(x))
