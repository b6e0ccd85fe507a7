"""From names to methods and sessions."""

import pytest

from meteor_bench.core import build as build_module
from meteor_bench.core.build import build, make_pruner, resolve_model
from meteor_bench.errors import ConfigError, MeteorBenchError, UnknownNameError
from tests import tiny


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


def test_meteor_takes_the_variant_it_was_made_for_and_a_given_checkpoint_stays() -> None:
    assert resolve_model("pocket", make_pruner("meteor")).name == "pocket-independent"
    assert resolve_model("pocket", make_pruner("fastv")).name == "pocket"
    assert resolve_model("pocket", make_pruner("meteor"), source="somewhere").name == "pocket"
    with pytest.raises(UnknownNameError, match="did you mean 'pocket'"):
        resolve_model("poket", make_pruner("none"))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"dtype": "fp8"}, "unknown dtype 'fp8'"),
        ({"ratio": 1.0}, r"ratio 1.0 is outside \[0, 1\)"),
    ],
)
def test_settings_that_do_not_exist(how: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build("pocket", "random", **{"ratio": 0.5, **how})  # type: ignore[arg-type]


def test_calibrated_facts_are_recorded_and_belong_to_their_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "resolve_model", lambda *_: _Card(tiny.build("independent")))

    def facts(ratio: float) -> dict[str, object]:
        of = build("independent", "meteor", ratio=ratio, calibration=lambda: tiny.requests(6))
        assert of.engine.facts == of.provenance["facts"]
        return dict(of.provenance["facts"])

    assert facts(0.5) == facts(0.5)
    assert facts(0.5)["meteor.lambda"] != facts(0.6)["meteor.lambda"]


def test_without_samples_an_adaptive_method_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "resolve_model", lambda *_: _Card(tiny.build("independent")))
    with pytest.raises(MeteorBenchError, match="needs calibration"):
        build("independent", "meteor", ratio=0.5)


class _Card:
    """A model table's row for a tiny model."""

    name, fusion, weights = "tiny", "independent", None

    def __init__(self, vlm: object) -> None:
        self._vlm = vlm

    def build(self, device: str, dtype: object, source: object) -> object:
        return self._vlm
