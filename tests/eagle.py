"""Tiny EAGLE checkpoints in the released format, and what the libraries' own modules make of the same weights.

`folder` is a checkpoint, `Reference` what the libraries make of it; the weights are those of `tests.eagle_plain`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig

from meteor_bench.core.model import VLM
from meteor_bench.core.request import Request
from meteor_bench.engine.load_model import resolve_model
from meteor_bench.methods.none import NoPruning
from tests import eagle_tokenizers
from tests.eagle_plain import GRID, IMAGE, MEAN, SIZES, STD, WIDTHS, X5, Plain, llama_sizes, plain


def config_json(model: Plain) -> dict[str, Any]:
    """config.json as the released ones are, with our key for the sizes."""
    return {
        "architectures": ["EagleLlamaForCausalLM"],
        "model_type": "eagle_llama",
        "hidden_act": "silu",
        "image_aspect_ratio": "pad",
        "mm_hidden_size": sum(WIDTHS[tag] for tag in model.tags),
        "mm_patch_merge_type": "flat",
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": ";".join(model.tags),
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "tokenizer_model_max_length": 400,
        "tokenizer_padding_side": "right",
        "torch_dtype": "bfloat16",
        "transformers_version": "4.37.2",
        "tune_mm_mlp_adapter": False,
        "use_mm_proj": True,
        **llama_sizes(model.decoder.config.vocab_size),
        "mm_vision_sizes": {"image": IMAGE, "grid": GRID, **{tag: SIZES[tag] for tag in model.tags}},
    }


def write(folder: Path, model: Plain, *, pickled: bool = False, shards: int = 2) -> Path:
    """A checkpoint's folder without its tokenizer: config.json, shards behind an index, a stale shard beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_json(model), indent=2))
    state = model.released()
    ending = "bin" if pickled else "safetensors"
    stem = "pytorch_model" if pickled else "model"
    weight_map: dict[str, str] = {}
    for i in range(shards):
        file = f"{stem}-{i + 1:05}-of-{shards:05}.{ending}"
        part = {key: value for n, (key, value) in enumerate(sorted(state.items())) if n % shards == i}
        if pickled:
            torch.save(part, folder / file)
        else:
            save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": sum(v.nbytes for v in state.values())}, "weight_map": weight_map}
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps(index))
    (folder / f"{stem}-00001-of-00007_old.{ending}").write_bytes(b"left over from another upload")
    return folder


_KEPT = tempfile.TemporaryDirectory(prefix="meteor-bench-tests-")
SPEAKERS: dict[str, Callable[[Path], int]] = {
    "vicuna_v1": eagle_tokenizers.vicuna,
    "llama3": eagle_tokenizers.llama3,
    "yi_34b_chatml_direct": eagle_tokenizers.yi,
}


@cache
def folder(template: str = "vicuna_v1", tags: tuple[str, ...] = X5, pickled: bool = False) -> Path:
    """A whole checkpoint; read-only for tests."""
    path = Path(_KEPT.name) / f"tiny-eagle-{len(list(Path(_KEPT.name).iterdir()))}"
    path.mkdir()
    return write(path, plain(tags, SPEAKERS[template](path)), pickled=pickled)


def build(path: Path | None = None) -> VLM:
    """A fresh model from a folder, as `--model` takes it."""
    path = path or folder()
    return resolve_model(str(path), NoPruning()).build("cpu", torch.float32, path)


def seen(image: Image.Image, pixels: int = IMAGE) -> Tensor:
    """[3, pixels, pixels]: the published preprocessing of an image, in plain numpy."""
    rgb = np.asarray(image.convert("RGB"))
    height, width, _ = rgb.shape
    side = max(height, width)
    square = np.empty((side, side, 3), dtype=np.uint8)
    square[:] = (122, 116, 104)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = rgb
    resized = np.asarray(Image.fromarray(square).resize((pixels, pixels), Image.Resampling.BICUBIC), dtype=np.float64)
    normal = (resized / 255 - np.array(MEAN)) / np.array(STD)
    return torch.from_numpy(normal).permute(2, 0, 1).float()


WORDS = {
    "vicuna_v1": (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: {} ASSISTANT:"
    ),
    "llama3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nA chat between a curious user and an "
        "artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the "
        "user's questions.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "yi_34b_chatml_direct": (
        "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n{}<|im_end|><|im_start|>assistant\n"
    ),
}


MARKS = {"vicuna_v1": "</s>", "llama3": "<|eot_id|>", "yi_34b_chatml_direct": "<|im_end|>"}


class Reference:
    """The libraries' own modules on a request: preprocessing, encoders, projector, `generate`."""

    def __init__(self, template: str = "vicuna_v1", tags: tuple[str, ...] = X5) -> None:
        path = folder(template, tags)
        self.words = WORDS[template]
        # transformers' own reading of tokenizer.model gives other ids than the authors' (see test_piece_tokenizer).
        self.tokenizer = (
            eagle_tokenizers.Slow(path)
            if (path / "tokenizer.model").exists()
            else AutoTokenizer.from_pretrained(path, config=LlamaConfig())
        )
        vocabulary = self.tokenizer.get_vocab()
        self.model = plain(tags, len(vocabulary))
        self.ends = [2, self.tokenizer.eos_token_id, vocabulary[MARKS[template]]]

    def visual(self, asked: Sequence[Request]) -> Tensor:
        """[B, N, D], the images of a request one after another."""
        return torch.stack([torch.cat([self.model.visual(seen(i)) for i in r.media()]) for r in asked])

    def ids(self, question: str) -> tuple[list[int], list[int]]:
        """Before and behind the images: each piece of text by itself, what the tokenizer puts first only once."""
        before, after = self.words.format(f"<image>\n{question}").split("<image>")
        first, second = self.tokenizer(before).input_ids, self.tokenizer(after).input_ids
        return first, second[1:] if first[0] == self.tokenizer.bos_token_id else second

    def answer(self, request: Request, new_tokens: int) -> tuple[list[int], Tensor]:
        """Greedy ids, end token included, and the logits of each step."""
        embed = self.model.decoder.get_input_embeddings()
        before, after = (embed(torch.tensor([ids])) for ids in self.ids(request.question))
        sequence = torch.cat([before, self.visual([request]), after], 1)
        decoder: Any = self.model.decoder
        out = decoder.generate(
            inputs_embeds=sequence,
            attention_mask=torch.ones(sequence.shape[:2], dtype=torch.long),
            max_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=self.ends,
            output_logits=True,
            return_dict_in_generate=True,
        )
        return out.sequences[0].tolist(), torch.cat(out.logits)
