"""The shipped models in the engine's terms: `pocket`, `pocket-independent`, and three that add to them.

`pocket-through` adds to `pocket-independent`, `pocket-clips` to `pocket`, `pocket-comp` to a narrower `pocket`.

The modules and weights are those of `pocket_modules`; see the model cards beside the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from meteor_bench.core.attention_probe import register
from meteor_bench.core.errors import ModelError
from meteor_bench.core.host import upload
from meteor_bench.core.model import VLM, Fusion, ModelCard, Processor, Prompt, VisionTower
from meteor_bench.models.checkpoint import digest, digest_over, load_weights, skeleton
from meteor_bench.models.decoders import LlamaDecoder
from meteor_bench.models.decoders import cast as cast_model
from meteor_bench.models.locate import read_config
from meteor_bench.models.pocket.addition import add_to, kept_units
from meteor_bench.models.pocket.fusions import PocketIndependent, PocketShared
from meteor_bench.models.pocket.modules import LUMA, PocketConfig, PocketVLM, SharedFusion
from meteor_bench.models.pocket.narrow import narrow
from meteor_bench.models.pocket.narrow_parts import NarrowConvNext, NarrowLlama, NarrowVit
from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from meteor_bench.models.towers import ConvNextTower, ConvShape, VitTower
from meteor_bench.utils.plain_text import one_line

__all__ = [
    "POCKET",
    "POCKET_CLIPS",
    "POCKET_COMP",
    "POCKET_INDEPENDENT",
    "POCKET_THROUGH",
    "PocketProcessor",
    "assemble",
    "card_for",
    "load",
]

WEIGHTS = Path(__file__).parents[1] / "weights"
WHOLE = ("pocket", "pocket-independent")  # what another checkpoint may add to
CELL = 8  # pixels of the image per cell of the common grid


def _half(pixels: Tensor) -> Tensor:
    return avg_pool2d(pixels, 2)


def _luminance(pixels: Tensor) -> Tensor:
    weights = upload(LUMA, pixels.device, pixels.dtype)[None, :, None, None]
    return (pixels * weights).sum(1, keepdim=True)


def _to_patches_of_16(pixels: Tensor) -> Tensor:
    """Grids with an odd number of cells (a shrunk image) are stretched to whole patches."""
    height, width = (max(16, 16 * ((side + 15) // 16)) for side in pixels.shape[-2:])
    if (height, width) == tuple(pixels.shape[-2:]):
        return pixels
    return interpolate(pixels, size=(height, width), mode="bilinear", align_corners=False)


class PocketProcessor(Processor):
    """Images of 128 pixels, clips of up to the model's frames of 64 pixels each, the word-level tokenizer."""

    def __init__(self, tokenizer: PocketTokenizer, config: PocketConfig) -> None:
        self.tokenizer, self.config = tokenizer, config
        self.eos = frozenset({tokenizer.eos_id})
        self.frames = config.frames

    def pixels(self, media: Sequence[Any]) -> Tensor:
        """One image -> [1, 3, 128, 128]; several frames -> [F, 3, 64, 64], uniformly sampled if too many."""
        most = self.config.frames
        if len(media) > most:
            media = [media[round(i * (len(media) - 1) / (most - 1))] for i in range(most)]
        side = self.config.image_size if len(media) == 1 else self.config.frame_size
        frames = [m if m.size == (side, side) else m.resize((side, side), resample=3) for m in media]
        stacked = np.stack([np.asarray(frame.convert("RGB")) for frame in frames])
        return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 127.5 - 1

    def prompt(self, question: str) -> Prompt:
        """<bos> [visual] <q> question <a>."""
        ids = self.tokenizer.encode(question)
        return Prompt((self.tokenizer.bos_id,), (self.tokenizer.question_id, *ids, self.tokenizer.answer_id))

    def continuation(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids))


