"""The probe of letters beside ridge regression as the normal equations have it, and on a few pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts import natural_letters


def test_the_probe_is_ridge_regression() -> None:
    """In its primal form, which inverts a matrix of features in place of one of examples."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 12, generator=draw)
    wanted, other = (torch.randint(5, (n,), generator=draw) for n in (60, 40))
    x, y = (centres[which] + 1.2 * torch.randn(len(which), 12, generator=draw) for which in (wanted, other))
    mean, spread = x.mean(0), x.std(0) + 1e-3
    a, b = (np.c_[((part - mean) / spread).double().numpy(), np.ones(len(part))] for part in (x, y))
    goal = np.eye(5)[wanted.numpy()]
    found = []
    for strength in natural_letters.STRENGTHS:
        weight = np.linalg.inv(a.T @ a + strength * np.eye(13)) @ a.T @ goal
        found.append(
            tuple(float((m @ weight).argmax(1).__eq__(w.numpy()).mean()) for m, w in ((b, other), (a, wanted)))
        )
    assert natural_letters.probe((x, wanted), (y, other)) == pytest.approx(max(found), abs=1e-6)
    assert 0.3 < max(found)[0] < 1, "else this says nothing"


def test_the_text_expert_tells_letters_that_the_vit_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    natural_letters.main(["--pictures", "12", "--checked", "6"])
    lines = capsys.readouterr().out.splitlines()[2:]
    rows = {name.strip(): [width, right] for _, name, width, right, *_ in (line.split("|") for line in lines)}
    assert {name: int(width) for name, (width, _) in rows.items()} == {
        "vit": 384, "efficientnet": 1280, "reader": 480, "reader, columns apart": 1920, "vit and reader": 864,
    }  # fmt: skip
    right = {name: float(share.split("%")[0]) for name, (_, share) in rows.items()}
    assert right["reader"] > 30 + max(right["vit"], right["efficientnet"])
