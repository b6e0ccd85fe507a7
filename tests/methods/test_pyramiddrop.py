"""PyramidDrop against plain loops, and the engine's look at the next layer against the library's own attention."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import ConfigError, UnsupportedError
from meteor_bench.core.pruner import View
from meteor_bench.core.tokens import Grid
from meteor_bench.engine.encode import encode
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.fuse import fuse
from meteor_bench.engine.generate import answer
from meteor_bench.methods.pyramiddrop import PyramidDrop
from tests import tiny
from tests.methods.views import ragged, view, visual_indices


@pytest.mark.parametrize("point", [0, 1, 2])
def test_the_most_attended_stay(point: int) -> None:
    grid = Grid(1, 6, 6)
    for counts in ([36, 36], [36, 21]):
        tokens = ragged(counts, grid, seed=point)
        attention = torch.rand(2, 3, 1, tokens.x.shape[1])
        for target in (1, 4, 20, 36):
            v = view(tokens, target, attention=attention, point=point, layers=(8, 16, 24), keep=target / 36)
            keep = PyramidDrop().decode(v).keep
            for b, count in enumerate(counts):
                at = visual_indices(tokens, b)
                score = {i: sum(float(attention[b, h, 0, i]) for h in range(3)) for i in at}
                k = min(count, max(target, int(36 * (target / 36) ** ((point + 1) / 3) + 1e-9)))
                assert {int(i) for i in keep[b].nonzero()[:, 0]} == set(sorted(at, key=lambda i: -score[i])[:k])


def test_published_shares_and_exact_budgets() -> None:
    def counts(n: int, ratio: float) -> list[int]:
        side, budget = int(n**0.5), TokenBudget.from_ratio(ratio)
        tokens = ragged([n], Grid(1, side, side), dim=2)
        attention = torch.rand(1, 1, 1, n)
        v = view(tokens, budget.tokens(n), attention=attention, layers=(8, 16, 24), keep=budget.keep)
        return [int(PyramidDrop().decode(v.changed(point=i)).keep.sum()) for i in range(3)]

    for n in (576, 256, 100, 144):  # the authors': int(n / 2), int(n / 4), int(n / 8)
        assert counts(n, 0.875) == [int(n * 0.5), int(n * 0.25), int(n * 0.125)]
    for n in (256, 576):
        for ratio in (0.5, 0.667, 0.76, 0.778, 0.889, 0.944):
            found = counts(n, ratio)
            assert found[-1] == round((1 - ratio) * n) and found == sorted(found, reverse=True)


def test_points() -> None:
    def layers(depth: int) -> list[int]:
        model = SimpleNamespace(name="m", decoder=SimpleNamespace(depth=depth))
        points = PyramidDrop().points(model, TokenBudget(0.5)).decode  # type: ignore[arg-type]
        assert all(p.peek and p.attention == "last" for p in points)
        return [p.before for p in points]

    assert layers(32) == [8, 16, 24] and layers(28) == [7, 14, 21]
    assert layers(5) == [1, 3, 4] and layers(4) == [1, 2, 3]
    with pytest.raises(UnsupportedError, match=r"pyramiddrop.*'m' has 3 layers"):
        layers(3)
    with pytest.raises(ConfigError, match="must rise"):
        PyramidDrop(stages_at=(0.5, 0.25))


@torch.inference_mode()
def test_the_next_layers_attention_is_the_librarys() -> None:
    """Read at a point, it is what the layer itself computes when it runs, renumbered positions included."""
    vlm, asked = tiny.build("single"), tiny.requests(3)
    seen: list[View] = []
    engine = Engine(vlm, PyramidDrop(), TokenBudget(0.3), observer=lambda v: bool(seen.append(v)))
    towered = encode(engine, tiny.pixels(vlm, asked), [r.key for r in asked])
    visual = fuse(engine, towered)
    prompts = tiny.prompts(vlm, asked)
    answer(engine, visual, range(3), prompts, 1)
    library = tiny.plain("single").modules["decoder"]
    library.set_attn_implementation("eager")
    model = library.model
    for row, prompt in enumerate(prompts):
        head, tail = (model.embed_tokens(torch.tensor([ids])) for ids in (prompt.before, prompt.after))
        h = torch.cat([head, visual.tokens.x[row : row + 1], tail], 1)
        p, at, points = head.shape[1], 0, {v.layer: v for v in seen}
        for layer in range(vlm.decoder.depth):
            n = h.shape[1]
            rotary = model.rotary_emb(h, position_ids=torch.arange(n)[None])
            mask = torch.full((1, 1, n, n), -torch.inf).triu(1)
            if layer in points:
                v = points[layer]
                normed = model.layers[layer].input_layernorm(h)
                _, weights = model.layers[layer].self_attn(normed, position_embeddings=rotary, attention_mask=mask)
                width = n - p - tail.shape[1]
                want = weights[0, :, -1, p : p + width]  # [H, N]
                assert torch.allclose(v.attention[row, :, 0, :width], want, atol=1e-5)  # type: ignore[index]
                best = want.mean(0).argsort(descending=True)[: int(PyramidDrop().decode(v).keep[row].sum())]
                h = torch.cat([h[:, :p], h[:, p + best.sort().values], h[:, p + width :]], 1)
                at += 1
                n = h.shape[1]
                rotary = model.rotary_emb(h, position_ids=torch.arange(n)[None])
                mask = torch.full((1, 1, n, n), -torch.inf).triu(1)
            out = model.layers[layer](h, attention_mask=mask, position_embeddings=rotary)
            h = out if isinstance(out, torch.Tensor) else out[0]
        assert at == 3
