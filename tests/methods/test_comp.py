"""comp at run time against plain loops, and what it asks of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import ModelError, UnsupportedError
from meteor_bench.core.tokens import Grid
from meteor_bench.engine.load_model import resolve_model
from meteor_bench.methods.comp import Comp
from tests.methods.views import ragged, view, visual_indices

HALF = TokenBudget(0.5)


def test_the_tokens_stay_that_some_head_of_the_questions_tokens_looks_at() -> None:
    for counts in ([16, 16], [16, 9]):
        tokens = ragged(counts, Grid(1, 4, 4))
        attention = torch.rand(2, 3, 5, tokens.x.shape[1], generator=torch.Generator().manual_seed(1)).double()
        attention[1, :, 3:] = 0  # a shorter question
        seen = view(tokens, 6, attention=attention, layers=(2,), text=torch.zeros(2, 5, 4))
        keep = Comp(before=2).decode(seen).keep
        for b in range(2):
            at = visual_indices(tokens, b)
            score = {i: sum(max(float(attention[b, h, q, i]) for h in range(3)) for q in range(5)) for i in at}
            assert set(keep[b].nonzero()[:, 0].tolist()) == set(sorted(at, key=lambda i: -score[i])[:6])


def test_a_head_that_is_gone_is_one_whose_mask_is_zero() -> None:
    """The maximum over heads, one of them masked after the softmax, is the maximum over the others."""
    tokens = ragged([16], Grid(1, 4, 4))
    attention = torch.rand(1, 3, 5, 16, generator=torch.Generator().manual_seed(2))
    masked = attention * torch.tensor([1.0, 0.0, 1.0])[:, None, None]
    kept = [
        Comp(before=2).decode(view(tokens, 5, attention=a, layers=(2,), text=torch.zeros(1, 5, 4))).keep
        for a in (masked, attention[:, [0, 2]])
    ]
    assert torch.equal(*kept)


def a_model(folder: Path | None = None) -> SimpleNamespace:
    return SimpleNamespace(name="m", folder=folder, made_from=None, decoder=SimpleNamespace(depth=5))


def test_the_layer_is_the_checkpoints_unless_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "comp.json").write_text(json.dumps({"before": 2, "minutes": {"search": 3.2, "tune": 4.4}}))
    assert [p.before for p in Comp().points(a_model(tmp_path), HALF).decode] == [2]  # type: ignore[arg-type]
    bound = Comp().bind(a_model(tmp_path), HALF)  # type: ignore[arg-type]
    assert bound.parameters() == {"before": 2, "minutes": pytest.approx(7.6)}
    said = ("the model was pruned and trained on drawn pictures for 8 minutes",)
    assert bound.substitutes(a_model()) == said  # type: ignore[arg-type]
    assert Comp(before=3).bind(a_model(tmp_path), HALF).parameters()["before"] == 3  # type: ignore[arg-type]
    (point,) = Comp(before=3).points(a_model(), HALF).decode  # type: ignore[arg-type]
    assert point.before == 3 and point.attention == "text" and not point.peek


def test_a_model_that_was_not_pruned_is_refused_or_said_to_be_one() -> None:
    with pytest.raises(UnsupportedError, match="comp needs a model that it has pruned, and 'm' is none"):
        Comp().points(a_model(), HALF)  # type: ignore[arg-type]
    assert Comp(before=1).substitutes(a_model()) == ("no parameters of this model were pruned",)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="before layer 5; 'm' has 5 layers"):
        Comp(before=5).points(a_model(), HALF)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is corrupted"),
        ("[]", "is corrupted"),
        ('{"before": 2}', "is corrupted: KeyError"),
        ('{"before": 2, "minutes": 3}', "is corrupted: AttributeError"),
        ('{"before": 0, "minutes": {}}', "1 or more"),
    ],
)
def test_broken_facts_are_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "comp.json").write_text(text)
    with pytest.raises(ModelError, match=said) as caught:
        Comp().points(a_model(tmp_path), HALF)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_on_pocket_it_takes_the_pruned_checkpoint() -> None:
    assert resolve_model("pocket", Comp()).name == "pocket-comp"
    assert resolve_model("pocket-comp", Comp()).name == "pocket-comp"
    assert resolve_model("pocket-independent", Comp()).name == "pocket-independent"
