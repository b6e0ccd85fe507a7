"""ToMe's arithmetic against plain loops in float64; its attention, in which sizes count."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.pruner import Decision, Layout, View
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.engine.tower_blocks import key_mask
from meteor_bench.methods.tome import ToMe
from tests.methods.views import ragged, view, visual_indices

GRID = Grid(1, 6, 6)
LAYOUT = Layout("independent", {"t": GRID}, {"t": 4})


def reference(keys: Tensor, special: list[int], r: int) -> dict[int, int]:
    """{source: goal} among the places of one sequence [n, D], special ones included."""
    n = keys.shape[0]
    unit = [key / key.norm() for key in keys.double()]
    edges = []
    for i in range(0, n, 2):
        if i in special:
            continue
        partners = {j: float(unit[i] @ unit[j]) for j in range(1, n, 2) if j not in special}
        if partners:
            j = max(partners, key=lambda j: partners[j])
            edges.append((-partners[j], i, j))
    return {i: j for _, i, j in sorted(edges)[:r]}


def stand(keys: Tensor, merged: dict[int, int], cls: bool) -> list[int]:
    """The authors' sequence after a merge, as places before it: unmerged even ones, then odd ones; no class token."""
    n = len(keys)
    if not merged:
        return list(range(int(cls), n))
    unit = [key / key.norm() for key in keys.double()]
    best = {i: max(float(unit[i] @ unit[j]) for j in range(1, n, 2)) for i in range(0, n, 2)}
    even = [i for i in range(0, n, 2) if i not in merged and not (cls and i == 0)]
    return (even if cls else sorted(even, key=lambda i: (-best[i], i))) + list(range(1, n, 2))


def inside(tokens: Tokens, target: int, layer: int, keys: Tensor | None) -> View:
    cls = bool(tokens.special.any())
    seen = view(tokens, target, layout=LAYOUT, attention=None, keys=keys, has_cls=cls)
    return seen.changed(inside=True, layer=layer, layers=(1, 2, 3, 4, 4))


