"""From names to sessions."""

import pytest

from meteor_bench.core.errors import ConfigError, MeteorBenchError
from meteor_bench.engine import factory as build_module
from meteor_bench.engine.factory import build
from tests import tiny


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
