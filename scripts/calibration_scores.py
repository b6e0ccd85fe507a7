"""Scores of method variants on the calibration questions, so that defaults are never chosen on a benchmark.

    python scripts/calibration_scores.py 0.76 meteor meteor:middle=deep "meteor:layer=1;rows=last" fastv none

Each variant is a method with hyperparameters. Prints the share of questions answered right (the answer's last word),
the mean of visual tokens kept, and the difference to the first variant question by question.
"""

import argparse
import json
from collections.abc import Callable, Sequence

import yaml
from PIL import Image

from meteor_bench.core.request import Request
from meteor_bench.data.calibration import CalibrationItem, calibration_items
from meteor_bench.engine.factory import build
from meteor_bench.engine.session import Session


def requests(blank: bool = False) -> tuple[list[Request], dict[str, str]]:
    """The calibration questions and their answers; ``blank`` shows plain grey in place of each picture."""
    items = list(calibration_items())

    def media(item: CalibrationItem) -> Callable[[], Sequence[Image.Image]]:
        if not blank:
            return item.media
        return lambda: [Image.new("RGB", picture.size, (128, 128, 128)) for picture in item.media()]

    asked = [Request(i.key, i.media_key, media(i), i.question, 24) for i in items]
    return asked, {i.key: i.answer for i in items}


def variant(text: str, ratio: float, asked: list[Request]) -> Session:
    """A session for "method:name=value;..."; values are YAML. `model` and `positions` are those of the run."""
    method, _, rest = text.partition(":")
    parameters = {k: yaml.safe_load(v) for k, _, v in (part.partition("=") for part in rest.split(";") if part)}
    positions = parameters.pop("positions", None)
    return build(
        parameters.pop("model", "pocket"),
        method,
        ratio=0.0 if method == "none" else ratio,
        parameters=parameters,
        positions=positions,
        calibration=lambda: asked,
    )


def main() -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ratio", type=float)
    parser.add_argument("variants", nargs="+")
    parser.add_argument("--blank", action="store_true", help="what can be answered without seeing anything")
    arguments = parser.parse_args()
    asked, truth = requests(arguments.blank)
    first: dict[str, bool] = {}
    for text in arguments.variants:
        right: dict[str, bool] = {}
        kept: list[int] = []
        session = variant(text, arguments.ratio, asked)

        def note(request: Request, answer: object, right: dict = right, kept: list = kept) -> None:
            said = answer.text.split()[-1:]
            right[request.key] = said == truth[request.key].split()[-1:]
            kept.append(answer.tokens["final"])

        session.answer(asked, note)
        first = first or right
        lost = sum(first[k] and not right[k] for k in right)
        won = sum(right[k] and not first[k] for k in right)
        share, tokens = 100 * sum(right.values()) / len(right), sum(kept) / len(kept)
        print(f"{share:6.2f}  tokens {tokens:6.1f} ({min(kept)}-{max(kept)})  +{won} -{lost}  {text}", flush=True)
        facts = session.provenance["facts"]
        if facts:
            print(f"        {json.dumps(facts)[:300]}", flush=True)


if __name__ == "__main__":
    main()
