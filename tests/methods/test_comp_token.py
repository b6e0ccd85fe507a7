"""comp-token's score against loops, through the probe."""

from __future__ import annotations

import pytest
import torch

from meteor_bench.core.attention_probe import Probe
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.comp_token import CompToken
from tests.methods.views import ragged, view, visual_indices


@pytest.mark.parametrize("chunk", [1 << 26, 40])
def test_peak_is_the_mean_over_queries_of_the_highest_head(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meteor_bench.core.received.CHUNK_CPU", chunk)
    g = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 2, 3, 7, 4, generator=g).unbind(0)
    valid = torch.ones(2, 7, dtype=torch.bool)
    valid[1, 5:] = False
    mask = (valid[:, None] | torch.eye(7, dtype=torch.bool))[:, None]
    probe = Probe(mode="received", queries=valid, peak=True)
    probe.read(query, key, mask, None, False, 1)
    assert probe.attention is not None
    for b, n in enumerate((7, 5)):
        a = [(query[b, h, :n].double() @ key[b, h, :n].double().T / 2).softmax(-1) for h in range(3)]
        for i in range(n):
            want = sum(max(float(a[h][q, i]) for h in range(3)) for q in range(n)) / n
            assert abs(float(probe.attention[b, i]) - want) < 1e-6


@pytest.mark.parametrize("cls", [False, True])
def test_the_highest_scores_stay_and_lie_between_0_and_1(cls: bool) -> None:
    tokens = ragged([16, 9, 1], Grid(1, 4, 4), cls=cls)
    seen = view(tokens, 6)
    decision = CompToken().encode({"t": seen})["t"]
    assert decision.score is not None and seen.attention is not None
    for b in range(3):
        at = visual_indices(tokens, b)
        raw = [float(seen.attention[b, i]) for i in at]
        best = sorted(range(len(at)), key=lambda p: -raw[p])[:6]
        assert {int(i) for i in decision.keep[b].nonzero()[:, 0]} == {at[p] for p in best}
        if len(at) > 1:
            for p, i in enumerate(at):
                want = (raw[p] - min(raw)) / (max(raw) - min(raw))
                assert abs(float(decision.score[b, i]) - want) < 1e-5


def test_what_one_head_alone_attends_to_is_not_averaged_away() -> None:
    """What the maximum over heads is for: the mean would take the token that all heads attend to a little."""
    attention = torch.full((1, 4, 9, 9), 0.05)  # [B, H, queries, keys]
    attention[..., 2] = 0.2
    attention[:, 1, :, 5] = 0.6
    attention = attention / attention.sum(-1, keepdim=True)
    mean, peak = attention.mean((1, 2)), attention.amax(1).mean(1)
    assert int(mean[0].argmax()) == 2
    tokens = ragged([9], Grid(1, 3, 3))
    keep = CompToken().encode({"t": view(tokens, 1, attention=peak)})["t"].keep
    assert keep[0].nonzero()[:, 0].tolist() == [5]
