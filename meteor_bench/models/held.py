"""A model of transformers that somebody already holds in memory, in the engine's terms, without a change to it.

The engine wants attention rows, for which a model is set to another attention function; so it works on a twin: the same
modules once more, whose parameters and buffers are the tensors of the model itself. The twin costs no memory to speak
of, and the model keeps its configuration, its mode and its gradients.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from meteor_bench.core.attention_probe import register
from meteor_bench.core.errors import ModelError
from meteor_bench.core.model import VLM
from meteor_bench.core.registry import FAMILIES
from meteor_bench.models.hf import eos_ids, seal
from meteor_bench.models.hub_family import HubFamily

__all__ = ["HELD", "held", "hub_families"]

HELD = "held"
"""The digest of such a model: nobody knows which weights it has."""


def hub_families() -> dict[str, HubFamily]:
    """The families of transformers that have an adapter, by the name of the library's class."""
    found = {}
    for name in FAMILIES.names():
        family = getattr(FAMILIES.load(name), "__self__", None)  # such a row is a family's own `card`
        if isinstance(family, HubFamily):
            found[family.model] = family
    return found


def held(model: Any, processor: Any) -> VLM:
    """The model for sessions, which may run side by side; it is not changed, and may be used in between.

    Args:
        model: of one of the classes of `hub_families`, whole and on one device.
        processor: transformers' processor of it, with tokenizer, image processor and, where it has one, chat template.

    Raises:
        ModelError: there is no adapter for its class, its weights are quantised or not in
            memory, or the processor is of another model.
    """
    families = hub_families()
    family = next((families[kind.__name__] for kind in type(model).__mro__ if kind.__name__ in families), None)
    if family is None:
        raise ModelError(f"a {type(model).__name__} cannot be pruned here; known: {', '.join(sorted(families))}")
    name = type(model).__name__
    for key, parameter in model.named_parameters():
        if type(parameter) is not nn.Parameter:
            raise ModelError(f"{name}: {key} is a {type(parameter).__name__}; weights must be plain, not quantised")
    devices = {parameter.device for parameter in model.parameters()}
    if len(devices) > 1 or any(device.type == "meta" for device in devices):
        raise ModelError(f"{name}: its weights lie on several devices, or are not in memory; load it on one")
    for part in ("image_processor", "tokenizer"):
        if getattr(processor, part, None) is None:
            raise ModelError(f"a {type(processor).__name__} has no {part}; give the {family.processor} of the model")
    if family.processor not in (kind.__name__ for kind in type(processor).__mro__):
        raise ModelError(f"a {type(processor).__name__} is of another model; give the {family.processor} of the model")
    token, wanted = processor.image_token, model.config.image_token_id
    if (found := processor.tokenizer.convert_tokens_to_ids(token)) != wanted:
        raise ModelError(
            f"{name}: its pictures stand at token {wanted}, the processor's {token} is token {found}; give the "
            f"{family.processor} of the model"
        )
    twin = _twin(model)
    eos = eos_ids(getattr(model.generation_config, "eos_token_id", None), model.config, name)
    vlm = seal(family.adapt(twin, name, family.library(processor, twin.config, eos)), None)
    vlm.digest = HELD
    return vlm


def _twin(model: Any) -> Any:
    """The modules once more, ready for the engine; their tensors are the model's."""
    shared: dict[int, Any] = {id(one): nn.Parameter(one.detach(), requires_grad=False) for one in model.parameters()}
    shared |= {id(one): one for one in model.buffers()}
    made = copy.deepcopy(model, shared)
    made.eval()
    made.set_attn_implementation(register())
    return made
