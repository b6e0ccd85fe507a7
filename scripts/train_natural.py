"""Train the natural model on what its frozen encoders see. Every phase resumes where it was; `make natural` first.

python scripts/train_natural.py cache       # encode the training pictures; the other phases may run beside it
python scripts/train_natural.py symbolic    # the pocket model's Llama learns the new words on labels
python scripts/train_natural.py joint       # fusion and Llama on the cached features
python scripts/train_natural.py export      # safetensors, and the card with its scores
python scripts/train_natural.py joint --fusion independent    # of natural-independent; its other phase is export
python scripts/train_natural.py whole --minutes 30 --weights some/where    # a control: goes on without dropping
python scripts/train_natural.py all --smoke --folder some/where --weights some/where/else
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from meteor_bench.core.errors import MeteorBenchError  # noqa: E402
from meteor_bench.models.pocket.model import WEIGHTS  # noqa: E402
from meteor_bench.models.pocket.tokenizer import PocketTokenizer  # noqa: E402
from scripts.natural.cache import Cache  # noqa: E402
from scripts.natural.export import FOLDERS, config_of, export, write_card  # noqa: E402
from scripts.natural.phases import train_joint, train_symbolic  # noqa: E402
from scripts.natural.seeing import WholeModel, model_of  # noqa: E402
from scripts.natural.words import vocabulary  # noqa: E402
from scripts.pocket.words import write_tokenizer  # noqa: E402

PHASES = ("cache", "symbolic", "joint", "export")


@dataclass(frozen=True)
class Recipe:
    """Minutes are wall time of one thread of a CPU with bf16 matrix units; a part is 200 pictures."""

    parts: int = 40
    checked: int = 3
    symbolic_minutes: float = 14
    joint_minutes: float = 52
    independent_minutes: float = 42
    batch: int = 16
    questions: int = 10


SMOKE = Recipe(
    parts=1, checked=1, symbolic_minutes=0.1, joint_minutes=0.1, independent_minutes=0.1, batch=3, questions=3
)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", choices=(*PHASES, "all", WholeModel.phase))
    parser.add_argument("--folder", type=Path, default=ROOT / ".natural" / "train", help="features and checkpoints")
    parser.add_argument("--fusion", choices=tuple(FOLDERS), default="shared", help="of natural or natural-independent")
    parser.add_argument("--weights", type=Path, help="folder of what is exported, in place of the shipped model's")
    parser.add_argument("--minutes", type=float, help="of the phase, in place of the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="the whole path in a few minutes; learns nothing")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(args.threads)
    recipe = SMOKE if args.smoke else Recipe()
    if args.phase == WholeModel.phase and args.weights is None:
        parser.error("whole is no model that ships: name a folder for it with --weights")
    args.weights = args.weights or WEIGHTS / FOLDERS[args.fusion]
    try:
        run(PHASES if args.phase == "all" else (args.phase,), args, recipe)
    except MeteorBenchError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


def run(phases: tuple[str, ...], args: argparse.Namespace, recipe: Recipe) -> None:
    """Phases in their order."""
    args.folder.mkdir(parents=True, exist_ok=True)
    file = args.folder / "tokenizer.json"
    if not file.exists():
        write_tokenizer(file, vocabulary())
    tokenizer = PocketTokenizer(file)
    config = config_of(args.fusion, len(tokenizer))
    train, calibration = (Cache(args.folder, split) for split in ("train", "calibration"))
    if "cache" in phases:
        calibration.fill(recipe.checked, size=100)
        train.fill(recipe.parts)
    if "symbolic" in phases and not config.base:
        minutes = args.minutes or recipe.symbolic_minutes
        train_symbolic(args.folder, tokenizer, config, minutes, args.seed, recipe.batch, recipe.questions)
    whole = WholeModel.phase in phases
    model = WholeModel(config, tokenizer) if whole else model_of(config, tokenizer)
    if "joint" in phases or whole:
        minutes = args.minutes or (recipe.independent_minutes if config.base else recipe.joint_minutes)
        caches = (train, calibration)
        train_joint(args.folder, tokenizer, model, caches, minutes, args.seed, recipe.batch, recipe.questions)
    if "export" in phases or whole:
        export(args.folder, model, args.weights)
    if "export" in phases:
        write_card(args.folder, args.weights, config, calibration, train.refresh())


if __name__ == "__main__":
    main()
