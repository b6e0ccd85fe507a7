"""What can be wrong with a checkpoint: one clear line, exit status 2, nothing written."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from meteor_bench import cli
from meteor_bench.models import memory
from tests import eagle

CLIP = "model.vision_tower.vision_towers.0.vision_tower.vision_model.encoder.layers.0.layer_norm1.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint that may be harmed."""
    return shutil.copytree(eagle.folder(), tmp_path / "Eagle-X5-tiny")


@pytest.fixture
def refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run the command line on the folder; the line it ends with."""
    monkeypatch.chdir(tmp_path)

    def run(*more: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr(sys, "argv", ["meteor-bench", "run", "--model", str(folder), "--limit", "2", *more])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        assert exit.value.code == 2 and sorted(tmp_path.rglob("*")) == before
        (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        return said

    return run


def shard(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the shard that holds a weight of CLIP."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    path = folder / index["weight_map"][CLIP]
    state = load_file(path)
    change(state)
    path.unlink()
    save_file(state, path)


def setting(folder: Path, **values: Any) -> None:
    """Change config.json; None takes a key away."""
    config = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def cut(folder: Path) -> None:
    path = folder / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


WEIGHTS: list[tuple[Callable[[Path], object], str]] = [
    (lambda f: (f / "config.json").unlink(), "holds no config.json; it is not a checkpoint's folder"),
    (cut, "model-00002-of-00002.safetensors is corrupted"),
    (lambda f: shard(f, lambda s: s.pop(CLIP)), f"1 weights are missing, the first is '{CLIP}'"),
    (lambda f: shard(f, lambda s: s.update({f"{CLIP}2": torch.ones(1)})), f"unexpected weight '{CLIP}2'"),
    (lambda f: shard(f, lambda s: s.update({CLIP: torch.ones(7)})), f"'{CLIP}' has shape [7], the model wants [24]"),
    (lambda f: shard(f, lambda s: s[CLIP].fill_(torch.nan)), f"'{CLIP}' holds values that are not finite"),
]
SETTINGS: list[tuple[Callable[[Path], object], str]] = [
    (lambda f: (f / "model-00001-of-00002.safetensors").unlink(), "lacks model-00001-of-00002.safetensors, which"),
    (lambda f: (f / "tokenizer.model").write_bytes(b"no"), "tokenizer.model holds no tokenizer"),
    (lambda f: setting(f, mm_vision_tower="clip-448;dino-518"), "names encoder 'dino-518'; known, each at most"),
    (lambda f: setting(f, mm_vision_tower=None), "config.json names no encoders (mm_vision_tower)"),
    (lambda f: setting(f, mm_hidden_size=100), "has mm_hidden_size=100, its encoders give 124"),
    (lambda f: setting(f, mm_projector_type="linear"), "has mm_projector_type='linear'; this adapter knows 'mlp2x"),
    (lambda f: setting(f, image_aspect_ratio="anyres"), "has image_aspect_ratio='anyres'; this adapter knows 'pad'"),
    (lambda f: setting(f, hidden_size="wide"), "has hidden_size='wide'; expected a positive whole number"),
    (
        lambda f: setting(f, num_attention_heads=5),
        "expected a divisor of num_attention_heads (5)",
    ),
    (lambda f: setting(f, hidden_act="none"), "does not describe an EAGLE model"),
]


@pytest.mark.parametrize(
    ("harm", "message"), [*WEIGHTS, *(pytest.param(*row, marks=pytest.mark.slow) for row in SETTINGS)]
)
def test_what_is_wrong_with_a_checkpoint(
    folder: Path, refused: Callable[..., str], harm: Callable[[Path], object], message: str
) -> None:
    harm(folder)
    assert message in refused()


def test_too_little_memory_is_said_before_loading(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    said = refused("--device", "cpu")
    assert "GiB for its weights in float32, cpu has 0.0 GiB free" in said


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("downsample", "downsample shrinks the image; the encoders of 'Eagle-X5-tiny' take one size only"),
        ("meteor --stages encode", "meteor's encode stage alone removes no token from the language model of 'Eagle-X5"),
        (
            "fastv --param layer=9",
            "fastv with layer=9 needs a deeper language model than 'Eagle-X5-tiny' (4 layers); take at most 3",
        ),
    ],
)
def test_what_the_model_lacks(refused: Callable[..., str], method: str, message: str) -> None:
    assert message in refused("--method", *method.split(), "--ratio", "0.5")
