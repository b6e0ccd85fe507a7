"""What was trained of the natural models: a fusion and a Llama. The encoders are their packages' (`towers`)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from meteor_bench.models.pocket.modules import IndependentFusion, PocketConfig, SharedFusion, build_decoder

__all__ = ["DIMS", "SIDES", "NaturalConfig", "NaturalFusion", "NaturalTrained"]

DIMS = {"vit": 384, "efficientnet": 1280, "reader": 480}
"""Width of each encoder's features."""
SIDES = {"vit": 16, "efficientnet": 8, "reader": 16}
"""Of each encoder's grid on an image; on a frame it is half of that."""


@dataclass(frozen=True)
class NaturalConfig:
    """Sizes of the model, as its config.json holds them.

    Attributes:
        towers: its encoders, keys of `DIMS`; where each has a projector, their tokens stand in this order.
        base: the shipped model whose Llama it is, as that is; empty where the folder has one of its own.
    """

    fusion: Literal["shared", "independent"] = "shared"
    towers: tuple[str, ...] = ("reader", "efficientnet", "vit")
    vocab_size: int = 195
    hidden_size: int = 192
    projector_size: int = 768
    intermediate_size: int = 512
    num_layers: int = 5
    num_heads: int = 3
    max_positions: int = 1024
    image_size: int = 224
    frame_size: int = 112
    frames: int = 4
    model_type: str = "natural"
    base: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "towers", tuple(self.towers))  # JSON has lists
        if "vit" not in self.towers or set(self.towers) - set(DIMS) or len(set(self.towers)) < len(self.towers):
            raise ValueError(
                f"towers are {', '.join(map(str, self.towers))}; expected vit and others of {', '.join(DIMS)}"
            )

    @property
    def dims(self) -> dict[str, int]:
        """Width of each tower's features."""
        return {name: DIMS[name] for name in self.towers}

    @property
    def grids(self) -> dict[str, int]:
        """Side of each tower's token grid on an image; on a frame it is half of that."""
        return {name: SIDES[name] for name in self.towers}

    @property
    def visual_tokens(self) -> int:
        """Length of the unpruned visual sequence, the same for an image and for a clip."""
        cells = [side**2 for side in self.grids.values()]
        return max(cells) if self.fusion == "shared" else sum(cells)

    @property
    def pocket(self) -> PocketConfig:
        """Language model and sizes of pictures in the pocket models' terms; the grid of their tower a is the ViT's."""
        return PocketConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            max_positions=self.max_positions,
            image_size=self.image_size,
            frame_size=self.frame_size,
            frames=self.frames,
        )

    def save(self, folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps(asdict(self), indent=2) + "\n")


class NaturalFusion(SharedFusion):
    """Channel concatenation on the ViT's grid, then one projector; tables of positions as in `pocket`."""

    def __init__(self, config: NaturalConfig) -> None:
        super().__init__(config.pocket)
        self.norm = nn.ModuleDict({name: nn.LayerNorm(width) for name, width in config.dims.items()})
        wide = config.projector_size
        self.mlp = nn.Sequential(
            nn.Linear(sum(config.dims.values()), wide), nn.GELU(), nn.Linear(wide, config.hidden_size)
        )

    def join(self, features: dict[str, Tensor]) -> Tensor:
        """{tower: [rows, n, d]} of the same n cells -> [rows, n, hidden], without positions."""
        out: Tensor = self.mlp(torch.cat([norm(features[name]) for name, norm in self.norm.items()], -1))
        return out


class NaturalTrained(nn.Module):
    """A container: `fusion`, `decoder`."""

    def __init__(self, config: NaturalConfig) -> None:
        super().__init__()
        self.config = config
        self.fusion = (
            NaturalFusion(config)
            if config.fusion == "shared"
            else IndependentFusion(config.dims, config.grids, config.projector_size, config.hidden_size, config.frames)
        )
        self.decoder: LlamaForCausalLM = build_decoder(config.pocket)
