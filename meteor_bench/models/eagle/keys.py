"""Names of EAGLE's weights: from our modules' state dict to the released files'."""

from __future__ import annotations

import re

__all__ = ["file_key", "unused"]

# What the files hold and no module of ours needs: heads, tables that are recomputed.
_UNUSED = re.compile(
    r"\.vision_tower\.(head\..*|(.*\.)?rope[\w.]*|vision_model\.embeddings\.position_ids)$|\.rotary_emb\.inv_freq$"
)
_RENAMED: dict[str, tuple[tuple[str, str], ...]] = {
    "clip-448": ((r"^", "vision_model."),),
    "convnext-1024": ((r"(blocks\.\d+)\.gamma$", r"\1.weight"),),
    "det-1024": (
        (r"\.attn\.([qv])_proj\.bias$", r".attn.\1_bias"),
        (r"\.mlp\.fc1_g\.", ".mlp.w1."),
        (r"\.mlp\.fc1_x\.", ".mlp.w2."),
        (r"\.mlp\.fc2\.", ".mlp.w3."),
        (r"\.mlp\.norm\.", ".mlp.ffn_ln."),
    ),
}


def file_key(key: str, tags: tuple[str, ...]) -> str:
    """The name of a weight in the released files.

    Args:
        key: in `EagleModel`: vision.<index>..., projector..., decoder....
        tags: the encoders, in order.
    """
    part, _, rest = key.partition(".")
    if part == "decoder":
        return rest
    if part == "projector":
        return f"model.mm_projector.{rest}"
    index, _, rest = rest.partition(".")
    for pattern, new in _RENAMED.get(tags[int(index)], ()):
        rest = re.sub(pattern, new, rest, count=1)
    return f"model.vision_tower.vision_towers.{index}.vision_tower.{rest}"


def unused(key: str) -> bool:
    """Whether a weight of a released file is left out."""
    return _UNUSED.search(key) is not None
