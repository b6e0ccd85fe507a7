"""The scores of all units of `pocket`, on samples of the training split: which tokens weigh what, layer by layer.

Open in the notes of the paper and decided here: the ConvNeXt has no attention, so its cells weigh the same; in the
language model S^t is the attention that visual tokens receive from the questions' tokens, and the questions' tokens
weigh the same, together as much as the visual ones; the first token, which takes the most attention and says nothing,
weighs nothing; the projector is an FFN before the language model's first layer; the last block of an encoder or of the
language model takes its own scores where "the next layer's" is said; the language model is measured on all tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scripts.comp.importance import received, squares, structured, token_weights
from scripts.comp.masked import Masked
from scripts.comp.sites import Site
from scripts.pocket.batches import Packed
from scripts.pocket.joint import JointModel
from scripts.pocket.phase_through import question_rows
from scripts.pocket.sample import Sample
from scripts.pocket.symbolic import answer_logits

__all__ = ["unit_scores"]


def text_queries(packed: Packed, length: int) -> Tensor:
    """[B, length] bool: the questions' tokens, which stand last."""
    rows = question_rows(packed)
    out = torch.zeros(len(rows), length, dtype=torch.bool)
    out[:, -rows.shape[1] :] = rows
    return out


class _Pass:
    """What one pass of a batch shows."""

    def __init__(self) -> None:
        self.given: dict[str, Tensor] = {}
        self.attention: dict[str, Tensor] = {}

    def give(self, name: str, x: Tensor) -> None:
        self.given[name] = x.flatten(1, -2)

    def attend(self, name: str, weights: Tensor) -> None:
        self.attention[name] = weights


@torch.no_grad()
def unit_scores(
    model: JointModel, masked: Masked, batches: list[tuple[list[Sample], Packed]], *, cip: bool = True, cit: bool = True
) -> dict[str, Tensor]:
    """S^p of every place's units, [units] each, over all samples.

    Args:
        batches: samples of one kind each (images, or clips) and their questions.
        cip: tokens weigh what their scores say; else all the same, which is Wanda's norm.
        cit: heads' masks are in the tokens' scores.
    """
    total: dict[str, Tensor] = {}
    for samples, packed in batches:
        seen = _Pass()
        with masked.watched(seen.give, seen.attend):
            visual = model.look(samples)
            answer_logits(model.vlm.decoder, visual.tokens, visual.index, model.total, packed)
        for name, site in masked.places.items():
            x = seen.given[name]
            weight = _weights(site, seen, masked, packed, cit) if cip else torch.full(x.shape[:2], 1 / x.shape[1])
            total[name] = total.get(name, 0) + squares(x, weight.reshape(x.shape[:2]))
    layers = dict(model.vlm.named_modules())
    return {name: structured(layers[name].weight, total[name], site.units) for name, site in masked.places.items()}


def _weights(site: Site, seen: _Pass, masked: Masked, packed: Packed, cit: bool) -> Tensor:
    """Omega of the tokens that go through a place, as many rows as it has."""
    x = seen.given[site.name]
    if site.name.startswith("towers.b."):
        return torch.full(x.shape[:2], 1 / x.shape[1])
    attention = _attention_for(site, seen)
    heads = masked.heads(attention) if cit else None
    weights = seen.attention[attention].float()
    if site.name.startswith("towers."):
        score = received(weights, heads)
        first = site.name.startswith("towers.a.")
        return token_weights(score[:, 1:] if first else score, first)
    queries = text_queries(packed, weights.shape[2])
    text = packed.segment > 0
    visual = token_weights(received(weights, heads, queries)[:, 1 : -text.shape[1]], False)
    if site.layer < 0:
        return visual
    asked = text / text.sum(1, keepdim=True)
    return torch.cat([torch.zeros(len(text), 1), visual, asked], 1)


def _attention_for(site: Site, seen: _Pass) -> str:
    """The attention whose tokens' scores weigh at a place: an MHA's own, an FFN's next one if there is one."""
    if site.layer < 0 and site.name.startswith("fusion."):
        return "decoder.model.layers.0.self_attn"
    block = site.name.rpartition(".")[0].rpartition(".")[0]
    if site.pairs:
        return f"{block}.self_attn"
    above, _, number = block.rpartition(".")
    following = f"{above}.{int(number) + 1}.self_attn"
    return following if following in seen.attention else f"{block}.self_attn"
