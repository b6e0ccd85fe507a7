"""What each encoder of pocket-independent is worth, beside how many of its tokens METEOR keeps.

    python scripts/encoder_masks.py --limit 120 --ratios 0.5,0.76

Answers the calibration questions (never evaluated) with one encoder's tokens removed before the language model, or all
others', and prints the share answered right (± half its 95 % interval, clustered by picture) with the conditional
utilisation of arXiv 2507.03262: the part of what is right that goes without it. Beside it each encoder's share of the
tokens that METEOR leaves after its second and its last stage.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import ClassVar

import torch
from calibration_scores import requests

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.model import VLM
from meteor_bench.core.pruner import Decision, Fact, FusePoint, FuseView, Points, Pruner
from meteor_bench.core.request import Answer, Request
from meteor_bench.core.tokens import Tokens
from meteor_bench.engine.factory import build
from meteor_bench.engine.session import Session
from meteor_bench.report.statistics import Design

MODEL = "pocket-independent"


@dataclass(frozen=True)
class Without(Pruner):
    """All tokens of some encoders are removed before the language model, all others stay.

    Attributes:
        towers: whose.
    """

    towers: tuple[str, ...] = ()

    fact: ClassVar[Fact] = Fact(year=2025, paper="arXiv 2507.03262", stages=("fuse",))

    @property
    def exact(self) -> bool:
        """There is no budget."""
        return False

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Behind the projectors."""
        return Points(fuse=FusePoint())

    def fuse(self, views: Mapping[str, FuseView]) -> Mapping[str, Decision]:
        """Nothing of those named."""
        return {
            name: Decision(keep=torch.zeros_like(view.tokens.visual), count=torch.zeros(len(view.tokens.x)).long())
            for name, view in views.items()
            if name in self.towers
        }


@dataclass(frozen=True)
class Share:
    """Of the questions, those answered right; with half of its 95 % interval, clustered by picture.

    Attributes:
        half: NaN where all questions show one picture.
    """

    value: float
    half: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} ± {100 * self.half:.1f}"


def right(session: Session, asked: Sequence[Request], truth: Mapping[str, str]) -> Share:
    """Share of the questions whose answer's last word is right."""
    found: dict[str, bool] = {}

    def note(request: Request, answer: Answer) -> None:
        found[request.key] = answer.text.split()[-1:] == truth[request.key].split()[-1:]

    session.answer(asked, note, batch_size=16)
    return share([found[request.key] for request in asked], [request.media_key for request in asked])


def share(found: Sequence[bool], pictures: Sequence[str]) -> Share:
    """That of the true ones."""
    design = Design([pictures])
    half = design.half_width(design.deviations(found), [1.0], span=1.0)
    return Share(float(design.means(found)[0]), float(half))


def shares(session: Session, asked: Sequence[Request]) -> list[list[float]]:
    """[stage, encoder] each encoder's share of what METEOR leaves after stage 2 and at the end."""
    towers = session.vlm.towers
    height, width = session.vlm.native
    edges = [0, *accumulate(tower.grid(height, width).n for tower in towers.values())]  # a clip has as many
    totals = torch.zeros(2, len(towers))

    def record(kind: str, point: int, tower: str, tokens: Tokens) -> None:
        stage = {"fuse": 0, "decode": 1}.get(kind)
        if stage is None:
            return
        origin = tokens.origin[tokens.visual]
        totals[stage] += torch.tensor([float(((origin >= a) & (origin < b)).sum()) for a, b in pairwise(edges)])

    with session.engine.instrumented(recorder=record):
        session.answer(asked, lambda request, answer: None, batch_size=16)
    share: list[list[float]] = (totals / totals.sum(1, keepdim=True)).tolist()
    return share


def main() -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=120, help="questions, spread over the calibration set")
    parser.add_argument("--ratios", default="0.5,0.76", help="of METEOR")
    arguments = parser.parse_args()
    every, truth = requests()
    asked = every[:: max(1, len(every) // arguments.limit)][: arguments.limit]
    vlm = build(MODEL, "none").vlm
    names = list(vlm.towers)

    def without(*towers: str) -> Share:
        return right(Session(vlm, Without(towers), TokenBudget(1.0)), asked, truth)

    whole = without()
    ratios = [float(ratio) for ratio in arguments.ratios.split(",")]
    kept = {ratio: shares(build(MODEL, "meteor", ratio=ratio, calibration=lambda: every), asked) for ratio in ratios}
    print(f"{len(asked)} calibration questions, {MODEL}: {whole} % right with all encoders\n")
    heads = [f"kept at {ratio:g}, stage 2 / 3" for ratio in ratios]
    print("| encoder | % right without it | alone | utilisation | of all tokens |", " | ".join(heads), "|")
    print("| --- | ---: | ---: | ---: | ---: |", " | ".join("---:" for _ in heads), "|")
    sizes = {name: tower.grid(*vlm.native).n for name, tower in vlm.towers.items()}
    for at, name in enumerate(names):
        gone, alone = without(name), without(*(other for other in names if other != name))
        cells = [f"{kept[ratio][0][at]:.0%} / {kept[ratio][1][at]:.0%}" for ratio in ratios]
        use, part = (whole.value - gone.value) / whole.value, sizes[name] / sum(sizes.values())
        print(f"| {name} | {gone} | {alone} | {use:.2f} | {part:.0%} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
