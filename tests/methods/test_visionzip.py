"""VisionZip against loops in float64."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.visionzip import VisionZip
from tests.methods.views import ragged, view, visual_indices


def reference(x: Tensor, keys: Tensor, attention: list[float], k: int, cls: Tensor | None) -> list[Tensor]:
    """What the language model gets of one image: class token, dominant patches, contextual tokens."""
    n = len(attention)
    few = math.floor(k * 10 / 64 + 0.5)
    if k == n:
        return list(x.double())
    head = [] if cls is None or few == k else [cls.double()]
    dominant = sorted(range(n), key=lambda i: -attention[i])[: k - few - len(head)]
    rest = [i for i in range(n) if i not in dominant]
    out = head + [x[i].double() for i in sorted(dominant)]
    if few == 0:
        return out
    step = max(1, len(rest) // few)
    targets = rest[::step][:few]
    joined: dict[int, list[int]] = {t: [] for t in targets}
    unit = [key / key.norm() for key in keys.double()]
    for i in rest:
        if i not in targets:
            joined[max(targets, key=lambda t: float(unit[i] @ unit[t]))].append(i)
    for t in targets:
        members = torch.stack([x[i].double() for i in joined[t]]).mean(0) if joined[t] else 0.0
        out.append(x[t].double() + members)
    return out


@pytest.mark.parametrize("cls", [False, True])
@pytest.mark.parametrize("with_keys", [False, True])
@pytest.mark.parametrize("side", [5, 8])
def test_dominant_and_contextual_tokens(side: int, with_keys: bool, cls: bool) -> None:
    n = side * side
    for seed in range(2):
        tokens = ragged([n, n - 4, 13], Grid(1, side, side), seed=seed, cls=cls)
        g = torch.Generator().manual_seed(seed)
        keys = torch.randn(*tokens.x.shape[:2], 5, generator=g) if with_keys else None
        for target in (1, 6, 13, n):
            seen = view(tokens, target, seed=seed, keys=keys, has_cls=cls)
            assert seen.attention is not None
            out = apply(tokens, VisionZip().encode({"t": seen})["t"])
            for b in range(3):
                at = visual_indices(tokens, b)
                k = min(target, len(at))
                want = reference(
                    tokens.x[b, at],
                    tokens.x[b, at] if keys is None else keys[b, at],
                    [float(seen.attention[b, i]) for i in at],
                    k,
                    tokens.x[b, 0] if cls else None,
                )
                slots = visual_indices(out, b)
                assert len(slots) == k == len({int(o) for o in out.origin[b, slots]})
                assert torch.allclose(out.x[b, slots].double(), torch.stack(want), atol=1e-5)


@pytest.mark.parametrize("cls", [False, True])
@pytest.mark.parametrize(("total", "few"), [(192, 30), (128, 20), (64, 10)])
def test_the_published_splits(total: int, few: int, cls: bool) -> None:
    tokens = ragged([576], Grid(1, 24, 24), cls=cls)
    seen = view(tokens, total, has_cls=cls)
    assert seen.attention is not None
    out = apply(tokens, VisionZip().encode({"t": seen})["t"])
    patches = total - few - int(cls)  # the class token counts as a dominant one
    top = seen.attention[0, int(cls) :].argsort(descending=True)[:patches].sort().values
    head = tokens.x[0, :1]
    want = torch.cat([head[: int(cls)], tokens.x[0, int(cls) + top]])
    got = out.x[0, visual_indices(out, 0)]
    assert len(got) == total and torch.equal(got[: total - few], want)
    assert all(not torch.equal(row, head[0]) for row in got[total - few :])


def test_what_takes_the_class_tokens_place_is_said() -> None:
    def said(kind: str, **has_cls: bool) -> tuple[str, ...]:
        towers = {name: SimpleNamespace(has_cls=has) for name, has in has_cls.items()}
        return VisionZip().substitutes(SimpleNamespace(fusion=SimpleNamespace(kind=kind), towers=towers))  # type: ignore[arg-type]

    assert said("independent", a=True, b=True) == ()
    assert "tower 'b' does not hand on" in said("independent", a=True, b=False)[0]
    assert "a shared fusion does not hand on" in said("shared", a=True)[0]


def test_every_token_left_out_is_in_a_contextual_one() -> None:
    """What the paper claims over plain selection: what is dropped is merged, once each, not lost."""
    tokens = ragged([64, 50], Grid(1, 8, 8), cls=True)
    seen = view(tokens, 20)
    assert seen.attention is not None
    decision = VisionZip().encode({"t": seen})["t"]
    out = apply(tokens, decision)
    for b, n in enumerate((64, 50)):
        assert int((out.group[b] >= 0).sum()) == n
        top = seen.attention[b].masked_fill(~tokens.visual[b], -1.0).argsort(descending=True)[:17]
        dominant = set(tokens.origin[b, top].tolist())
        assert all(int((out.group[b] == cell).sum()) == 1 for cell in dominant)


@pytest.mark.parametrize("cls", [False, True])
def test_the_same_tokens_in_spatial_order(cls: bool) -> None:
    tokens = ragged([64, 50], Grid(1, 8, 8), cls=cls)
    seen = view(tokens, 20, has_cls=cls)
    authors, spatial = (apply(tokens, VisionZip(order=o).encode({"t": seen})["t"]) for o in ("authors", "spatial"))  # type: ignore[arg-type]
    at = spatial.origin[:, int(cls) :]
    assert (at.diff() > 0).all()
    place = authors.origin[:, int(cls) :].argsort(dim=1)
    for b in range(2):
        assert torch.equal(spatial.x[b, int(cls) :], authors.x[b, int(cls) :][place[b]])
