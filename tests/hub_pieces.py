"""What the tiny checkpoints of `tests.hub_families` are made of: a tokenizer, encoders, a language model, weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from typing import Any, NamedTuple

import torch
import transformers
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Sequence, Split
from tokenizers.processors import TemplateProcessing
from torch import nn

VOCABULARY = 96
BOS, EOS, UNKNOWN, IMAGE, VIDEO = 1, 2, 3, 4, 5
WORDS = (
    "USER: ASSISTANT: what is it there a red thing in the middle of why count blue ones please \n "
    "<0.2 <1.2 seconds> Frame1: Frame2:"
)
CHAT = (
    "{% for m in messages %}USER: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>\n{% elif c['type'] == 'video' %}<video>\n{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %} {% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


class Library(NamedTuple):
    """The library's own view of a checkpoint."""

    model: Any
    processor: Any


def enliven(module: nn.Module, seed: int) -> nn.Module:
    """Weights large enough that tokens, heads and answers differ."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if p.ndim > 1:
                one = p[0, 0] if "experts" in name else p[0]
                fan = one.numel() if "embed" not in name and "position" not in name else 1
                p.copy_(torch.randn(p.shape, generator=g) * (1.5 / fan**0.5 if fan > 1 else 0.5))
            elif "norm" not in name.lower() and "ln_q" not in name:
                p.copy_(0.1 * torch.randn(p.shape, generator=g))
    return module.eval()


def tokenizer(*special: str, begin: bool = True, called: SequenceOf[str] = ()) -> Any:
    """One id per word, a newline is a word; ``special`` are ids of their own from `IMAGE` on.

    Args:
        called: the library's names of the special ones, where they are not how they are written.
    """
    named = ["<pad>", "<s>", "</s>", "<unk>", *special]
    words = [w for w in WORDS.split(" ") if w]
    vocabulary = {word: i for i, word in enumerate([*named, *words])}
    made = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = Sequence([Split(Regex("\n"), "isolated"), Split(Regex(" "), "removed")])
    if begin:
        made.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        extra_special_tokens={
            f"{name.strip('<>')}_token": text for name, text in zip(called or special, special, strict=True)
        },
    )


def llama(**more: Any) -> dict[str, Any]:
    """The language model of most families here."""
    return {
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "eos_token_id": EOS,
        "bos_token_id": BOS,
        "pad_token_id": 0,
        **more,
    }


def clip(**more: Any) -> dict[str, Any]:
    """A CLIP tower of 4 x 4 patches."""
    return {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 6,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "projection_dim": 16,
        **more,
    }


def siglip(**more: Any) -> dict[str, Any]:
    """A SigLIP tower of 4 x 4 patches."""
    return {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 5,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "vision_use_head": False,
        **more,
    }


def quiet(call: Callable[..., Any], *args: Any, **more: Any) -> Any:
    """A call into the library without its progress bars and deprecation warnings."""
    transformers.utils.logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*args, **more)
