"""What a checkpoint's config.json may say: every value that a model is built from has a kind and bounds.

One table of kinds, applied wherever the key stands (in `text_config`, `vision_config`, ...). The bounds are far above
any model there is; they keep a wrong digit from taking all memory before the weights are looked at. What is in no
table is left to the library that reads it. A checkpoint describes numbers and never chooses code: what names another
implementation is taken out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from meteor_bench.core.errors import ModelError
from meteor_bench.utils.plain_text import shortened

__all__ = ["check_described", "without_code"]

_CODE = ("attn_implementation", "experts_implementation", "auto_map", "custom_pipelines", "quantization_config")
_DEEP = 16  # objects within objects
_SHOWN = 60  # characters of a wrong value


class _Kind(NamedTuple):
    """What a value has to be.

    Attributes:
        said: in words, behind "expected".
        fits: whether a value is one.
    """

    said: str
    fits: Callable[[Any], bool]

    def or_none(self) -> _Kind:
        """The same, and null."""
        return _Kind(f"{self.said}, or null", lambda value: value is None or self.fits(value))


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _count(most: int) -> _Kind:
    return _Kind(f"a positive whole number, at most {most}", _whole(1, most))


def _square(most: int) -> _Kind:
    one = _whole(1, most)

    def fits(value: Any) -> bool:
        return one(value) or (isinstance(value, list) and len(value) == 2 and all(map(one, value)))

    return _Kind(f"a positive whole number, at most {most}, or two of them", fits)


def _index(most: int) -> _Kind:
    return _Kind(f"a whole number from 0 to {most}", _whole(0, most))


def _number(most: float, *, least: float = 0.0, open_below: bool = False) -> _Kind:
    said = f"a number above {least:g}, at most {most:g}" if open_below else f"a number from {least:g} to {most:g}"

    def fits(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return (value > least if open_below else value >= least) and value <= most

    return _Kind(said, fits)


def _list(said: str, one: Callable[[Any], bool], least: int = 0) -> _Kind:
    return _Kind(said, lambda value: isinstance(value, list) and least <= len(value) <= 4096 and all(map(one, value)))


def _pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_whole(1, 1 << 14), value))


_OBJECT = _Kind("an object", lambda value: isinstance(value, dict))
_TEXT = _Kind("text", lambda value: isinstance(value, str) and len(value) < 4096)
_FLAG = _Kind("true or false", lambda value: isinstance(value, bool))
_TOKEN = 1 << 24
_ID = _index(_TOKEN)
_SIDE = _count(1 << 14)
_WIDTH = _count(1 << 17)
_HEADS = _count(1 << 12)
_LAYERS = _count(512)
_SHARE = _number(1.0)
_EPSILON = _number(1.0, open_below=True)

_KINDS: Mapping[str, _Kind] = {
    # Of all families.
    **dict.fromkeys(("hidden_size", "mm_hidden_size", "out_hidden_size", "projection_dim", "tower_dim"), _WIDTH),
    **dict.fromkeys(("intermediate_size", "mlp_dim", "tower_intermediate", "output_channels"), _count(1 << 20)),
    **dict.fromkeys(("num_hidden_layers", "depth", "num_layers"), _LAYERS),
    **dict.fromkeys(("num_attention_heads", "num_heads"), _HEADS),
    "num_key_value_heads": _HEADS.or_none(),
    **dict.fromkeys(("image_size", "frame_size", "scale"), _SIDE),
    "patch_size": _count(1 << 10),
    **dict.fromkeys(("num_channels", "in_channels", "spatial_merge_size", "temporal_patch_size"), _count(64)),
    **dict.fromkeys(("tokens_per_second", "frames"), _count(1 << 10)),
    "num_position_embeddings": _count(1 << 20),
    "scale_factor": _count(64),
    **dict.fromkeys(("num_experts", "num_local_experts", "num_experts_per_tok"), _count(1 << 12)),
    "moe_intermediate_size": _count(1 << 20),
    "decoder_sparse_step": _count(512),
    "mlp_only_layers": _list(
        "a list of whole numbers, layers of the language model, or null", _whole(0, 512)
    ).or_none(),
    "window_size": _index(1 << 14),
    # Of EAGLE's encoders, where their sizes are given.
    "image": _SIDE,
    **dict.fromkeys(("grid", "pretrain_grid", "rotary_grid"), _count(1 << 10)),
    **dict.fromkeys(("max_patches", "d_kv", "seq_len"), _count(1 << 16)),
    **dict.fromkeys(("d_ff", "patch_embed_hidden_size"), _count(1 << 20)),
    "global_blocks": _list("a list of whole numbers, blocks of the encoder", _whole(0, 512)),
    **dict.fromkeys(("depths", "dims"), _list("a list of positive whole numbers", _whole(1, 1 << 17), 1)),
    "num_pos_feats": _count(1 << 14),
    "vocab_size": _count(_TOKEN),
    "head_dim": _count(1 << 14).or_none(),
    "max_position_embeddings": _count(1 << 27),
    "max_positions": _count(1 << 20),
    "tokenizer_model_max_length": _count(1 << 27).or_none(),
    # Numbers.
    "rope_theta": _number(1e12, open_below=True),
    **dict.fromkeys(("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps"), _EPSILON),
    **dict.fromkeys(("attention_dropout", "hidden_dropout", "dropout"), _SHARE),
    **dict.fromkeys(("initializer_range", "initializer_factor"), _number(1e3)),
    "mlp_ratio": _number(64, open_below=True),
    # Ids of tokens.
    **dict.fromkeys(("image_token_id", "image_token_index", "video_token_id", "video_token_index"), _ID),
    **dict.fromkeys(("vision_start_token_id", "vision_end_token_id"), _ID),
    **dict.fromkeys(
        ("bos_token_id", "pad_token_id"), _Kind("a whole number from -1, or null", _whole(-1, _TOKEN)).or_none()
    ),
    "eos_token_id": _Kind(
        "a whole number, a list of them, or null",
        lambda v: v is None or _whole(-1, _TOKEN)(v) or (isinstance(v, list) and all(map(_whole(0, _TOKEN), v))),
    ),
    # Lists.
    "image_grid_pinpoints": _list("a list of pairs of whole numbers, height and width", _pair, 1),
    "fullatt_block_indexes": _list("a list of whole numbers, blocks of the encoder", _whole(0, 512)),
    "deepstack_visual_indexes": _list("a list of whole numbers, blocks of the encoder", _whole(0, 512)),
    "global_attn_indexes": _list("a list of whole numbers, blocks of the encoder", _whole(0, 512)),
    "mrope_section": _list("a list of whole numbers", _whole(0, 1 << 14), 1),
    # Objects, switches and words.
    **dict.fromkeys(("vision_config", "text_config", "high_res_vision_config", "mm_vision_sizes"), _OBJECT),
    **dict.fromkeys(("rope_parameters", "rope_scaling"), _OBJECT.or_none()),
    **dict.fromkeys(("tie_word_embeddings", "attention_bias", "mlp_bias", "use_cache", "vision_use_head"), _FLAG),
    **dict.fromkeys(("qkv_bias", "use_abs_pos", "use_rel_pos", "multimodal_projector_bias"), _FLAG),
    **dict.fromkeys(("model_type", "rope_type", "hidden_act", "projector_hidden_act", "mm_vision_tower"), _TEXT),
    **dict.fromkeys(("vision_aspect_ratio", "vision_feature_select_strategy"), _TEXT),
    **dict.fromkeys(("mm_spatial_pool_mode", "mm_newline_position", "fusion"), _TEXT),
}


# Of objects with this `model_type` alone.
_OF_TYPE: Mapping[str, Mapping[str, _Kind]] = {
    "internvl_vision": {"image_size": _square(1 << 14), "patch_size": _square(1 << 10)}
}


def without_code(value: Any, depth: int = 0) -> Any:
    """A configuration without what would have the library choose another implementation, at any depth.

    With the package `kernels` installed the library fetches an attention of whatever name stands there.
    """
    if depth > _DEEP or not isinstance(value, Mapping | list):
        return value
    if isinstance(value, list):
        return [without_code(one, depth + 1) for one in value]
    kept = {key: one for key, one in value.items() if not any(code in str(key) for code in _CODE)}
    return {key: without_code(one, depth + 1) for key, one in kept.items()}


def check_described(config: Mapping[str, Any], where: str) -> None:
    """Compare every value with the kind that its key has.

    Args:
        where: the file, for the message.

    Raises:
        ModelError: names the file, the key with what it stands in, the value and what would be right.
    """
    for path, key, value, owner in _values(config, where):
        kind = _OF_TYPE.get(str(owner.get("model_type")), {}).get(key) or _KINDS.get(key)
        if kind is not None and not kind.fits(value):
            raise ModelError(f"{where} has {path}={_shown(value)}; expected {kind.said}")
        heads = owner.get("num_attention_heads")
        if key == "num_key_value_heads" and isinstance(heads, int) and value and heads % value:
            raise ModelError(f"{where} has {path}={value}; expected a divisor of num_attention_heads ({heads})")
        side = owner.get("image_size")  # which may come later, unchecked as yet
        if key == "patch_size" and isinstance(side, int) and isinstance(value, int) and 0 < side < value:
            raise ModelError(f"{where} has {path}={value}; expected at most image_size ({side})")


def _values(
    config: Mapping[str, Any], where: str, above: str = "", depth: int = 0
) -> Iterator[tuple[str, str, Any, Mapping[str, Any]]]:
    """Path, key and value of all there is, outer before inner, with the object that the value stands in."""
    if depth > _DEEP:
        raise ModelError(f"{where} has objects within objects, more than {_DEEP} deep, at {above[:80]}")
    for key, value in config.items():
        path = f"{above}{key}"
        yield path, key, value, config
        if isinstance(value, dict):
            yield from _values(value, where, f"{path}.", depth + 1)


def _shown(value: Any) -> str:
    return shortened(repr(value), _SHOWN)
