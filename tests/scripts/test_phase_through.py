"""The phase that trains METEOR's third stage in the loop: nothing dropped must be nothing changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from meteor_bench.models.pocket.model import WEIGHTS
from meteor_bench.models.pocket.modules import PocketConfig, load_pocket
from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts.pocket.batches import IGNORE, Packed, pack
from scripts.pocket.joint import JointModel
from scripts.pocket.low_rank import LowRank
from scripts.pocket.phase_through import choose, question_rows, through_logits
from scripts.pocket.symbolic import answer_logits
from scripts.pocket.world import make, split_rng

SOURCE: Path = WEIGHTS / "pocket-independent"


@pytest.fixture(scope="module")
def asked() -> tuple[JointModel, list, Packed]:
    tokenizer = PocketTokenizer(SOURCE / "tokenizer.json")
    model = JointModel(PocketConfig.load(SOURCE), tokenizer)
    model.vlm.load_state_dict(load_pocket(SOURCE).state_dict())
    rng = split_rng("calib", 5)
    samples = [make("scene", rng, "calib") for _ in range(2)]
    return model, samples, pack([samples[0].qas[:3], samples[1].qas[3:8]], tokenizer)


@torch.no_grad()
def test_with_all_tokens_kept_it_is_the_plain_forward(asked: tuple[JointModel, list, Packed]) -> None:
    model, samples, packed = asked
    visual = model.look(samples)
    plain = answer_logits(model.vlm.decoder, visual.tokens, visual.index, model.total, packed)
    ours = through_logits(model, visual, packed, keep=4 * visual.index.shape[1])
    assert torch.allclose(ours, plain, atol=2e-3)
    assert not torch.allclose(through_logits(model, visual, packed, keep=20), plain, atol=0.1)


def test_the_rows_of_a_question_are_its_prompt(asked: tuple[JointModel, list, Packed]) -> None:
    _, _, packed = asked
    rows = question_rows(packed)
    for b in range(2):
        for q in range(1, int(packed.segment[b].max()) + 1):
            mine = packed.segment[b] == q
            targets = (packed.target[b] != IGNORE) & mine
            assert int((rows[b] & mine).sum()) == int(mine.sum()) - int(targets.sum()) + 1  # the mark has a target
            assert bool((rows[b] & targets).nonzero().flatten().tolist() == [int(targets.nonzero()[0])])


def test_what_is_chosen_has_the_highest_attention_of_the_heads_that_look_most() -> None:
    g = np.random.default_rng(0)
    attention = torch.as_tensor(g.random((1, 3, 5, 12)), dtype=torch.float32)
    rows = torch.tensor([[[True, True, False, False, False], [False, False, True, True, True]]])
    place, real = choose(attention, rows, keep=4)
    mass = []
    scores = []
    for q in range(2):
        mean = attention[0][:, rows[0, q]].mean(1)
        heads = mean.sum(1).argsort(descending=True)[:2]
        scores.append(mean[heads].sum(0))
        mass.append(float(scores[-1].sum()))
    for q in range(2):
        k = round(4 * mass[q] / (sum(mass) / 2))
        assert set(place[0, q][real[0, q]].tolist()) == set(scores[q].argsort(descending=True)[:k].tolist())


def test_the_low_rank_gradient_is_that_of_the_product() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Linear(6, 4))
    low = LowRank(layer, ("0",), rank=2, rate=0.1)
    b, a = (t.detach().clone().requires_grad_() for t in low.parts["0.weight"])
    x, y = torch.randn(5, 6), torch.randn(5, 4)
    start = layer[0].weight.detach().clone()
    torch.nn.functional.mse_loss(layer(x), y).backward()
    torch.nn.functional.mse_loss(x @ (start + b @ a).T + layer[0].bias.detach(), y).backward()
    assert b.grad is not None and a.grad is not None
    grads = {}
    real = low.optimizer.step
    low.optimizer.step = lambda *_: grads.update(b=low.parts["0.weight"][0].grad.clone()) or real()  # type: ignore
    low.step(1.0)
    assert torch.allclose(grads["b"] / grads["b"].norm(), b.grad / b.grad.norm(), atol=1e-5)
    assert not torch.equal(layer[0].weight, start)
