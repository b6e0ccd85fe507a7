"""Building the library's modules from a configuration or a folder, and saying in one line what is wrong with one.

A checkpoint is what `save_pretrained` writes, or what lies on the hub (older key names, see `hub_key`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

from meteor_bench.core.attention_probe import register
from meteor_bench.core.errors import ModelError
from meteor_bench.core.model import VLM, Processor
from meteor_bench.models.checkpoint import Fit, Rename, digest, load_weights, randomise, skeleton
from meteor_bench.models.locate import read_config, read_object
from meteor_bench.utils.plain_text import one_line

__all__ = ["BAD_CONFIG", "eos_ids", "hub_config", "hub_key", "make", "parts", "read_eos", "seal"]

# What the library's configuration classes raise for values that make no sense.
BAD_CONFIG = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    StrictDataclassError,
    TypeError,
    ValueError,
)
PATIENCE_S = 20.0  # for a prompt, which takes milliseconds
_OLD = (
    (re.compile(r"^language_model\.lm_head\."), "lm_head."),
    (re.compile(r"^language_model\.(model\.)?"), "model.language_model."),
    (re.compile(r"^(vision_tower|multi_modal_projector|image_newline)"), r"model.\1"),
    (re.compile(r"^(model\.\w*vision_(?:tower|model))\.vision_model\."), r"\1."),
)


def hub_key(key: str) -> str | None:
    """A weight's name in a file, old or new -> its name in transformers 5; None for a buffer that is recomputed."""
    if key.endswith(("position_ids", "inv_freq")):
        return None
    for old, new in _OLD:
        key = old.sub(new, key)
    return key


def hub_config(kind: type[Any], config: Mapping[str, Any], name: str, folder: Path | None) -> Any:
    """The library's configuration object for a folder's config.json, without a folder for ``config``.

    Raises:
        ModelError: it does not describe such a model.
    """
    config = config if folder is None else read_config(folder)
    if config.get("model_type") != kind.model_type:
        raise ModelError(
            f"{folder} holds a model of type '{config.get('model_type')}'; '{name}' is '{kind.model_type}'"
        )
    try:
        return kind.from_dict(dict(config))
    except BAD_CONFIG as error:
        raise ModelError(f"config.json of '{name}' is no {kind.__name__}: {one_line(error)}") from error


def make(
    kind: type[Any], config: Any, device: str, dtype: torch.dtype, folder: Path | None, *, rename: Rename, fit: Fit
) -> Any:
    """The library's model with the weights of a folder, or with random ones.

    Args:
        rename, fit: see `load_weights`.

    Raises:
        ModelError: see `load_weights`.
    """
    try:
        with skeleton():
            model = kind(config)
    except BAD_CONFIG as error:
        where = "the configuration" if folder is None else f"{folder / 'config.json'}"
        raise ModelError(f"{where} does not describe a {kind.__name__}: {one_line(error)}") from error
    tied = bool(getattr(config, "tie_word_embeddings", False))
    if folder is None:
        randomise(model, device, dtype)
    else:
        ties = model._tied_weights_keys if tied else {}
        load_weights(model, folder, device=device, dtype=dtype, rename=rename, fit=fit, ties=ties)
    if tied:
        model.tie_weights()
    model.eval().requires_grad_(False)
    model.set_attn_implementation(register())
    return model


def seal(vlm: VLM, folder: Path | None) -> VLM:
    """Say what the model was built from; its prompts are tried, for a template may be wrong.

    Raises:
        ModelError: the template has no place for an image, fails, or does not come to an end.
    """
    _try_prompt(vlm.processor)
    vlm.digest, vlm.folder = "random" if folder is None else digest(folder), folder
    return vlm


def _try_prompt(processor: Processor) -> None:
    """A template is a program: one with loops in loops would go on for years."""
    raised: list[Exception] = []

    def attempt() -> None:
        try:
            processor.prompt("")
        except Exception as error:  # raised below, in the thread that waits
            raised.append(error)

    # One that nobody waits for any more does not keep the process from ending.
    thread = Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    if thread.is_alive():
        raise ModelError(
            f"the checkpoint's chat template (chat_template) takes more than {PATIENCE_S:g} s for a prompt"
        )
    if raised:
        raise raised[0]


def parts(kind: Any, folder: Path, **more: Any) -> Any:
    """The library's processor (tokenizer, image processor, template) of a checkpoint; no code of it is run.

    Args:
        more: other arguments of the library's `from_pretrained`.

    Raises:
        ModelError: a file of it is missing or broken.
    """
    try:
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **more)
    except (OSError, *BAD_CONFIG) as error:
        raise ModelError(f"{folder} holds no {kind.__name__}: {one_line(error)}") from error
    except Exception as error:
        if type(error) is not Exception:  # what `tokenizers` says of a file that is none has no class of its own
            raise
        raise ModelError(f"{folder} holds no {kind.__name__}: {one_line(error)}") from error


def read_eos(config: Any, folder: Path | None) -> frozenset[int]:
    """The ids that end an answer: those of generation_config.json, else the language model's own."""
    found: Any = getattr(config, "eos_token_id", None)
    file = None if folder is None else folder / "generation_config.json"
    if file is not None and file.exists():
        found = read_object(file).get("eos_token_id", found)
    return eos_ids(found, config, str(file or "config.json"))


def eos_ids(found: Any, config: Any, where: str) -> frozenset[int]:
    """Ids that end an answer, as a configuration writes them; those of the language model where it has none.

    Args:
        where: it was read, for the message.

    Raises:
        ModelError: they are no numbers.
    """
    found = getattr(config.get_text_config(), "eos_token_id", None) if found is None else found
    ids = [] if found is None else found if isinstance(found, list) else [found]
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        raise ModelError(f"{where} has eos_token_id={str(found)[:60]}; expected a whole number or a list of them")
    return frozenset(ids)
