"""Train the pocket models: symbolic decoder, encoders, then both checkpoints. Resumes from its own checkpoints.

    python scripts/train_pocket.py symbolic --minutes 45
    python scripts/train_pocket.py encoders --minutes 45
    python scripts/train_pocket.py joint --fusion shared --minutes 45
"""

import argparse
import logging
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from meteor_bench.models.pocket_tokenizer import PocketTokenizer  # noqa: E402
from scripts.pocket.phase_encoders import train_encoders  # noqa: E402
from scripts.pocket.phase_joint import train_joint  # noqa: E402
from scripts.pocket.phase_symbolic import train_symbolic  # noqa: E402
from scripts.pocket.words import write_tokenizer  # noqa: E402

WEIGHTS = ROOT / "meteor_bench" / "models" / "weights"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", choices=("symbolic", "encoders", "joint"))
    parser.add_argument("--folder", type=Path, default=ROOT / ".train", help="checkpoints of the phases")
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--clips", type=int, default=4, help="clips beside a batch of images")
    parser.add_argument("--fusion", choices=("shared", "independent"), default="shared")
    parser.add_argument("--align-minutes", type=float, default=3)
    parser.add_argument("--eval-every", type=float, default=8)
    parser.add_argument("--per-kind", type=int, default=50, help="pictures of each kind in an evaluation")
    parser.add_argument("--questions", type=int, default=10, help="packed per picture")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    tokenizer_file = args.folder / "tokenizer.json"
    if not tokenizer_file.exists():
        write_tokenizer(tokenizer_file)
    tokenizer = PocketTokenizer(tokenizer_file)
    if args.phase == "encoders":
        train_encoders(args.folder, args.minutes, args.seed, args.batch, args.clips)
    elif args.phase == "joint":
        train_joint(
            args.folder, tokenizer, args.fusion, args.minutes, args.seed, args.batch, args.questions,
            args.align_minutes, args.eval_every, args.per_kind,
        )  # fmt: skip
    else:
        train_symbolic(args.folder, tokenizer, args.minutes, args.seed, args.batch, args.questions)


if __name__ == "__main__":
    main()
