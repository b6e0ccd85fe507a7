"""`doctor --model`: what a checkpoint lacks is found before a run, line by line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from meteor_bench.core.errors import MeteorBenchError
from meteor_bench.runs import checkpoint_doctor
from meteor_bench.runs.checkpoint_doctor import examine_model
from tests import composed, hubs

CHECKS = ["files", "licence", "memory", "keys", "tokenizer", "template", "answer"]


def copy(folder: Path) -> Path:
    """The tests' LLaVA, to be broken."""
    made = folder / "llava"
    shutil.copytree(hubs.folder("llava"), made)
    return made


def examined(model: object) -> tuple[list[str], str]:
    """The states of the checks, and what the last says that failed."""
    found = examine_model(str(model), device="cpu")
    assert all("\n" not in f.said for f in found)
    failed = [f"{f.what}: {f.said}" for f in found if f.state == "fails"]
    return [f.what for f in found], failed[-1] if failed else ""


def test_a_checkpoint_that_is_whole_answers() -> None:
    assert examined(hubs.folder("llava")) == (CHECKS, "")


@pytest.mark.slow
def test_a_composition_that_is_whole_answers() -> None:
    assert examined(composed.file()) == (CHECKS, "")


def test_a_missing_shard_is_found_first(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    (folder / "model.safetensors").unlink()
    checks, failed = examined(folder)
    assert checks == ["files", "the rest"] and failed.startswith("files: ") and "no checkpoint" in failed


def test_a_missing_weight_is_found(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    state = load_file(folder / "model.safetensors")
    gone = sorted(state)[0]
    del state[gone]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    checks, failed = examined(folder)
    assert checks[-2:] == ["keys", "the rest"] and "missing" in failed


def test_too_little_memory_is_found_before_the_weights_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meteor_bench.models.memory.free_bytes", lambda device: 1000)
    checks, failed = examined(hubs.folder("llava"))
    assert checks[-2:] == ["memory", "the rest"] and "GiB for the weights in float32" in failed


def test_a_tokenizer_of_another_model_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = checkpoint_doctor._keys

    def shrunk(patient: checkpoint_doctor._Patient) -> checkpoint_doctor.Said:
        yield from real(patient)
        patient.vlm.decoder.vocabulary = 3

    monkeypatch.setitem(checkpoint_doctor._CHECKS, "keys", shrunk)
    checks, failed = examined(hubs.folder("llava"))
    assert checks[-2:] == ["tokenizer", "the rest"] and "a tokenizer of another model" in failed


@pytest.mark.slow
def test_numbers_that_overflow_are_found(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    state = load_file(folder / "model.safetensors")
    name = next(key for key in state if key.endswith("lm_head.weight"))
    state[name] = torch.full_like(state[name], 3e38)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    checks, failed = examined(folder)
    assert checks[-1] == "answer" and failed.startswith("answer: ")


def test_a_model_without_weights_says_so() -> None:
    checks, failed = examined("meteor-x4-7b")
    assert checks == ["files", "the rest"] and "--source" in failed


def test_a_model_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(MeteorBenchError):
        examine_model("no-such-model", device="cpu")
