"""Prune and train `pocket` as CoMP (arXiv 2604.02956) does; what comes out ships as `pocket-comp`.

python scripts/train_comp.py search     # stage after stage, until half of the FLOPs are gone
python scripts/train_comp.py tune       # the configuration is fixed, the narrowed model is trained on and written
python scripts/train_comp.py ablate     # what each part of the method is worth, without any training
python scripts/train_comp.py all --smoke --folder some/where --weights some/where/else
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from meteor_bench.models.pocket.model import WEIGHTS, load  # noqa: E402
from meteor_bench.models.pocket.tokenizer import PocketTokenizer  # noqa: E402
from meteor_bench.utils.atomic_io import write_whole  # noqa: E402
from scripts.comp.masked import Masked  # noqa: E402
from scripts.comp.search import Search, State, Task, start  # noqa: E402
from scripts.comp.sites import MODES, Bill, sites  # noqa: E402
from scripts.comp.strategy import Strategy  # noqa: E402
from scripts.comp.tuning import PREFIXES, Trainer, export, fresh, narrowed, task_on, tune_on  # noqa: E402
from scripts.pocket.batches import Curriculum  # noqa: E402
from scripts.pocket.loop import log, save_whole  # noqa: E402
from scripts.pocket.low_rank import LowRank  # noqa: E402
from scripts.pocket.scores import score_samples  # noqa: E402
from scripts.pocket.world import split_rng  # noqa: E402

SOURCE = WEIGHTS / "pocket"
ABLATIONS: dict[str, dict[str, bool]] = {
    "simple joint pruning": {"cip": False, "cit": False, "fixed": True},
    "+ CIM (CIP and CIT)": {"cip": True, "cit": True, "fixed": True},
    "+ CIM + CAS": {"cip": True, "cit": True, "explore": False, "history": False},
    "+ CIM + CAS + RE": {"cip": True, "cit": True, "history": False},
    "+ CIM + CAS + RE + HI": {"cip": True, "cit": True},
    "+ CIP": {"cip": True, "cit": False, "fixed": True},
    "+ CIT": {"cip": False, "cit": True, "fixed": True},
}


@dataclass(frozen=True)
class Recipe:
    """Minutes are wall time of one thread.

    Attributes:
        before: layer of the language model that tokens are dropped before.
        target, share: of the FLOPs: to remove in all, and in a stage.
        steps: of training in each stage.
        minutes: of training afterwards.
        per_kind: calibration pictures of each kind (of scenes twice as many) that accuracy is of.
        ablate_target: of the ablations.
    """

    before: int = 2
    target: float = 0.5
    share: float = 0.06
    steps: int = 4
    minutes: float = 20
    batch: int = 8
    questions: int = 6
    rank: int = 8
    rate: float = 2e-3
    pictures: int = 16
    per_kind: int = 6
    ablate_target: float = 0.4
    ablate_per_kind: int = 6


SMOKE = Recipe(
    target=0.03, share=0.015, steps=1, minutes=0.02, batch=2, questions=2, rank=2, pictures=2, per_kind=1,
    ablate_target=0.02, ablate_per_kind=1,
)  # fmt: skip


def task(model_folder: Path, before: int, per_kind: int, seed: int) -> Task:
    """The shipped model under masks, and the questions that costs are measured on."""
    model = fresh(model_folder)
    fixed = score_samples(seed=31 + seed, per_kind=per_kind, split="calib")
    tokenizer = PocketTokenizer(model_folder / "tokenizer.json")
    return Task(model, Masked(model.vlm, sites(model.vlm)), tokenizer, before, fixed)


def bill(before: int) -> Bill:
    vlm = load("pocket", "cpu", torch.float32)
    return Bill(vlm, sites(fresh(SOURCE).vlm), before)


def search(folder: Path, recipe: Recipe, seed: int) -> None:
    """The outer loop; the checkpoint in `folder` is resumed at the last stage."""
    torch.manual_seed(seed)
    path, begun = folder / "comp-search.pt", time.monotonic()
    work = task(SOURCE, recipe.before, recipe.per_kind, seed)
    addition = LowRank(work.model, PREFIXES, recipe.rank, recipe.rate)
    strategy, curriculum, costs = Strategy(MODES, seed), Curriculum(), bill(recipe.before)
    loop = Search(work, costs, strategy, start(costs.places), recipe.share, recipe.target)
    spent = 0.0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        addition.resume(saved, curriculum)
        strategy.costs, strategy.last, strategy.stage = saved["costs"], saved["last"], saved["stage"]
        loop.state, loop.accuracy = State(saved["keep"], saved["tokens"]), saved["accuracy"]
        loop.history, spent = saved["history"], saved["minutes"]
        work.masked.set(loop.state.keep)
    rng = split_rng("train", seed * 1_000_003 + strategy.stage + 8_000_000)
    trainer = Trainer(
        work, addition, recipe.batch, recipe.questions, rng, curriculum, steps=recipe.steps * strategy.stage
    )
    loop.tune, loop.steps, loop.pictures = (
        lambda tokens: print_loss(trainer.step(tokens)[0]),
        recipe.steps,
        recipe.pictures,
    )

    def note() -> None:
        kept = {"keep": loop.state.keep, "tokens": loop.state.tokens, "accuracy": loop.accuracy}
        clock = {"minutes": spent + (time.monotonic() - begun) / 60, "history": loop.history}
        save_whole({**kept, **clock, **strategy.state(), **addition.saved(curriculum)}, path)

    loop.run(note)
    log.info("comp search ended at %.3f removed", loop.removed)


def print_loss(loss: float) -> None:
    log.info("comp step loss %.3f", loss)


def tune(folder: Path, weights: Path, recipe: Recipe, seed: int) -> None:
    """Train the narrowed model on, and write it."""
    torch.manual_seed(seed)
    saved = torch.load(folder / "comp-search.pt", weights_only=True)
    wide = fresh(SOURCE)
    addition = LowRank(wide, PREFIXES, recipe.rank, recipe.rate)
    addition.load(saved["addition"])
    model, slim = narrowed(SOURCE, saved["keep"], addition, (recipe.rank, recipe.rate))
    fixed = score_samples(seed=31 + seed, per_kind=recipe.per_kind, split="calib")
    work = task_on(model, PocketTokenizer(SOURCE / "tokenizer.json"), recipe.before, fixed)
    rng = split_rng("train", seed * 1_000_003 + 8_500_000)
    curriculum = Curriculum()
    curriculum.load(saved["curriculum"])
    start_accuracy = work.accuracy(saved["tokens"])
    log.info("comp narrowed: accuracy %.3f with %s tokens", start_accuracy, saved["tokens"])
    trainer = Trainer(work, slim, recipe.batch, recipe.questions, rng, curriculum)
    progress = tune_on(trainer, folder, saved["tokens"], recipe.minutes)
    costs = bill(recipe.before)
    facts = {
        "before": recipe.before,
        "tokens": saved["tokens"],
        "removed": round(costs.removed(saved["keep"], saved["tokens"]), 4),
        "removed_by_parameters": round(costs.removed(saved["keep"], 256), 4),
        "accuracy": {"narrowed": round(start_accuracy, 4), "tuned": round(work.accuracy(saved["tokens"]), 4)},
        "minutes": {"search": round(saved["minutes"], 1), "tune": round(progress.elapsed, 1)},
        "steps": {"search": recipe.steps * saved["stage"], "tune": progress.step},
        "recipe": vars(recipe),
        "stages": saved["history"],
    }
    log.info("comp tuned: %s", facts["accuracy"])
    export(slim, saved["keep"], SOURCE, weights / "pocket-comp", facts)


def ablate(folder: Path, recipe: Recipe, seed: int, only: str | None) -> None:
    """Each part of the method on the same questions, pruned without training; a table, and ablate.json."""
    rows: dict[str, dict[str, object]] = {}
    path = folder / "comp-ablate.json"
    if path.exists():
        rows = json.loads(path.read_text())
    costs = bill(recipe.before)
    for name, options in ABLATIONS.items():
        if name in rows or (only and name != only):
            continue
        given = dict(options)
        cip, cit = given.pop("cip"), given.pop("cit")
        work = replace(task(SOURCE, recipe.before, recipe.ablate_per_kind, seed), cit=cit)
        work.model.requires_grad_(False)
        strategy = Strategy(MODES, seed, **given)
        loop = Search(work, costs, strategy, start(costs.places), recipe.share, recipe.ablate_target, cip=cip)
        loop.pictures = recipe.pictures
        loop.run()
        modes = {mode: sum(line["mode"] == mode for line in loop.history) for mode in MODES}
        rows[name] = {"accuracy": loop.accuracy, "removed": loop.removed, "tokens": loop.state.tokens, "stages": modes}
        write_whole(path, json.dumps(rows, indent=1).encode())
    print("| | accuracy | FLOPs removed | tokens left | stages of " + ", ".join(MODES) + " |")
    print("| --- | ---: | ---: | ---: | --- |")
    for name, row in rows.items():
        stages = row["stages"]
        assert isinstance(stages, dict)
        counts = ", ".join(str(stages[mode]) for mode in MODES)
        print(f"| {name} | {100 * row['accuracy']:.1f} | {row['removed']:.3f} | {row['tokens']} | {counts} |")  # type: ignore[operator]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", choices=("search", "tune", "ablate", "all"))
    parser.add_argument("--folder", type=Path, default=ROOT / ".train", help="checkpoints of the phases")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="where pocket-comp is written")
    parser.add_argument("--minutes", type=float, help="of training after the search, in place of the recipe's")
    parser.add_argument("--only", choices=tuple(ABLATIONS), help="one row of the ablations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="the whole path in about a minute; learns nothing")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    recipe = SMOKE if args.smoke else Recipe()
    recipe = recipe if args.minutes is None else replace(recipe, minutes=args.minutes)
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.phase in ("search", "all"):
        search(args.folder, recipe, args.seed)
    if args.phase in ("tune", "all"):
        tune(args.folder, args.weights, recipe, args.seed)
    if args.phase in ("ablate", "all"):
        ablate(args.folder, recipe, args.seed, args.only)


if __name__ == "__main__":
    main()
