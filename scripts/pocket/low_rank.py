"""A low-rank addition to a model: what of it is trained, its checkpoints, and the files that ship beside the model."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from meteor_bench.models.pocket.modules import PocketConfig
from scripts.pocket.batches import Curriculum

__all__ = ["LowRank", "export_addition"]


class LowRank:
    """Additions B A to chosen matrices of a model; small tensors and tables are added to whole.

    Args:
        tables: whether tables of positions are trained, too.
    """

    def __init__(
        self, model: nn.Module, prefixes: tuple[str, ...], rank: int, rate: float, *, tables: bool = False
    ) -> None:
        self.params, self.base, self.parts = {}, {}, {}
        for name, p in model.named_parameters():
            p.requires_grad_(name.startswith(prefixes) and (tables or "positions" not in name))
            if not p.requires_grad:
                continue
            self.params[name], self.base[name] = p, p.detach().float().clone()
            if p.ndim == 2 and "embed" not in name and "positions" not in name:
                a = torch.randn(rank, p.shape[1]) / p.shape[1] ** 0.5
                self.parts[name] = (nn.Parameter(torch.zeros(p.shape[0], rank)), nn.Parameter(a))
            else:
                self.parts[name] = (nn.Parameter(torch.zeros(p.shape)),)
        matrices = [t for part in self.parts.values() if len(part) == 2 for t in part]
        others = [t for part in self.parts.values() if len(part) == 1 for t in part]
        groups = [{"params": matrices, "lr": rate, "rate": rate}, {"params": others, "lr": rate / 4, "rate": rate / 4}]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0, foreach=True)

    def step(self, factor: float) -> float:
        """One update; returns the norm of the gradient before clipping to 1."""
        for name, part in self.parts.items():
            grad = self.params[name].grad
            grad = torch.zeros(self.params[name].shape) if grad is None else grad.float()
            if len(part) == 2:
                part[0].grad, part[1].grad = grad @ part[1].detach().T, part[0].detach().T @ grad
            else:
                part[0].grad = grad
            self.params[name].grad = None
        every = [t for part in self.parts.values() for t in part]
        norm = float(torch.nn.utils.clip_grad_norm_(every, 1.0))
        if math.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = group["rate"] * factor
            self.optimizer.step()
            self.apply()
        return norm

    @torch.no_grad()
    def apply(self) -> None:
        for name, part in self.parts.items():
            self.params[name].copy_(self.base[name] + (part[0] @ part[1] if len(part) == 2 else part[0]))

    def state(self) -> dict[str, Tensor]:
        """As it ships: NAME.b [out, rank] and NAME.a [rank, in], or NAME.whole."""
        found = {}
        for name, part in self.parts.items():
            for leaf, tensor in zip(("b", "a") if len(part) == 2 else ("whole",), part, strict=True):
                found[f"{name}.{leaf}"] = tensor.detach()
        return found

    def load(self, state: Mapping[str, Tensor]) -> None:
        """What `state` gave."""
        with torch.no_grad():
            for name, part in self.parts.items():
                for leaf, tensor in zip(("b", "a") if len(part) == 2 else ("whole",), part, strict=True):
                    tensor.copy_(state[f"{name}.{leaf}"])
        self.apply()

    def saved(self, curriculum: Curriculum) -> dict[str, Any]:
        """What a checkpoint has to hold of a training that goes on."""
        return {
            "addition": self.state(),
            "optimizer": self.optimizer.state_dict(),
            "curriculum": curriculum.state(),
        }

    def resume(self, saved: Mapping[str, Any], curriculum: Curriculum) -> None:
        """What `saved` gave, into this addition and a curriculum."""
        self.load(saved["addition"])
        self.optimizer.load_state_dict(saved["optimizer"])
        curriculum.load(saved["curriculum"])


def export_addition(
    addition: LowRank, source: Path, target: Path, *, beside: Mapping[str, Tensor] | None = None, **changes: int
) -> None:
    """The addition in fp16, with the configuration and the tokenizer of what it is added to.

    Args:
        beside: tensors that the file has besides, as they are.
        changes: of the configuration.
    """
    target.mkdir(parents=True, exist_ok=True)
    state = {name.removeprefix("vlm."): t.half().contiguous() for name, t in addition.state().items()}
    file = target / "model.safetensors"
    save_file(state | dict(beside or {}), file, metadata={"format": "pt"})
    file.chmod(0o644)  # safetensors leaves it readable by its owner alone
    replace(PocketConfig.load(source), base=source.name, **changes).save(target)
    shutil.copyfile(source / "tokenizer.json", target / "tokenizer.json")
