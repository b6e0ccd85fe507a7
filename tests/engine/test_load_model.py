"""From names to models."""

import pytest

from meteor_bench.core.errors import UnknownNameError
from meteor_bench.engine.load_model import random_model, resolve_model
from meteor_bench.engine.make_method import make_pruner
from tests import hubs


def test_meteor_takes_the_variant_it_was_made_for_and_a_given_checkpoint_stays() -> None:
    assert resolve_model("pocket", make_pruner("meteor")).name == "pocket-independent"
    assert resolve_model("pocket", make_pruner("fastv")).name == "pocket"
    assert resolve_model("pocket", make_pruner("meteor"), source="somewhere").name == "pocket"
    with pytest.raises(UnknownNameError, match="did you mean 'pocket'"):
        resolve_model("poket", make_pruner("none"))


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])  # only the first says the kind of each layer
def test_a_folders_language_model_can_be_built_with_its_first_layers_alone(family: str) -> None:
    card = resolve_model(str(hubs.folder(family)), make_pruner("none"))
    assert [random_model(card, "cpu", "float32", None, layers).decoder.depth for layers in (2, 9)] == [2, 4]
