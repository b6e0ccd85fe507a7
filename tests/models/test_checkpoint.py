import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from meteor_bench.core.errors import ModelError
from meteor_bench.models import memory
from meteor_bench.models.checkpoint import digest, load_weights, randomise, shards, skeleton


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
    with pytest.raises(ModelError, match=r"lacks model-00001-of-00002.safetensors"):
        load_weights(module(), tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_shards_are_read_without_running_them(tmp_path: Path, zipped: bool) -> None:
    source, target = module(), module()
    state = source.state_dict()
    parts = {"pytorch_model-1.bin": ["0.weight", "0.bias"], "pytorch_model-2.bin": ["1.weight", "1.bias"]}
    for file, keys in parts.items():
        torch.save({k: state[k] for k in keys}, tmp_path / file, _use_new_zipfile_serialization=zipped)
    weight_map = {k: file for file, keys in parts.items() for k in keys}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    load_weights(target, tmp_path)
    assert all(torch.equal(target.state_dict()[key], value) for key, value in state.items())


@pytest.mark.parametrize("what", [lambda: Evil(), lambda: 3])
def test_a_pickle_that_would_run_something_or_holds_no_weight(tmp_path: Path, what: Callable[[], object]) -> None:
    torch.save({"0.weight": what()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="corrupted or holds more than weights") as caught:
        load_weights(module(), tmp_path)
    assert "\n" not in str(caught.value) and not Evil.ran


class Evil:
    """Notes that it was unpickled."""

    ran = False

    def __reduce__(self) -> tuple[object, ...]:
        return setattr, (Evil, "ran", True)


@pytest.mark.parametrize("size", [0, 5])
def test_a_truncated_pickle_is_one_clear_error(tmp_path: Path, size: int) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save(module().state_dict(), path)
    path.write_bytes(path.read_bytes()[: -len(path.read_bytes()) // 2] if size else b"")
    with pytest.raises(ModelError, match="corrupted or holds more than weights") as caught:
        load_weights(module(), tmp_path)
    assert "\n" not in str(caught.value)


def test_an_index_may_not_leave_its_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../secret"}}))
    with pytest.raises(ModelError, match=r"names '../secret', which is no file of that folder"):
        load_weights(module(), tmp_path)


def test_keys_are_renamed_left_out_and_shared(tmp_path: Path) -> None:
    source, target = module(), module()
    state = {f"model.{k}": v for k, v in source.state_dict().items()}
    del state["model.1.bias"]
    save_file({**state, "model.head": torch.zeros(1)}, tmp_path / "model.safetensors")

    def rename(key: str) -> str | None:
        return None if key == "model.head" else key.removeprefix("model.")

    load_weights(target, tmp_path, rename=rename, ties={"1.bias": "0.bias"})
    assert target.state_dict()["1.bias"].data_ptr() == target.state_dict()["0.bias"].data_ptr()
    assert torch.equal(target.state_dict()["0.weight"], source.state_dict()["0.weight"])


def test_a_skeleton_has_no_weights_until_they_are_read(tmp_path: Path) -> None:
    source = module()
    save_file({k: v.contiguous() for k, v in source.state_dict().items()}, tmp_path / "model.safetensors")
    with skeleton():
        target = module()
    assert all(p.is_meta for p in target.parameters())
    load_weights(target, tmp_path, dtype=torch.bfloat16)
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value.bfloat16())


def test_random_weights_are_finite_the_same_each_time_and_nothing_on_meta() -> None:
    made = []
    for _ in range(2):
        with skeleton():
            made.append(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)))
        randomise(made[-1], "cpu", torch.bfloat16)
    assert all(torch.equal(a, b) for a, b in zip(made[0].parameters(), made[1].parameters(), strict=True))
    assert made[0][0].weight.std() > 0 and made[0](torch.ones(1, 3).bfloat16()).isfinite().all()
    randomise(made[0], "meta", torch.bfloat16)
    assert all(p.is_meta and p.dtype == torch.bfloat16 for p in made[0].parameters())


def test_too_little_memory_is_said_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2**30)
    with skeleton():
        large = nn.Linear(20_000, 20_000, bias=False)
    with pytest.raises(ModelError, match=r"needs 1\.5 GiB for its weights in float32, cpu has 1\.0 GiB free"):
        load_weights(large, tmp_path)


@pytest.mark.parametrize("content", ["[" * 200_000, "[]", '{"weight_map": 3}', "{", None])
def test_an_index_that_is_none_is_one_line(tmp_path: Path, content: str | None) -> None:
    index = tmp_path / "model.safetensors.index.json"
    if content is None:
        index.mkdir()
    else:
        index.write_text(content)
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json") as caught:
        shards(tmp_path)
    assert "\n" not in str(caught.value)


def test_in_a_skeleton_only_what_has_storage_is_given_values() -> None:
    ran: list[str] = []

    class Noted(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            ran.append(str(func))
            return func(*args, **(kwargs or {}))

    with skeleton(), Noted():
        made, real = nn.Linear(3, 2), torch.zeros(3)
        assert nn.init.normal_(made.weight) is made.weight
        made.weight.data.normal_()
        nn.init.constant_(real, 2.0)
    assert made.weight.is_meta and made.weight.shape == (2, 3) and real.tolist() == [2.0] * 3
    assert ran and not [name for name in ran if "normal" in name or "uniform" in name]
