"""`--model` as a folder or a hub id: found in the local cache only, recognised by config.json, else one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from meteor_bench.config.run_config import load
from meteor_bench.core.errors import ConfigError, MeteorBenchError, ModelError
from meteor_bench.engine.factory import build
from meteor_bench.engine.load_model import resolve_model
from meteor_bench.engine.make_method import make_pruner
from meteor_bench.models.locate import is_location, locate
from meteor_bench.models.pocket.model import WEIGHTS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped model under a name of its own."""
    return shutil.copytree(WEIGHTS / "pocket", tmp_path / "mine")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache that holds somebody/pocket, in the cache's own layout."""
    cache = tmp_path / "hub"
    repo = cache / "models--somebody--pocket"
    revision = "0" * 40
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(revision)
    shutil.copytree(WEIGHTS / "pocket", repo / "snapshots" / revision)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


def test_a_folder_is_recognised_by_its_config(folder: Path) -> None:
    session = build(str(folder), "random", ratio=0.5)
    assert session.provenance["model"] == str(folder) and session.provenance["variant"] == "mine"
    shipped = build("pocket", "random", ratio=0.5)
    assert session.provenance["checkpoint"] == shipped.provenance["checkpoint"]
    ours, theirs = session.vlm.decoder.state_dict(), shipped.vlm.decoder.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_hub_id_is_looked_up_in_the_cache(hub: Path) -> None:
    card = resolve_model("somebody/pocket", make_pruner("none"))
    assert (card.name, card.weights, card.fusion) == ("pocket", "somebody/pocket", "shared")
    assert locate("somebody/pocket").parent.parent.parent == hub
    with pytest.raises(ModelError, match=r"'somebody/else' is not in the hub cache \(.*hub\); say --online to fetch"):
        locate("somebody/else")


def test_a_hub_id_serves_as_other_weights(hub: Path) -> None:
    assert build("pocket", "none", source="somebody/pocket").provenance["variant"] == "pocket"


@pytest.mark.parametrize("name", ["pocket", "pocket-independent"])
def test_random_weights_differ_from_the_shipped_ones_in_nothing_else(name: str) -> None:
    random, shipped = build(name, "none", random_weights=True), build(name, "none")
    assert random.provenance["checkpoint"] == "random"
    ours, theirs = random.vlm.decoder.state_dict(), shipped.vlm.decoder.state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert not torch.equal(random.vlm.decoder.embed(torch.tensor([5])), shipped.vlm.decoder.embed(torch.tensor([5])))


@pytest.mark.parametrize(("name", "told"), [("a/b", True), ("./x", True), (".", True), ("pocket", False)])
def test_what_can_only_be_a_location(name: str, told: bool) -> None:
    assert is_location(name) == told


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _of_no_family(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "martian"}))


def _of_an_unsupported_family(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "cambrian_llama"}))


def _broken(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _a_list(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_no_config, "holds no config.json; it is not a checkpoint's folder"),
        (_of_no_family, "has model_type 'martian', for which there is no adapter; there are: pocket"),
        (_of_an_unsupported_family, r"is a Cambrian-1 \(model_type 'cambrian_llama'\), not supported: layers of its"),
        (_broken, "cannot read .*config.json: not JSON: Expecting property name"),
        (_a_list, "config.json is not a JSON object"),
    ],
)
def test_a_folder_that_is_no_model_is_one_line_before_anything_is_built(folder: Path, harm, message: str) -> None:
    harm(folder)
    for attempt in (lambda: load(None, {"model": str(folder)}), lambda: build(str(folder), "none")):
        with pytest.raises(ModelError, match=message) as caught:
            attempt()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"model": "/nowhere/at/all"}, "neither a folder nor a hub id"),
        ({"model": "poket"}, "did you mean 'pocket'"),
    ],
)
def test_names_that_mean_nothing(flags: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(None, flags)


def test_a_checkpoint_takes_no_source(folder: Path) -> None:
    with pytest.raises(MeteorBenchError, match="is itself a checkpoint; leave --source out"):
        build(str(folder), "none", source="other")


def test_a_folder_in_a_file_of_settings_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(f"ratio: 0.5\nmodel: {tmp_path}\n")
    with pytest.raises(ConfigError, match=r"run\.yaml:2: model: .* holds no config\.json"):
        load(tmp_path / "run.yaml", {})
