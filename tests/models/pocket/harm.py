"""What makes a checkpoint of the tests a bad one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor


def harmed(change: Callable[[dict[str, Tensor]], None]) -> Callable[[Path], None]:
    """Its tensors are changed."""

    def harm(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors")

    return harm
