"""EAGLE v1 (arXiv 2408.15998): CLIP and up to four more encoders on one grid, joined along channels, before a Llama.

Reads the released checkpoints (NVEagle/Eagle-X4-8B-Plus, -X5-7B, -X5-13B, -X5-34B-Plus, ...; `model_type`
"eagle_llama") in their own format; config.json gives the encoders and their order. The code is ours, over
transformers' and timm's modules; the released code (NVlabs/EAGLE, Apache-2.0) is the reference for every detail.

config.json says nothing of the encoders' sizes: they are the published ones. A checkpoint of another size (the tests'
tiny ones) adds a key of ours, `mm_vision_sizes`: {"image": pixels, "grid": side, "<encoder>": {its library's names}}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from meteor_bench.core.attention_probe import register
from meteor_bench.core.errors import ModelError
from meteor_bench.core.model import VLM, ModelCard, VisionTower
from meteor_bench.models.checkpoint import load_weights, randomise, skeleton
from meteor_bench.models.decoders import LlamaDecoder
from meteor_bench.models.eagle.eva import EvaTower, eva
from meteor_bench.models.eagle.fusion import EagleFusion
from meteor_bench.models.eagle.keys import file_key, unused
from meteor_bench.models.eagle.processor import EagleProcessor, template_for
from meteor_bench.models.eagle.towers import ClipTower, Pix2StructTower, clip, convnext, convnext_tower, pix2struct
from meteor_bench.models.fake_tokenizer import StandInTokenizer
from meteor_bench.models.hf import BAD_CONFIG, parts, read_eos, seal
from meteor_bench.models.locate import read_config
from meteor_bench.models.piece_tokenizer import piece_tokenizer
from meteor_bench.models.sam import SamTower, sam
from meteor_bench.utils.plain_text import one_line

__all__ = [
    "EAGLE_X2_7B",
    "EAGLE_X4_7B",
    "EAGLE_X4_8B_PLUS",
    "EAGLE_X5_7B",
    "EAGLE_X5_13B",
    "EAGLE_X5_34B",
    "card_for",
]

LICENCE = "CC BY-NC(-SA) 4.0, not for commercial use"
_LLAMA = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "attention_bias",
    "mlp_bias",
    "head_dim",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)


class Encoder(NamedTuple):
    """A kind of encoder.

    Attributes:
        name: of its tower.
        about: for tables.
        module: sizes that differ from the published ones -> the library's module.
        tower: (name, module) -> tower.
        folds: whether 2 x 2 cells become channels.
    """

    name: str
    about: str
    module: Callable[[dict[str, Any]], nn.Module]
    tower: Callable[[str, Any], VisionTower]
    folds: bool = False


ENCODERS = {
    "clip-448": Encoder("clip", "CLIP ViT-L/14 at 336 px", clip, ClipTower),
    "convnext-1024": Encoder("convnext", "OpenCLIP ConvNeXt-XXL at 1024 px", convnext, convnext_tower),
    "sam-1024": Encoder("sam", "SAM ViT-L at 1024 px", sam, SamTower, folds=True),
    "det-1024": Encoder("det", "EVA-02-L/16 of a detector at 1024 px", eva, EvaTower),
    "pix2struct-1024": Encoder("pix2struct", "Pix2Struct-L, 45x45 patches", pix2struct, Pix2StructTower),
}


class EagleModel(nn.Module):
    """The checkpoint's modules, without storage until they are loaded."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        sizes = config.get("mm_vision_sizes", {})
        self.tags = encoders_of(config)
        self.kinds = [ENCODERS[tag] for tag in self.tags]
        self.image, self.grid = sizes.get("image", 1024), sizes.get("grid", 32)
        self.vision = nn.ModuleList(ENCODERS[tag].module(dict(sizes.get(tag, {}))) for tag in self.tags)
        width = config["hidden_size"]
        self.projector = nn.Sequential(nn.Linear(config["mm_hidden_size"], width), nn.GELU(), nn.Linear(width, width))
        self.decoder = LlamaForCausalLM(LlamaConfig(**{key: config[key] for key in _LLAMA if key in config}))
        self.decoder.set_attn_implementation(register())

    def towers(self) -> dict[str, VisionTower]:
        """The encoders as the engine takes them, in order."""
        pairs = zip(self.kinds, self.vision, strict=True)
        return {kind.name: kind.tower(kind.name, part) for kind, part in pairs}

    @property
    def widths(self) -> dict[str, int]:
        """Encoder -> channels that it contributes."""
        towers = self.towers()
        return {kind.name: towers[kind.name].dim * (4 if kind.folds else 1) for kind in self.kinds}


