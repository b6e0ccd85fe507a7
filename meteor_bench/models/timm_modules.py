"""timm's modules that encoders are made of.

timm would load wandb, to write training's figures to it, wherever that is installed, as it is beside lmms-eval: one to
two seconds of a start. It does without where wandb is missing, which is what it finds here.
"""

from __future__ import annotations

from meteor_bench.utils.left_out import left_out

with left_out("wandb"):
    from timm import create_model
    from timm.layers import PatchEmbed, apply_rot_embed_cat
    from timm.models.convnext import ConvNeXt
    from timm.models.eva import EvaBlock

__all__ = ["ConvNeXt", "EvaBlock", "PatchEmbed", "apply_rot_embed_cat", "create_model"]
