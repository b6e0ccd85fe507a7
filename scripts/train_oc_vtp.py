"""Train the pruner of `oc-vtp` on a model's encoders, and put it beside the model's weights.

python scripts/train_oc_vtp.py                                # the shipped `pocket`, on its world's training split
python scripts/train_oc_vtp.py --model pocket-independent
python scripts/train_oc_vtp.py --model path/to/llava --images path/to/pictures --device cuda
python scripts/train_oc_vtp.py --smoke --folder some/where --out some/where/else

The encoders stay as they are. A run that was interrupted goes on from its last checkpoint and ends where it would have
ended; the same seed gives the same weights on the same machine.
"""

import argparse
import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import torch
from safetensors.torch import save_file
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from meteor_bench.core.errors import MeteorBenchError  # noqa: E402
from meteor_bench.core.model import VLM  # noqa: E402
from meteor_bench.core.tokens import Grid  # noqa: E402
from meteor_bench.engine.factory import build  # noqa: E402
from meteor_bench.methods.oc_vtp import FOLDER  # noqa: E402
from meteor_bench.methods.shared.slots import feature_block  # noqa: E402
from meteor_bench.utils.progress import say, track  # noqa: E402
from scripts.oc_vtp.card import write_card  # noqa: E402
from scripts.oc_vtp.pictures import Draw, features, folder_pictures, pocket_pictures  # noqa: E402
from scripts.oc_vtp.reconstruct import Reconstructor, area_weighted_error  # noqa: E402
from scripts.pocket.loop import save_whole  # noqa: E402

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)  # of the tokens, as many slots; drawn anew in each step


@dataclass(frozen=True)
class Recipe:
    """A batch is 12 images and the learning rate 1e-3 with warm-up and cosine, as published."""

    steps: int = 2000
    batch: int = 12
    rate: float = 1e-3
    warm_up: int = 60
    seed: int = 0
    save_every: int = 100


SMOKE = Recipe(steps=12, batch=2, warm_up=2, save_every=5)


class Training:
    """Models, optimiser and the step reached; all of it survives a restart."""

    def __init__(self, vlm: VLM, recipe: Recipe, checkpoint: Path) -> None:
        torch.manual_seed(recipe.seed)
        self.vlm, self.recipe, self.checkpoint = vlm, recipe, checkpoint
        self.after = {name: feature_block(tower.depth) for name, tower in vlm.towers.items()}
        grids = {name: Grid(1, *tower.grid(*vlm.native)[1:]) for name, tower in vlm.towers.items()}
        self.models = nn.ModuleDict({name: Reconstructor(t.inside, grids[name]) for name, t in vlm.towers.items()})
        self.models.to(vlm.device)
        self.optimiser = torch.optim.AdamW(self.models.parameters(), lr=recipe.rate)
        self.step, self.seconds = 0, 0.0
        if checkpoint.exists():
            saved = torch.load(checkpoint, weights_only=True)
            if saved["recipe"] != asdict(recipe) or saved["model"] != vlm.digest:
                raise SystemExit(f"{checkpoint} is of another recipe or model; move it away or give another --folder")
            self.models.load_state_dict(saved["models"])
            self.optimiser.load_state_dict(saved["optimiser"])
            self.step, self.seconds = saved["step"], saved["seconds"]

    def save(self) -> None:
        state = {"models": self.models.state_dict(), "optimiser": self.optimiser.state_dict(), "step": self.step}
        about = {"recipe": asdict(self.recipe), "model": self.vlm.digest, "seconds": self.seconds}
        save_whole({**state, **about}, self.checkpoint)

    def run(self, draw: Draw) -> None:
        recipe, sums = self.recipe, dict.fromkeys(self.models, 0.0)
        with track(f"oc-vtp on {self.vlm.name}", recipe.steps) as update:
            while self.step < recipe.steps:
                started = perf_counter()
                for name, loss in self.learn(draw).items():
                    sums[name] += loss / recipe.save_every
                self.step += 1
                self.seconds += perf_counter() - started
                update(self.step)
                if self.step % recipe.save_every == 0 or self.step == recipe.steps:
                    self.save()
                    shown = ", ".join(f"{name} {value:.4f}" for name, value in sums.items())
                    say(f"step {self.step} of {recipe.steps}, {self.seconds:.0f} s: error {shown}")
                    sums = dict.fromkeys(self.models, 0.0)

    def learn(self, draw: Draw) -> dict[str, float]:
        """One step of all encoders' pruners; tower -> its loss."""
        recipe = self.recipe
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.rate * self.factor
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + self.step)
        share = SHARES[int(torch.randint(len(SHARES), (1,), generator=generator))]
        losses = {}
        self.models.train()
        self.optimiser.zero_grad()
        for name, (x, grid) in features(self.vlm, draw(self.step, recipe.batch), self.after).items():
            slots = max(2, round(share * grid.n))
            found, attention = self.models[name](x, grid, slots, generator)
            loss = area_weighted_error(found, x, attention)
            loss.backward()
            nn.utils.clip_grad_norm_(self.models[name].parameters(), 1.0)
            losses[name] = loss.item()
        self.optimiser.step()
        return losses

    @property
    def factor(self) -> float:
        done = (self.step + 1 - self.recipe.warm_up) / max(self.recipe.steps - self.recipe.warm_up, 1)
        return (self.step + 1) / self.recipe.warm_up if done < 0 else 0.5 * (1 + math.cos(math.pi * done))


def export(training: Training, target: Path) -> None:
    """The pruners alone, in half precision, and what they were made for."""
    target.mkdir(parents=True, exist_ok=True)
    state = {
        f"{name}.{key}": value.half().cpu().contiguous()
        for name, model in training.models.items()
        for key, value in model.pruner.state_dict().items()
    }
    part = target / ".model.safetensors.part"
    save_file(state, part, metadata={"format": "pt"})
    part.chmod(0o644)  # safetensors leaves it readable by its owner alone
    part.replace(target / "model.safetensors")
    vlm = training.vlm
    config = {
        "model_type": "oc-vtp",
        "model": vlm.name,
        "checkpoint": vlm.digest,
        "towers": {n: {"dim": t.inside, "after": training.after[n]} for n, t in vlm.towers.items()},
        "recipe": asdict(training.recipe),
    }
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket", help="row of `list models`, a checkpoint's folder or a hub id")
    parser.add_argument("--images", type=Path, help="folder of pictures; the pocket world's training split if left out")
    parser.add_argument("--folder", type=Path, default=ROOT / ".train", help="for checkpoints of the training")
    parser.add_argument("--out", type=Path, help="where the pruner goes; oc-vtp beside the model's weights if left out")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="the whole path in seconds; learns nothing")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    base = SMOKE if args.smoke else Recipe()
    recipe = Recipe(**{**asdict(base), "seed": args.seed, "steps": args.steps or base.steps})
    try:
        vlm = build(args.model, "none", device=args.device).vlm
    except MeteorBenchError as error:
        raise SystemExit(str(error)) from error
    assert vlm.folder is not None
    draw = folder_pictures(args.images, args.seed) if args.images else pocket_pictures(args.seed)
    training = Training(vlm, recipe, args.folder / f"oc-vtp-{vlm.name}.pt")
    training.run(draw)
    target = args.out or vlm.folder / FOLDER
    export(training, target)
    if args.images is None:
        write_card(target, vlm, training.seconds, pictures=8 if args.smoke else 64)
    say(f"written to {target}")


if __name__ == "__main__":
    main()