def _convnext(model: Any, made: type[ConvNextTower]) -> ConvNextTower:
    config = model.config
    shape = ConvShape(tuple(config.hidden_sizes), tuple(config.depths), config.patch_size, config.num_channels)
    return made("b", model, shape, prepare=_luminance, features=lambda module, pixels: module(pixels).last_hidden_state)


def assemble(
    name: str,
    model: PocketVLM,
    tokenizer: PocketTokenizer,
    dtype: torch.dtype,
    device: str,
    *,
    narrowed: bool = False,
) -> VLM:
    """Wrap the modules; the weights stay where they are, cast and moved once.

    Args:
        narrowed: whether `narrow` has been at them.
    """
    if narrowed and model.config.fusion != "shared":
        raise ModelError(f"'{name}' is narrowed and has fusion '{model.config.fusion}'; a narrowed one's is shared")
    kernel = register()
    cast_model(model.eval().requires_grad_(False), device, dtype)
    for part in (model.towers["a"], model.towers["c"], model.decoder):  # b has no attention
        cast("Any", part).set_attn_implementation(kernel)
    vit = NarrowVit if narrowed else VitTower
    towers: dict[str, VisionTower] = {
        "a": vit("a", model.towers["a"], has_cls=True, post_norm=False, prepare=_half),
        "b": _convnext(model.towers["b"], NarrowConvNext if narrowed else ConvNextTower),
        "c": vit("c", model.towers["c"], has_cls=False, post_norm=True, prepare=_to_patches_of_16),
    }
    fusion: Fusion
    reference = None
    if isinstance(model.fusion, SharedFusion):
        fusion = PocketShared(model.fusion, model.config)
    else:
        fusion = PocketIndependent(model.fusion, model.config.grids)
        with skeleton():  # pocket's, whose tokens are this model's reference: it is counted, never run
            reference = PocketShared(SharedFusion(model.config), model.config)
    return VLM(
        name=name,
        towers=towers,
        fusion=fusion,
        decoder=(NarrowLlama if narrowed else LlamaDecoder)(model.decoder),
        processor=PocketProcessor(tokenizer, model.config),
        reference=lambda grid: (reference or fusion).common({"a": grid}).n,
        native=(model.config.image_size, model.config.image_size),
        reference_fusion=reference,
        made_from=_whole(model.config, tokenizer) if narrowed else None,
    )


def _whole(config: PocketConfig, tokenizer: PocketTokenizer) -> VLM:
    """What a narrowed model was made from, without storage."""
    with skeleton():
        return assemble("whole", PocketVLM(config), tokenizer, torch.float32, "meta")


def load(name: str, device: str, dtype: torch.dtype, source: Path | None = None) -> VLM:
    """Build a pocket model from its checkpoint.

    Args:
        name: "pocket", "pocket-clips", "pocket-comp", "pocket-independent" or "pocket-through".
        source: a folder with config.json, tokenizer.json and safetensors; None for the shipped one.

    Raises:
        ModelError: the folder is incomplete or corrupted.
    """
    folder = WEIGHTS / name if source is None else source
    config, tokenizer = _described(folder)
    try:
        with skeleton():
            model = PocketVLM(_described(WEIGHTS / config.base)[0] if config.base in WHOLE else config)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        said = one_line(error)
        raise ModelError(f"{folder / 'config.json'} does not describe a pocket model: {said}") from error
    whole = _base(config, folder) if config.base else folder
    load_weights(model, whole, ties={"decoder.lm_head.weight": "decoder.model.embed_tokens.weight"})
    narrowed = bool(config.base) and _narrow(model, folder)
    if config.base:
        model.extend(config)
        add_to(model, folder)
    vlm = assemble(name, model, tokenizer, dtype, device, narrowed=narrowed)
    vlm.digest = digest_over(whole, folder) if config.base else digest(folder)
    vlm.folder = folder
    return vlm


def _narrow(model: PocketVLM, folder: Path) -> bool:
    """Leave only what a folder says; whether it says so."""
    keep = kept_units(folder)
    try:
        narrow(model, keep)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error
    return bool(keep)


