"""EAGLE's images and conversations.

An image is padded to a square with CLIP's mean colour, resized to 1024 x 1024 (bicubic, on 8-bit pixels, also when it
is enlarged) and normalised with CLIP's mean and deviation; one tensor serves all encoders.

The image stands where the question says ``<image>``, by default in front of it on a line of its own. The pieces of
text around it are tokenised each on its own, as in the released code. Several images stand one after another at the
first ``<image>``; the models were trained on one. The merged sequence is cut at the checkpoint's
``tokenizer_model_max_length``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from meteor_bench.core.model import Processor, Prompt
from meteor_bench.models.eagle.towers import CLIP_MEAN, CLIP_STD

__all__ = ["TEMPLATES", "EagleProcessor", "Template", "pad_to_square", "template_for"]

PLACE = "<image>"
PAD_COLOUR = tuple(int(255 * value) for value in CLIP_MEAN)  # (122, 116, 104)
_ASSISTANT = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


class Template(NamedTuple):
    """A conversation of one question.

    Attributes:
        before, after: around the question.
        stop: text of the token that ends a turn; "" where the tokenizer's end of text does.
    """

    before: str
    after: str
    stop: str


TEMPLATES = {
    "vicuna_v1": Template(f"{_ASSISTANT} USER: ", " ASSISTANT:", ""),
    "llama3": Template(
        f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{_ASSISTANT}<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
    ),
    "yi_34b_chatml_direct": Template(
        "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n",
        "<|im_end|><|im_start|>assistant\n",
        "<|im_end|>",
    ),
}


def template_for(vocabulary: Mapping[str, int]) -> str:
    """The template that a checkpoint was trained with, told by its tokenizer's special tokens."""
    if "<|start_header_id|>" in vocabulary:
        return "llama3"
    return "yi_34b_chatml_direct" if "<|im_start|>" in vocabulary else "vicuna_v1"


def pad_to_square(image: Image.Image) -> Image.Image:
    """The RGB image in the middle of a square of CLIP's mean colour; an odd difference leaves more behind it."""
    width, height = image.size
    if width == height:
        return image
    side = max(width, height)
    square = Image.new("RGB", (side, side), PAD_COLOUR)
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square


class EagleProcessor(Processor):
    """See the top of the file.

    Args:
        tokenizer: of the checkpoint, callable on text.
        template: name of a row of `TEMPLATES`.
        eos: ids that the checkpoint's configuration calls ends.
        size: side of the square in pixels.
        tokens: visual tokens of an image.
        most: longest merged sequence, None for any.
    """

    def __init__(
        self, tokenizer: Any, template: str, *, eos: frozenset[int], size: int, tokens: int, most: int | None
    ) -> None:
        self.tokenizer, self.template = tokenizer, TEMPLATES[template]
        self.size, self.tokens, self.most = size, tokens, most
        stop = tokenizer.get_vocab().get(self.template.stop)
        self.eos = frozenset(i for i in (*eos, tokenizer.eos_token_id, stop) if i is not None)

    def pixels(self, media: Sequence[Any]) -> Tensor:
        """Images -> [F, 3, size, size]."""
        return torch.stack([self._normalised(image) for image in media])

    def _normalised(self, image: Image.Image) -> Tensor:
        square = pad_to_square(image.convert("RGB"))
        if square.size != (self.size, self.size):
            square = square.resize((self.size, self.size), Image.Resampling.BICUBIC)
        x = torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255
        return (x - torch.tensor(CLIP_MEAN)[:, None, None]) / torch.tensor(CLIP_STD)[:, None, None]

    def prompt(self, question: str) -> Prompt:
        said = question if PLACE in question else f"{PLACE}\n{question}"
        first, *rest = (self.template.before + said + self.template.after).split(PLACE)
        before = list(self.tokenizer(first).input_ids)
        pieces = [list(self.tokenizer(piece).input_ids) for piece in rest]
        begin = self.tokenizer.bos_token_id
        if before and begin is not None and before[0] == begin:
            pieces = [ids[1:] for ids in pieces]
        after = [i for ids in pieces for i in ids]
        if self.most is not None:
            after = after[: max(1, self.most - len(before) - self.tokens)]
        return Prompt(tuple(before), tuple(after))

    def words(self, question: str) -> tuple[int, ...]:
        ids = tuple(self.tokenizer(self.template.before + question + self.template.after).input_ids)
        return ids if self.most is None else ids[: self.most]

    def continuation(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text.strip()