def encoders_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The encoders of a config.json, in its order.

    Raises:
        ModelError: it names none, or one that is not known.
    """
    tags = tuple(tag.strip() for tag in str(config.get("mm_vision_tower", "")).split(";") if tag.strip())
    if not tags:
        raise ModelError("config.json names no encoders (mm_vision_tower)")
    for tag in tags:
        if tag not in ENCODERS or tags.count(tag) > 1:
            raise ModelError(f"config.json names encoder '{tag}'; known, each at most once: {', '.join(ENCODERS)}")
    return tags


def _check(config: Mapping[str, Any]) -> None:
    """Only what the released models are."""
    wanted = {
        "mm_projector_type": ("mlp2x_gelu",),
        "image_aspect_ratio": ("pad",),
        "mm_patch_merge_type": ("flat", None),
        "mm_use_im_start_end": (False, None),
        "mm_use_im_patch_token": (False, None),
    }
    for key, known in wanted.items():
        if config.get(key) not in known:
            raise ModelError(f"config.json has {key}={config.get(key)!r}; this adapter knows {known[0]!r} only")
    for key in (*_LLAMA[:6], "mm_hidden_size"):  # what they are is checked where the file is read
        if config.get(key) is None:
            raise ModelError(f"config.json has no {key}; expected a positive whole number")


def _skeleton(config: Mapping[str, Any]) -> EagleModel:
    _check(config)
    try:
        with skeleton():
            model = EagleModel(config)
    except BAD_CONFIG as error:
        said = one_line(error)
        raise ModelError(f"config.json does not describe an EAGLE model: {said}") from error
    given = sum(model.widths.values())
    if given != config["mm_hidden_size"]:
        raise ModelError(f"config.json has mm_hidden_size={config['mm_hidden_size']}, its encoders give {given}")
    return model


def _assemble(name: str, model: EagleModel, processor: EagleProcessor) -> VLM:
    model.eval().requires_grad_(False)
    folded = frozenset(kind.name for kind in model.kinds if kind.folds)
    return VLM(
        name=name,
        towers=model.towers(),
        fusion=EagleFusion(model.projector, model.widths, model.grid, folded),
        decoder=LlamaDecoder(model.decoder),
        processor=processor,
        reference=lambda grid: grid.t * model.grid**2,
        native=(model.image, model.image),
        resizable=False,
    )


def _processor(tokenizer: Any, model: EagleModel, config: Mapping[str, Any], eos: frozenset[int]) -> EagleProcessor:
    return EagleProcessor(
        tokenizer,
        template_for(tokenizer.get_vocab()),
        eos=eos,
        size=model.image,
        tokens=model.grid**2,
        most=config.get("tokenizer_model_max_length"),
    )


def load(name: str, config: Mapping[str, Any], folder: Path, device: str, dtype: torch.dtype) -> VLM:
    """A checkpoint, straight to its device and dtype.

    Raises:
        ModelError: configuration, tokenizer or weights are not what they should be, or do not fit into memory.
    """
    model = _skeleton(config)
    tokenizer = piece_tokenizer(folder) or parts(AutoTokenizer, folder, config=model.decoder.config)
    names = {file_key(key, model.tags): key for key in model.state_dict()}
    load_weights(
        model,
        folder,
        device=device,
        dtype=dtype,
        rename=lambda key: None if unused(key) else names.get(key, f"no {key}"),
        called=lambda key: file_key(key, model.tags),
    )
    processor = _processor(tokenizer, model, config, read_eos(model.decoder.config, folder))
    return seal(_assemble(name, model, processor), folder)


def untrained(name: str, config: Mapping[str, Any], device: str, dtype: torch.dtype) -> VLM:
    """The same model with random weights; prompts get about the length they have for real."""
    model = _skeleton(config)
    randomise(model, device, dtype)
    processor = _processor(StandInTokenizer(config["vocab_size"]), model, config, frozenset())
    return seal(_assemble(name, model, processor), None)


def card_for(config: Mapping[str, Any], name: str, weights: str | None = None, note: str = "") -> ModelCard:
    """The card of a checkpoint that says it is an EAGLE model.

    Raises:
        ModelError: its encoders are not known.
    """
    kinds = [ENCODERS[tag] for tag in encoders_of(config)]
    return ModelCard(
        name=name,
        fusion="shared",
        towers={kind.name: kind.about for kind in kinds},
        llm=f"Llama, {config.get('num_hidden_layers')} layers, width {config.get('hidden_size')}",
        tokens=config.get("mm_vision_sizes", {}).get("grid", 32) ** 2,
        licence=LICENCE,
        build=lambda device, dtype, folder: _built(name, config, folder, device, dtype),
        random=lambda device, dtype: untrained(name, config, device, dtype),
        weights=weights,
        note=note,
    )


def _built(name: str, config: Mapping[str, Any], folder: Path | None, device: str, dtype: torch.dtype) -> VLM:
    if folder is None:
        raise ModelError(f"no weights of '{name}' were published; give a folder with --source")
    return load(name, read_config(folder), folder, device, dtype)


def _row(name: str, encoders: str, width: int, llm: Mapping[str, Any], hub: str | None, note: str = "") -> ModelCard:
    """A row of the model table, of the published sizes."""
    vision = {"mm_vision_tower": encoders, "mm_hidden_size": width, "mm_projector_type": "mlp2x_gelu"}
    common = {"image_aspect_ratio": "pad", "rms_norm_eps": 1e-5, "tie_word_embeddings": False}
    return replace(card_for({**vision, **common, **llm}, name, hub, note), published=hub is not None)


def _llama(width: int, inner: int, layers: int, heads: int, kv: int, vocabulary: int, theta: float) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": vocabulary,
        "rope_theta": theta,
        "max_position_embeddings": 4096 if vocabulary < 100_000 else 8192,
    }


_VICUNA_7B = _llama(4096, 11008, 32, 32, 32, 32_000, 1e4)
_VICUNA_13B = _llama(5120, 13824, 40, 40, 40, 32_000, 1e4)
_LLAMA3_8B = _llama(4096, 14336, 32, 32, 8, 128_256, 5e5)
_YI_34B = _llama(7168, 20480, 60, 56, 8, 64_000, 5e6)
_X4 = "clip-448;convnext-1024;pix2struct-1024;det-1024"
_X5 = "clip-448;convnext-1024;sam-1024;pix2struct-1024;det-1024"

EAGLE_X2_7B = _row("eagle-x2-7b", "clip-448;convnext-1024", 4096, _VICUNA_7B, None, "Vicuna; no weights published")
EAGLE_X4_7B = _row("eagle-x4-7b", _X4, 6656, _VICUNA_7B, "NVEagle/Eagle-X4-7B", "Vicuna")
EAGLE_X4_8B_PLUS = _row("eagle-x4-8b-plus", _X4, 6656, _LLAMA3_8B, "NVEagle/Eagle-X4-8B-Plus", "Llama 3")
EAGLE_X5_7B = _row("eagle-x5-7b", _X5, 7680, _VICUNA_7B, "NVEagle/Eagle-X5-7B", "Vicuna")
EAGLE_X5_13B = _row("eagle-x5-13b", _X5, 7680, _VICUNA_13B, "NVEagle/Eagle-X5-13B", "Vicuna")
EAGLE_X5_34B = _row("eagle-x5-34b", _X5, 7680, _YI_34B, "NVEagle/Eagle-X5-34B-Plus", "Yi")
