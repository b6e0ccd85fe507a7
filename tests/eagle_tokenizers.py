"""Tokenizers of the three language models that EAGLE was released with, made here, in the files that they come in."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

__all__ = ["LLAMA3_MARKS", "YI_MARKS", "Slow", "llama3", "vicuna", "yi"]

TEXT = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. USER: ASSISTANT: system user assistant Answer the questions. "
    "what is it is there a red thing in the middle of it why count the blue ones please yes no left right\n"
)
LLAMA3_MARKS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
YI_MARKS = ("<|startoftext|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>")


@cache
def _sentencepiece() -> bytes:
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT] * 20),
        model_writer=out,
        model_type="bpe",
        vocab_size=340,
        byte_fallback=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        minloglevel=2,
    )
    return out.getvalue()


def vicuna(folder: Path) -> int:
    """A sentencepiece model that begins every text with <s>; the size of its vocabulary."""
    (folder / "tokenizer.model").write_bytes(_sentencepiece())
    marks = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    about = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, "legacy": False}
    (folder / "tokenizer_config.json").write_text(json.dumps({**about, **marks, "model_max_length": 2048}))
    (folder / "special_tokens_map.json").write_text(json.dumps(marks))
    return 340


class Slow:
    """Vicuna's tokenizer as sentencepiece alone has it, for texts without marks."""

    bos_token_id, eos_token_id = 1, 2

    def __init__(self, folder: Path) -> None:
        self.model = sentencepiece.SentencePieceProcessor()
        self.model.load_from_serialized_proto((folder / "tokenizer.model").read_bytes())

    def __call__(self, text: str) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[1, *self.model.encode(text)])

    def get_vocab(self) -> dict[str, int]:
        return {self.model.id_to_piece(i): i for i in range(self.model.get_piece_size())}

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        said: str = self.model.decode(list(ids))  # which leaves <s> and </s> out
        return said if skip_special_tokens or 1 not in ids else f"<s>{said}"


def _bytes(folder: Path, marks: tuple[str, ...], begin: str | None) -> int:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([TEXT] * 20, trainer)
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    if begin is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": marks[0], "eos_token": marks[1]}
    (folder / "tokenizer_config.json").write_text(json.dumps({**about, "model_max_length": 4096}))
    return int(tokenizer.get_vocab_size())


def llama3(folder: Path) -> int:
    """Byte-level pieces, <|begin_of_text|> put first, as the file of Llama 3 has it."""
    return _bytes(folder, LLAMA3_MARKS, LLAMA3_MARKS[0])


def yi(folder: Path) -> int:
    """Byte-level pieces, nothing put first."""
    return _bytes(folder, YI_MARKS, None)