def _base(config: PocketConfig, folder: Path) -> Path:
    """The shipped folder that a checkpoint adds to."""
    if config.base not in WHOLE:
        raise ModelError(f"{folder / 'config.json'} has base='{config.base}'; expected one of {', '.join(WHOLE)}")
    return WEIGHTS / config.base


def _described(folder: Path) -> tuple[PocketConfig, PocketTokenizer]:
    file = folder / "tokenizer.json"
    try:
        config = PocketConfig(**read_config(folder))
    except TypeError as error:
        raise ModelError(f"{folder} is not a pocket checkpoint: {error}") from error
    try:
        return config, PocketTokenizer(file)
    except KeyError as error:
        raise ModelError(f"{file} has no token {error}, which a pocket model's has") from error
    except Exception as error:
        if type(error) is not Exception:  # what `tokenizers` says of a file that is none has no class of its own
            raise
        raise ModelError(f"{file} is no tokenizer: {one_line(error)}") from error


def untrained(name: str, device: str, dtype: torch.dtype) -> VLM:
    """The same model with random weights."""
    config, tokenizer = _described(WEIGHTS / name)
    model = PocketVLM(config)
    narrowed = bool(config.base) and _narrow(model, WEIGHTS / name)
    vlm = assemble(name, model, tokenizer, dtype, device, narrowed=narrowed)
    vlm.digest = "random"
    return vlm


def card_for(config: Mapping[str, Any], name: str) -> ModelCard:
    """The card of a folder that holds a pocket model."""
    fusion = config.get("fusion", "shared")
    row = {"shared": POCKET, "independent": POCKET_INDEPENDENT}.get(fusion)
    if row is None:
        raise ModelError(f"'{name}' has fusion '{fusion}'; a pocket model's is shared or independent")
    return replace(row, name=name, variants={})


def _card(name: str, fusion: Any, tokens: int, note: str, variants: Mapping[str, str] | None = None) -> ModelCard:
    return ModelCard(
        name=name,
        fusion=fusion,
        towers={
            "a": "CLIP-like ViT, RGB at 64 px, 16x16 tokens and a class token",
            "b": "ConvNeXt, luminance at 128 px, 16x16 tokens",
            "c": "SigLIP-like ViT, RGB at 128 px, 8x8 tokens",
        },
        llm="Llama, 5 layers, width 192",
        tokens=tokens,
        licence="Apache-2.0",
        build=lambda device, dtype, source: load(name, device, dtype, source),
        variants={"shared": "pocket", "independent": "pocket-independent"} if variants is None else variants,
        note=note,
        random=lambda device, dtype: untrained(name, device, dtype),
    )


POCKET = _card(
    "pocket",
    "shared",
    256,
    "channel concatenation on one grid, the EAGLE of this suite",
    {"shared": "pocket", "independent": "pocket-independent", "narrowed": "pocket-comp"},
)
POCKET_INDEPENDENT = _card(
    "pocket-independent", "independent", 576, "one projector per encoder, trained with METEOR's stages 1 and 2"
)
# Its kin with METEOR's third stage trained in the loop, too: the one thing that its paper leaves training-free.
POCKET_THROUGH = _card(
    "pocket-through", "independent", 576, "pocket-independent trained on with METEOR's stage 3 in the loop as well"
)
# Four times the tokens of `pocket` in a clip, from sixteen times the frames; an image is what it is for `pocket`.
POCKET_CLIPS = _card(
    "pocket-clips", "shared", 256, "pocket trained on for clips of up to 64 frames, 16 tokens of each", {}
)
# What CoMP left of pocket's parameters; `comp` drops the tokens.
POCKET_COMP = _card(
    "pocket-comp",
    "shared",
    256,
    "pocket pruned by CoMP, channels and heads gone, trained on with its tokens dropped",
    {},
)
