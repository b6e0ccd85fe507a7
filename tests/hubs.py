"""Tiny random checkpoints of the families that transformers ships, written by the library's own `save_pretrained`.

`folder(family)` is such a folder; `library(family)` the library's own model and processor, read back from it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from meteor_bench.core.errors import ModelError
from meteor_bench.core.model import VLM, Clip
from meteor_bench.core.request import Request
from meteor_bench.engine.factory import build as load
from meteor_bench.engine.load_model import resolve_model
from meteor_bench.methods.none import NoPruning
from tests.hub_families import FAMILIES
from tests.hub_pieces import Library, quiet

__all__ = ["FAMILIES", "Reference", "build", "folder", "library", "refused"]

_KEPT = tempfile.TemporaryDirectory(prefix="meteor-bench-tests-")


@cache
def folder(family: str) -> Path:
    """The family's checkpoint; read-only for tests."""
    path = Path(_KEPT.name) / f"tiny-{family}"
    made = FAMILIES[family]()
    quiet(made.model.save_pretrained, path)
    quiet(made.processor.save_pretrained, path)
    return path


@cache
def library(family: str) -> Library:
    """The checkpoint as the library itself reads it."""
    made = FAMILIES[family]()
    path = folder(family)
    model = quiet(type(made.model).from_pretrained, path, dtype=torch.float32).eval().requires_grad_(False)
    return Library(model, quiet(type(made.processor).from_pretrained, path))


def build(family: str) -> VLM:
    """A fresh model from the folder, as `--model` takes it."""
    card = resolve_model(str(folder(family)), NoPruning())
    return cast("VLM", quiet(card.build, "cpu", torch.float32, folder(family)))


def refused(family: str, copy: Path, changes: Mapping[str, Any]) -> str:
    """What is said of the family's checkpoint with something else in its config.json, one line.

    Args:
        copy: a folder that is not there yet.
        changes: key -> value; a table takes the place of single keys of the one there.
    """
    shutil.copytree(folder(family), copy)
    config = json.loads((copy / "config.json").read_text())
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError) as caught:
        quiet(load, str(copy), "none")
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Reference:
    """The library's own processor, forward and `generate` on a request."""

    def __init__(self, family: str) -> None:
        self.model, self.processor = library(family)

    def inputs(self, request: Request) -> Any:
        """What the library's processor makes of the request: a `Clip` of several frames is a video if it has any."""
        media = request.media()
        clip = isinstance(media, Clip) and len(media) > 1 and getattr(self.processor, "video_processor", None)
        kind = "video" if clip else "image"
        content = [{"type": kind} for _ in (media[:1] if clip else media)]
        message = {"role": "user", "content": [*content, {"type": "text", "text": request.question}]}
        text = self.processor.apply_chat_template([message], add_generation_prompt=True)
        shown: dict[str, Any] = {"images": [list(media)]}
        if clip:
            told = {"total_num_frames": len(media), "fps": 2.0, "frames_indices": list(range(len(media)))}
            shown = {"videos": [list(media)], "do_sample_frames": False, "video_metadata": [told]}
        return quiet(self.processor, text=text, return_tensors="pt", **shown)

    def visual(self, asked: SequenceOf[Request]) -> Tensor:
        """What the library puts in the place of images, from the first placeholder to the last: [B, N, D]."""
        seen: list[Tensor] = []
        body = self.model.get_decoder()
        for request in asked:
            inputs = self.inputs(request)
            hook = body.register_forward_pre_hook(
                lambda _, args, more: seen.append(more["inputs_embeds"]), with_kwargs=True
            )
            self.model(**inputs)
            hook.remove()
            config = self.model.config
            tokens = [config.image_token_id, getattr(config, "video_token_id", None)]
            at = [i for i, token in enumerate(inputs["input_ids"][0].tolist()) if token in tokens]
            seen[-1] = seen[-1][0, at[0] : at[-1] + 1]
        return torch.stack(seen)

    def answer(self, request: Request, new_tokens: int) -> tuple[list[int], Tensor]:
        """Greedy ids, end token included, and the logits of each step."""
        inputs = self.inputs(request)
        out = quiet(
            self.model.generate,
            **inputs,
            max_new_tokens=new_tokens,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        return out.sequences[0, inputs["input_ids"].shape[1] :].tolist(), torch.cat(out.logits)
