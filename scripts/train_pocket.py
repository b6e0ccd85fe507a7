"""Train the pocket models. Every phase resumes from its own checkpoint; `all` runs the whole recipe in order.

python scripts/train_pocket.py all
python scripts/train_pocket.py symbolic     # phases "symbolic" and "encoders" may run side by side,
python scripts/train_pocket.py encoders     # one core each; so may the two joint ones
python scripts/train_pocket.py joint --fusion shared
python scripts/train_pocket.py export --fusion shared
python scripts/train_pocket.py through      # pocket-through, from the shipped pocket-independent
python scripts/train_pocket.py all --smoke --folder some/where --weights some/where/else
"""

import argparse
import logging
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from meteor_bench.models.pocket.tokenizer import PocketTokenizer  # noqa: E402
from scripts.pocket.card import write_card  # noqa: E402
from scripts.pocket.export import export  # noqa: E402
from scripts.pocket.low_rank import export_addition  # noqa: E402
from scripts.pocket.phase_clips import CHANGES, ClipsRecipe, train_clips  # noqa: E402
from scripts.pocket.phase_encoders import train_encoders  # noqa: E402
from scripts.pocket.phase_joint import JointRecipe, train_joint  # noqa: E402
from scripts.pocket.phase_symbolic import train_symbolic  # noqa: E402
from scripts.pocket.phase_through import ThroughRecipe, train_through  # noqa: E402
from scripts.pocket.words import write_tokenizer  # noqa: E402

FUSIONS = ("shared", "independent")


@dataclass(frozen=True)
class Recipe:
    """Minutes are wall time of one thread on a recent CPU with bf16 matrix units."""

    symbolic_minutes: float = 47
    symbolic_batch: int = 16
    encoder_minutes: float = 48
    encoder_images: int = 14
    encoder_clips: int = 2
    questions: int = 10
    joint: JointRecipe = field(default_factory=JointRecipe)
    through: ThroughRecipe = field(default_factory=ThroughRecipe)
    clips: ClipsRecipe = field(default_factory=ClipsRecipe)
    card_per_kind: int = 40


SMOKE = Recipe(
    symbolic_minutes=0.1,
    symbolic_batch=4,
    encoder_minutes=0.1,
    encoder_images=2,
    encoder_clips=1,
    questions=3,
    joint=JointRecipe(minutes=0.12, batch=4, questions=3, align_minutes=0.04, eval_every=9, per_kind=2),
    through=ThroughRecipe(minutes=0.05, batch=4, questions=3, per_kind=1),
    clips=ClipsRecipe(minutes=0.05, tokens=256, questions=3, eval_clips=1),
    card_per_kind=4,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", choices=("symbolic", "encoders", "joint", "export", "through", "clips", "all"))
    parser.add_argument("--folder", type=Path, default=ROOT / ".train", help="checkpoints of the phases")
    parser.add_argument("--weights", type=Path, default=ROOT / "meteor_bench" / "models" / "weights")
    parser.add_argument("--fusion", choices=FUSIONS, help="for joint and export; both if left out")
    parser.add_argument("--minutes", type=float, help="of the phase, in place of the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="the whole path in about a minute; learns nothing")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(args.threads)
    torch.set_default_device(args.device)
    recipe = SMOKE if args.smoke else Recipe()
    if args.minutes:
        later = {name: replace(getattr(recipe, name), minutes=args.minutes) for name in ("joint", "through", "clips")}
        recipe = replace(recipe, symbolic_minutes=args.minutes, encoder_minutes=args.minutes, **later)
    args.folder.mkdir(parents=True, exist_ok=True)
    tokenizer_file = args.folder / "tokenizer.json"
    if not tokenizer_file.exists():
        write_tokenizer(tokenizer_file)
    tokenizer = PocketTokenizer(tokenizer_file)

    if args.phase in ("symbolic", "all"):
        minutes, batch = recipe.symbolic_minutes, recipe.symbolic_batch
        train_symbolic(args.folder, tokenizer, minutes, args.seed, batch, recipe.questions)
    if args.phase in ("encoders", "all"):
        train_encoders(args.folder, recipe.encoder_minutes, args.seed, recipe.encoder_images, recipe.encoder_clips)
    for fusion in (args.fusion,) if args.fusion else FUSIONS:
        if args.phase in ("joint", "all"):
            train_joint(args.folder, tokenizer, fusion, args.seed, recipe.joint)
        if args.phase in ("export", "all"):
            target = export(args.folder, fusion, args.weights)
            write_card(args.folder, fusion, target, recipe.card_per_kind)
    if args.phase in ("through", "all"):
        source = args.weights / "pocket-independent"
        addition = train_through(args.folder, source, args.seed, recipe.through)
        export_addition(addition, source, args.weights / "pocket-through")
    if args.phase in ("clips", "all"):
        source = args.weights / "pocket"
        addition = train_clips(args.folder, source, args.seed, recipe.clips)
        export_addition(addition, source, args.weights / "pocket-clips", **CHANGES)


if __name__ == "__main__":
    main()
