"""EAGLE-X5 at its published depths and grids, every width cut down: as many operations, next to no arithmetic."""

from __future__ import annotations

from typing import Any

import torch

from meteor_bench.core.model import VLM
from meteor_bench.models.eagle.model import untrained

__all__ = ["narrow_x5"]

_SIZES: dict[str, Any] = {
    "image": 1024,
    "grid": 32,
    "clip-448": {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 1},
    "convnext-1024": {"dims": [4, 4, 4, 8]},
    "sam-1024": {"hidden_size": 8, "mlp_dim": 16, "num_attention_heads": 1, "output_channels": 4},
    "det-1024": {"hidden_size": 8, "num_heads": 1},
    "pix2struct-1024": {"hidden_size": 8, "d_ff": 16, "d_kv": 8, "num_attention_heads": 1},
}
_CONFIG: dict[str, Any] = {
    "mm_vision_tower": "clip-448;convnext-1024;sam-1024;pix2struct-1024;det-1024",
    "mm_hidden_size": 8 + 8 + 16 + 8 + 8,
    "mm_projector_type": "mlp2x_gelu",
    "image_aspect_ratio": "pad",
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 4096,
    "mm_vision_sizes": _SIZES,
}


def narrow_x5(device: str = "cpu", dtype: torch.dtype = torch.float32) -> VLM:
    """EAGLE-X5-7B with random weights, 8 to 16 wide."""
    return untrained("eagle-x5-narrow", _CONFIG, device, dtype)
