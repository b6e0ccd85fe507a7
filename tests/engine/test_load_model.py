"""From names to models."""

import pytest

from meteor_bench.core.errors import UnknownNameError
from meteor_bench.engine.load_model import resolve_model
from meteor_bench.engine.make_method import make_pruner


def test_meteor_takes_the_variant_it_was_made_for_and_a_given_checkpoint_stays() -> None:
    assert resolve_model("pocket", make_pruner("meteor")).name == "pocket-independent"
    assert resolve_model("pocket", make_pruner("fastv")).name == "pocket"
    assert resolve_model("pocket", make_pruner("meteor"), source="somewhere").name == "pocket"
    with pytest.raises(UnknownNameError, match="did you mean 'pocket'"):
        resolve_model("poket", make_pruner("none"))