@pytest.mark.parametrize("cls", [False, True])
def test_a_merge_layer(cls: bool) -> None:
    for seed in range(3):
        tokens = ragged([36, 33, 31], GRID, seed=seed, cls=cls)
        g = torch.Generator().manual_seed(seed)
        keys = torch.randn(*tokens.x.shape[:2], 5, generator=g)
        for layer, target in [(1, 20), (3, 20), (4, 16), (1, 36)]:
            decision = ToMe().encode({"t": inside(tokens, target, layer, keys)})["t"]
            out = apply(tokens, decision)
            for b, n in enumerate((36, 33, 31)):
                wanted = 36 - math.floor((36 - target) * layer / 4 + 0.5)
                r = max(0, min(n - wanted, n // 2))
                width = n + int(cls)
                want = reference(keys[b, :width], [0] if cls else [], r)
                got = {
                    i: int(decision.merge_into[b, i])  # type: ignore[index]
                    for i in visual_indices(tokens, b)
                    if not decision.keep[b, i]
                }
                assert got == want and len(got) == r
                survivors = stand(keys[b, :width], want, cls)
                for k, i in enumerate(survivors):
                    members = [i, *(s for s, goal in want.items() if goal == i)]
                    size = tokens.size[b, members].double()
                    mean = (tokens.x[b, members].double() * size[:, None]).sum(0) / size.sum()
                    assert torch.allclose(out.x[b, k + int(cls)].double(), mean, atol=1e-5)
                    assert float(out.size[b, k + int(cls)]) == float(size.sum())
                if cls:
                    assert torch.equal(out.x[b, 0], tokens.x[b, 0])


@pytest.mark.parametrize("cls", [False, True])
def test_the_groups_of_several_layers_are_the_authors(cls: bool) -> None:
    """Four layers in a row, sets A and B taken anew from the sequence as the authors' code leaves it."""
    grid, lead = Grid(1, 6, 6), int(cls)
    differ = False
    for seed in range(4):
        g = torch.Generator().manual_seed(seed)
        start = Tokens.dense(torch.randn(1, 36 + lead, 6, generator=g), grid, specials=lead)
        left, spatial = start, start
        x, members = start.x[0].double(), [[i - lead] if i >= lead else [] for i in range(36 + lead)]
        for layer in range(1, 5):
            merged = reference(x, [0] if cls else [], 5)
            order = [0] * lead + stand(x, merged, cls)
            size = torch.tensor([max(1, len(m)) for m in members]).double()
            for j in range(1, len(x), 2):
                source = [j, *(i for i, goal in merged.items() if goal == j)]
                x[j] = (x[source] * size[source][:, None]).sum(0) / size[source].sum()
                members[j] = sorted(m for i in source for m in members[i])
                size[j] = size[source].sum()
            x, members = x[order], [members[i] for i in order]
            left = apply(left, ToMe().encode({"t": inside(left, 16, layer, left.x)})["t"])
            other = ToMe(order="spatial").encode({"t": inside(spatial, 16, layer, spatial.x)})["t"]
            spatial = apply(spatial, other)
            assert torch.allclose(left.x[0].double(), x, atol=1e-5)
            groups = [(left.group[0] == cell).nonzero()[:, 0].tolist() for cell in left.origin[0, lead:]]
            assert groups == members[lead:]
        differ |= not torch.equal(left.group, spatial.group)
        assert (spatial.origin[0, lead:].diff() > 0).all()
        layout = Layout("independent", {"t": grid}, {"t": 4})
        for method in (ToMe(), ToMe(relax=False)):  # out of the encoder in spatial order
            end = view(left, 16, layout=layout, layers=(1, 2, 3, 4, 4), attention=None, has_cls=cls)
            out = apply(left, method.encode({"t": end})["t"])
            assert torch.equal(out.group, left.group) and (out.origin[0, lead:].diff() > 0).all()
    assert differ


def test_rounds_at_the_output_reach_any_target() -> None:
    tokens = ragged([36, 20, 1], GRID, cls=True)
    for target in (0, 1, 3, 20):
        seen = view(tokens, target, layout=Layout("independent", {"t": GRID}, {"t": 0}), layers=(0,), attention=None)
        out = apply(tokens, ToMe().encode({"t": seen})["t"])
        assert out.counts().tolist() == [min(target, n) for n in (36, 20, 1)]


@pytest.mark.parametrize("padded", [False, True])
def test_a_merged_token_counts_as_its_patches_in_attention(padded: bool) -> None:
    """The paper's claim for proportional attention: equal keys give the same, merged or not."""
    g = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 1, 1, 6, 4, generator=g).unbind(0)
    key[0, 0, 3], value[0, 0, 3] = key[0, 0, 1], value[0, 0, 1]
    key[0, 0, 4], value[0, 0, 4] = key[0, 0, 1], value[0, 0, 1]
    whole = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    tokens = Tokens.dense(torch.zeros(1, 6, 4), Grid(1, 2, 3))
    into = torch.tensor([[0, 1, 2, 1, 1, 5]])
    keep = into == torch.arange(6)
    merged = apply(tokens, Decision(keep=keep, merge_into=into, total=True))
    kept = [0, 1, 2, 5]
    if padded:
        pad = torch.nn.functional.pad
        merged = replace(
            merged,
            x=pad(merged.x, (0, 0, 0, 1)),
            valid=pad(merged.valid, (0, 1)),
            size=pad(merged.size, (0, 1)),
        )
        kept.append(4)
    mask = key_mask(merged, True)
    assert mask is not None and mask.is_floating_point()
    part = torch.nn.functional.scaled_dot_product_attention(query[:, :, kept], key[:, :, kept], value[:, :, kept], mask)
    assert torch.allclose(part[:, :, :4], whole[:, :, [0, 1, 2, 5]], atol=1e-6)
    assert key_mask(tokens, True) is None


def inside_small(tokens: Tokens) -> View:
    layout = Layout("independent", {"t": tokens.grid}, {"t": 4})
    return replace(
        view(tokens, 4, layout=layout, attention=None, keys=tokens.x), inside=True, layer=4, layers=(1, 2, 3, 4, 4)
    )
