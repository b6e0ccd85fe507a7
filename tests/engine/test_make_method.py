"""From names and parameters to methods."""

import pytest

from meteor_bench.core.errors import ConfigError
from meteor_bench.engine.make_method import make_pruner


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("metor",), "unknown method 'metor'; did you mean 'meteor'"),
        (("meteor", {"layr": 3}), "unknown parameter of method 'meteor' 'layr'; did you mean 'layer'"),
        (("none", {"k": 3}), "method 'none' has no parameters; 'k' was given"),
        (("fastv", {"layer": "two"}), "parameter 'layer' of method 'fastv' is 'two'; expected int, say 2"),
        (("fastv", {"layer": True}), "is True; expected int"),
        (("meteor", None, ["encode", "decod"]), "unknown stage 'decod'; did you mean 'decode'"),
        (("fastv", None, ["decode"]), "method 'fastv' has no stages to choose from"),
    ],
)
def test_mistakes_are_one_line_with_what_would_be_right(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_pruner(*arguments)  # type: ignore[arg-type]
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_stages_are_taken_in_the_order_of_the_model() -> None:
    pruner = make_pruner("meteor", stages=["decode", "encode"])
    assert pruner.parameters()["stages"] == ("encode", "decode")
