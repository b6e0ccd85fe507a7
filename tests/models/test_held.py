"""A model of transformers that the user holds: pruned without a change to it, unpruned equal to its own `generate`."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import meteor_bench
from meteor_bench.core.errors import ConfigError, ModelError
from meteor_bench.core.registry import FAMILIES
from meteor_bench.models.held import held, hub_families
from tests import hub_pieces, hubs, tiny
from tests.docs.guides import blocks

NEW_TOKENS = 6


def state(model: nn.Module) -> dict[str, object]:
    """All that a change to the model would show in."""
    return {
        "tensors": {key: (value.data_ptr(), value._version) for key, value in model.state_dict(keep_vars=True).items()},
        "gradients": {key: value.requires_grad for key, value in model.named_parameters()},
        "hooks": {key: (len(m._forward_hooks), len(m._forward_pre_hooks)) for key, m in model.named_modules()},
        "modes": {key: m.training for key, m in model.named_modules()},
        "own": {key: sorted(m.__dict__) for key, m in model.named_modules()},
        "classes": {key: type(m) for key, m in model.named_modules()},
        "config": model.config.to_dict(),  # type: ignore[union-attr, operator]
        "attention": [getattr(m.config, "_attn_implementation", None) for m in model.modules() if hasattr(m, "config")],
    }


def copies(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


@pytest.mark.parametrize(
    "family",
    [name if name in ("llava", "qwen2_5_vl") else pytest.param(name, marks=pytest.mark.slow) for name in hubs.FAMILIES],
)
def test_the_model_is_pruned_and_left_alone(family: str) -> None:
    model, processor = hubs.FAMILIES[family]()  # its own, not one that other tests share
    model.train().requires_grad_(True)
    called: list[str] = []
    model.lm_head.register_forward_hook(lambda *_: called.append("head"))
    reference = hubs.Reference.__new__(hubs.Reference)
    reference.model, reference.processor = model, processor
    (request,) = tiny.requests(1, new_tokens=NEW_TOKENS)
    media = list(request.media())
    model.eval()
    before, logits = reference.answer(request, NEW_TOKENS)
    model.train()
    shown, weights = state(model), copies(model)

    with hub_pieces.quiet(meteor_bench.pruned, model, processor, method="none", ratio=0.0) as session:
        said = session.answer(media, request.question, max_new_tokens=NEW_TOKENS)
        own = {p.data_ptr() for p in model.parameters()}
        parts = [p for module in session.model.modules().values() for p in module.parameters()]
        assert parts and {p.data_ptr() for p in parts} <= own, "shared, not copied"
        assert not any(p.requires_grad for p in parts)
    assert said.text == processor.tokenizer.decode(before, skip_special_tokens=True).strip()

    with hub_pieces.quiet(meteor_bench.pruned, model, processor, method="random", ratio=0.5) as session:
        few = session.answer(media, request.question, max_new_tokens=NEW_TOKENS)
        model.eval()
        again, between = reference.answer(request, NEW_TOKENS)
        model.train()
    assert abs(few.tokens["final"] - few.tokens["reference"] / 2) <= 0.5
    assert again == before and torch.equal(between, logits), "inside the block"

    assert state(model) == shown
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    model.eval()
    after, still = reference.answer(request, NEW_TOKENS)
    assert after == before and torch.equal(still, logits), "after it"
    assert called, "the user's own hooks still run"


def test_every_family_of_transformers_that_has_an_adapter_is_known() -> None:
    assert set(hubs.FAMILIES) <= set(FAMILIES.names())
    assert {type(hubs.FAMILIES[name]().model).__name__ for name in ("llava", "qwen2_5_vl")} <= set(hub_families())
    assert len(hub_families()) == len(hubs.FAMILIES)


def test_what_cannot_be_pruned_is_one_line() -> None:
    with pytest.raises(ModelError, match=r"^a Linear cannot be pruned here; known: DeepseekVLHybridFor.*, Llava.*"):
        held(nn.Linear(2, 2), None)
    model, processor = hubs.FAMILIES["llava"]()
    with pytest.raises(ModelError, match=r"has no image_processor; give the LlavaProcessor of the model"):
        held(model, processor.tokenizer)
    _, other = hubs.FAMILIES["qwen2_5_vl"]()
    with pytest.raises(ModelError, match=r"^a Qwen2_5_VLProcessor is of another model; give the LlavaProcessor of"):
        held(model, other)
    model.config.image_token_id += 1
    with pytest.raises(
        ModelError, match=r"^LlavaForCon.*: its pictures stand at token \d+, the processor's <image> is"
    ):
        held(model, processor)
    model.config.image_token_id -= 1
    with pytest.raises(ModelError, match="its weights lie on several devices, or are not in memory; load it on one"):
        held(copy.deepcopy(model).to("meta"), processor)

    class Packed(nn.Parameter):
        pass

    model.lm_head.weight = Packed(model.lm_head.weight.detach())
    with pytest.raises(ModelError, match=r"lm_head.weight is a Packed; weights must be plain, not quantised"):
        held(model, processor)


def test_a_model_that_is_held_runs_where_it_lies() -> None:
    with pytest.raises(ConfigError, match="leave device and dtype out"):
        meteor_bench.Session(tiny.build("shared"), dtype="float16")


def test_the_example_of_the_models_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (python,) = blocks("models.md", "python")
    model, processor = hubs.FAMILIES["llava"]()
    held_by_the_user = {"model": model, "processor": processor, "picture": tiny.picture(0)}
    hub_pieces.quiet(exec, compile(python, "models.md", "exec"), held_by_the_user)
    assert capsys.readouterr().out.split()[-1] == "8"
