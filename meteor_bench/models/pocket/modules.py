"""The pocket models as plain modules: three towers, a fusion of one of two kinds, a Llama decoder.

No engine code here: towers and decoder are transformers' own modules, composed by `models/pocket.py`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    ConvNextConfig,
    ConvNextModel,
    LlamaConfig,
    LlamaForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
)

TOWERS = ("a", "b", "c")
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class PocketConfig:
    """Sizes of the model, as its config.json holds them.

    Attributes:
        base: the shipped model whose weights those in the folder are added to; empty where they are whole themselves.
        pool: of each frame of a clip, squares of so many cells a side are averaged into one token (shared fusion only).
    """

    fusion: Literal["shared", "independent"] = "shared"
    vocab_size: int = 166
    hidden_size: int = 192
    intermediate_size: int = 512
    num_layers: int = 5
    num_heads: int = 3
    max_positions: int = 1024
    tower_dim: int = 128
    tower_intermediate: int = 512
    image_size: int = 128
    frame_size: int = 64
    frames: int = 4
    model_type: str = "pocket"
    base: str = ""
    pool: int = 1

    @property
    def grids(self) -> dict[str, int]:
        """Side of each tower's token grid on an image; on a frame it is half of that."""
        return {"a": 16, "b": 16, "c": 8}

    @property
    def visual_tokens(self) -> int:
        """Length of the unpruned visual sequence, the same for an image and for a clip."""
        return 256 if self.fusion == "shared" else sum(side**2 for side in self.grids.values())

    def save(self, folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "PocketConfig":
        return cls(**json.loads((folder / "config.json").read_text()))


def build_towers(config: PocketConfig) -> nn.ModuleDict:
    """The three encoders, of a small ViT with a class token, a ConvNet and a ViT without one."""
    vit = {"hidden_size": config.tower_dim, "intermediate_size": config.tower_intermediate, "num_attention_heads": 2}
    a = CLIPVisionConfig(**vit, num_hidden_layers=4, image_size=64, patch_size=4)
    b = ConvNextConfig(
        num_channels=1,
        patch_size=4,
        num_stages=2,
        hidden_sizes=[64, config.tower_dim],
        depths=[2, 3],
        image_size=128,
        layer_scale_init_value=0.2,  # the default of 1e-6 needs far longer schedules than ours
    )
    c = SiglipVisionConfig(**vit, num_hidden_layers=3, image_size=128, patch_size=16, vision_use_head=False)
    return nn.ModuleDict({"a": CLIPVisionModel(a), "b": ConvNextModel(b), "c": SiglipVisionModel(c)})


def build_decoder(config: PocketConfig) -> LlamaForCausalLM:
    """The language model."""
    llama = LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_heads,
        max_position_embeddings=config.max_positions,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(llama)


def normalise(pixels: Tensor) -> Tensor:
    """uint8 [..., H, W, 3] -> float [rows, 3, H, W] in -1..1; the frames of a clip become rows."""
    rows = pixels.reshape(-1, *pixels.shape[-3:]).permute(0, 3, 1, 2)
    return rows.float() / 127.5 - 1


def tower_inputs(rows: Tensor) -> dict[str, Tensor]:
    """What each tower sees of [rows, 3, H, W]: a half the resolution, b the luminance, c all of it."""
    luma = rows.new_tensor(LUMA)[None, :, None, None]
    return {"a": F.avg_pool2d(rows, 2), "b": (rows * luma).sum(1, keepdim=True), "c": rows}


class SharedFusion(nn.Module):
    """Channel concatenation on the 16x16 grid of a and b, then one projector."""

    def __init__(self, config: PocketConfig) -> None:
        super().__init__()
        d, h = config.tower_dim, config.hidden_size
        self.norm = nn.ModuleDict({name: nn.LayerNorm(d) for name in TOWERS})
        self.mlp = nn.Sequential(nn.Linear(3 * d, 2 * h), nn.GELU(), nn.Linear(2 * h, h))
        self.image_positions = nn.Parameter(torch.zeros(256, h))
        self.video_positions = nn.Parameter(torch.zeros(config.frames, 64, h))
        if config.pool > 1:
            self.lengthen(config)

    def lengthen(self, config: PocketConfig) -> None:
        """A table of frames and one of a frame's cells, all zero, in place of one entry for each place in a clip."""
        h, cells = config.hidden_size, (config.grids["a"] // 2 // config.pool) ** 2
        del self.video_positions
        self.frame_positions = nn.Parameter(torch.zeros(config.frames, h))
        self.cell_positions = nn.Parameter(torch.zeros(cells, h))

    def long_positions(self, frames: int) -> Tensor:
        """[frames, cells, hidden] for a clip of so many frames: the table's frames are spread over it."""
        at = torch.arange(frames, device=self.frame_positions.device) * len(self.frame_positions) // frames
        return self.frame_positions[at, None] + self.cell_positions

    def project(self, features: dict[str, Tensor]) -> Tensor:
        """{tower: [rows, n, d]} -> [rows, 256 or 64, hidden], without positions."""
        normed = {name: self.norm[name](x) for name, x in features.items()}
        c = normed["c"]
        side = round(c.shape[1] ** 0.5)
        grid = c.transpose(1, 2).unflatten(2, (side, side))
        normed["c"] = F.interpolate(grid, scale_factor=2, mode="nearest").flatten(2).transpose(1, 2)
        out: Tensor = self.mlp(torch.cat([normed[name] for name in TOWERS], dim=-1))
        return out

    def positions(self, is_clip: bool) -> Tensor:
        return self.video_positions if is_clip else self.image_positions


class IndependentFusion(nn.Module):
    """One projector and one position table per tower; the sequences are concatenated in the order of the towers.

    Args:
        dims: width of each tower's features.
        sides: of each tower's token grid on an image; on a frame it is half of that.
        wide: width inside a projector.
    """

    def __init__(self, dims: Mapping[str, int], sides: Mapping[str, int], wide: int, hidden: int, frames: int) -> None:
        super().__init__()
        self.norm = nn.ModuleDict({name: nn.LayerNorm(d) for name, d in dims.items()})
        self.mlp = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(d, wide), nn.GELU(), nn.Linear(wide, hidden)) for name, d in dims.items()}
        )
        self.image_positions = nn.ParameterDict({name: torch.zeros(sides[name] ** 2, hidden) for name in dims})
        self.video_positions = nn.ParameterDict(
            {name: torch.zeros(frames, (sides[name] // 2) ** 2, hidden) for name in dims}
        )

    def project(self, name: str, x: Tensor) -> Tensor:
        """[rows, n, d] of one tower -> [rows, n, hidden], without positions."""
        out: Tensor = self.mlp[name](self.norm[name](x))
        return out

    def positions(self, name: str, is_clip: bool) -> Tensor:
        table: Tensor = (self.video_positions if is_clip else self.image_positions)[name]
        return table


class PocketVLM(nn.Module):
    """A container: `towers`, `fusion`, `decoder`."""

    def __init__(self, config: PocketConfig) -> None:
        super().__init__()
        self.config = config
        self.towers = build_towers(config)
        d, h = config.tower_dim, config.hidden_size
        self.fusion = (
            SharedFusion(config)
            if config.fusion == "shared"
            else IndependentFusion(dict.fromkeys(TOWERS, d), config.grids, 2 * h, h, config.frames)
        )
        self.decoder = build_decoder(config)

    def extend(self, config: PocketConfig) -> None:
        """Make what another checkpoint added to of one that adds to it: weights that it alone has are zero."""
        if config.pool > self.config.pool and isinstance(self.fusion, SharedFusion):
            self.fusion.lengthen(config)
        self.config = config

    def encode(self, rows: Tensor) -> dict[str, Tensor]:
        """[rows, 3, H, W] in -1..1 -> {tower: [rows, n, tower_dim]}; CLS tokens are left out."""
        pixels = tower_inputs(rows)
        a = self.towers["a"](pixels["a"], interpolate_pos_encoding=True).last_hidden_state[:, 1:]
        b = self.towers["b"](pixels["b"]).last_hidden_state.flatten(2).transpose(1, 2)
        c = self.towers["c"](pixels["c"], interpolate_pos_encoding=True).last_hidden_state
        return {"a": a, "b": b, "c": c}

    def visual(self, pixels: Tensor) -> Tensor:
        """uint8 images [B, 128, 128, 3] or clips [B, 4, 64, 64, 3] -> visual tokens [B, N, hidden]."""
        is_clip = pixels.ndim == 5
        features = self.encode(normalise(pixels).to(self.decoder.dtype))
        batch = pixels.shape[0]

        def place(x: Tensor, table: Tensor) -> Tensor:
            x = x.reshape(batch, *table.shape)
            return (x + table).reshape(batch, -1, x.shape[-1])

        if isinstance(self.fusion, SharedFusion):
            return place(self.fusion.project(features), self.fusion.positions(is_clip))
        parts = [place(self.fusion.project(n, features[n]), self.fusion.positions(n, is_clip)) for n in TOWERS]
        return torch.cat(parts, dim=1)


def load_pocket(folder: Path) -> PocketVLM:
    """A shipped checkpoint in fp32, ready to evaluate."""
    model = PocketVLM(PocketConfig.load(folder))
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    state: dict[str, Tensor] = {}
    for shard in sorted(set(index["weight_map"].values())):
        state |= load_file(folder / shard)
    missing, unexpected = model.load_state_dict({name: w.float() for name, w in state.items()}, strict=False)
    # The output layer shares its weight with the embedding and is not stored twice.
    if unexpected or set(missing) - {"decoder.lm_head.weight"}:
        raise ValueError(f"{folder} does not fit the model: missing {missing}, unexpected {unexpected}")
    return model.eval()
