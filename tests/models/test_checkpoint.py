import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from meteor_bench.errors import ModelError
from meteor_bench.models.checkpoint import digest, load_weights


def module() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))


def write(folder: Path, state: dict[str, torch.Tensor]) -> None:
    names = sorted(state)
    parts = {"model-00001-of-00002.safetensors": names[:2], "model-00002-of-00002.safetensors": names[2:]}
    for file, keys in parts.items():
        save_file({k: state[k].contiguous() for k in keys}, folder / file)
    weight_map = {k: file for file, keys in parts.items() for k in keys}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text("{}")


def test_shards_are_loaded_through_the_index_and_stale_ones_ignored(tmp_path: Path) -> None:
    source, target = module(), module()
    write(tmp_path, source.state_dict())
    (tmp_path / "model-00001-of-00002_old.safetensors").write_bytes(b"stale")
    load_weights(target, tmp_path)
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)
    assert digest(tmp_path) == digest(tmp_path) and len(digest(tmp_path)) == 64


def test_half_precision_shards_are_cast(tmp_path: Path) -> None:
    source, target = module(), module()
    write(tmp_path, {k: v.half() for k, v in source.state_dict().items()})
    load_weights(target, tmp_path)
    assert target.state_dict()["0.weight"].dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("1.bias"), "missing, the first is '1.bias'"),
        (lambda s: s.update({"extra": torch.zeros(1)}), "unexpected weight 'extra'"),
        (
            lambda s: s.update({"0.weight": torch.zeros(2, 2)}),
            r"'0.weight' has shape \[2, 2\], the model wants \[2, 3\]",
        ),
        (lambda s: s["0.bias"].fill_(torch.nan), "'0.bias' holds values that are not finite"),
    ],
)
def test_every_difference_is_an_error_that_names_the_key(tmp_path: Path, change: object, message: str) -> None:
    state = {k: v.clone() for k, v in module().state_dict().items()}
    change(state)  # type: ignore[operator]
    write(tmp_path, state)
    with pytest.raises(ModelError, match=message):
        load_weights(module(), tmp_path)


def test_a_truncated_shard_is_one_clear_error(tmp_path: Path) -> None:
    write(tmp_path, module().state_dict())
    path = tmp_path / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ModelError, match="corrupted"):
        load_weights(module(), tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no checkpoint"):
        load_weights(module(), tmp_path)
    write(tmp_path, module().state_dict())
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match="lacks model-00001-of-00002.safetensors"):
        load_weights(module(), tmp_path)
