"""What counts as a regression, on made-up measurements; and how findings are written down."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from typing import Any

import pytest

from meteor_bench.runs.regression.baseline import Measured, Ratios, Tolerances
from meteor_bench.runs.regression.compare import METRICS, Finding, compare, too_slow
from meteor_bench.runs.regression.tables import as_junit, document

WAS = Measured(
    checkpoint="m 1",
    exact=True,
    right={"a": "1" * 10, "b": "10" * 5},
    loss={"a": 1.0, "b": 0.001},
    tokens={"fused": 256, "final": {"a": 61, "b": [61] * 9 + [60]}},
    flops={"encode": 1000, "prefill": 500},
    latency=Ratios(0.2, 0.8),
)


def failed(was: Measured = WAS, **changes: Any) -> set[str]:
    found = compare("cell", was, replace(was, **changes), Tolerances())
    assert [f.metric for f in found] == list(METRICS)
    return {f.metric for f in found if f.failed}


@pytest.mark.parametrize(
    ("changes", "metrics"),
    [
        ({}, set()),
        # 4 of 20 right answers lost; gained ones do not make up for them; 1 of 20 is within 5 points.
        ({"right": {"a": "0" * 4 + "1" * 6, "b": "10" * 5}}, {"accuracy"}),
        ({"right": {"a": "0" * 2 + "1" * 8, "b": "11" * 5}}, {"accuracy"}),
        ({"right": {"a": "0" + "1" * 9, "b": "10" * 5}}, set()),
        ({"right": {"a": "1" * 10, "b": "11" * 5}}, set()),
        ({"right": {"a": (0.85,) * 10, "b": "10" * 5}}, {"accuracy"}),  # 7.5 points in small parts
        ({"loss": {"a": 1.06, "b": 0.001}}, {"loss"}),
        ({"loss": {"a": 0.94, "b": 0.001}}, {"loss"}),
        ({"loss": {"a": 1.04, "b": 0.019}}, set()),
        ({"loss": {"a": 1.0, "b": 0.03}}, {"loss"}),
        ({"tokens": {"fused": 256, "final": {"a": 62, "b": [61] * 9 + [60]}}}, {"tokens"}),
        ({"tokens": {"fused": 256, "final": {"a": 61, "b": 61}}}, {"tokens"}),
        ({"tokens": {"fused": 255, "final": {"a": 61, "b": [61] * 9 + [60]}}}, {"tokens"}),
        ({"tokens": {"fused": {"a": [256] * 10, "b": 256}, "final": {"a": 61, "b": [61] * 9 + [60]}}}, set()),
        ({"tokens": {"fused": 256}}, {"tokens"}),
        ({"flops": {"encode": 1001, "prefill": 500}}, {"flops"}),
        ({"flops": {"encode": 1000, "prefill": 500, "prune": 1}}, {"flops"}),
        ({"flops": {"encode": 1000}}, {"flops"}),
        ({"latency": Ratios(0.4, 1.0)}, {"selection"}),
        ({"latency": Ratios(0.29, 1.07)}, set()),
        ({"latency": Ratios(0.1, 1.09)}, {"ttft"}),
        ({"latency": Ratios(0.0, 0.1)}, set()),
    ],
)
def test_what_is_a_regression(changes: dict[str, Any], metrics: set[str]) -> None:
    assert failed(**changes) == metrics


@pytest.mark.parametrize(
    ("final", "metrics"),
    [
        ([61] * 8 + [63, 59], set()),
        ([61] * 9 + [64], {"tokens"}),
        ([62] * 10, {"tokens"}),  # one token too many everywhere: the mean tells
        ([62, 62] + [61] * 8, set()),
    ],
)
def test_an_adaptive_method_may_round_otherwise(final: list[int], metrics: set[str]) -> None:
    was = replace(WAS, exact=False, tokens={"final": 61}, right={"a": "1" * 10}, loss={"a": 1.0})
    assert failed(was, tokens={"final": {"a": final}}) == metrics
    assert failed(was, flops={"encode": 1009, "prefill": 500}) == set()
    assert failed(was, flops={"encode": 1011, "prefill": 500}) == {"flops"}


def test_a_tiny_selection_may_grow_by_the_floor() -> None:
    """Twice of next to nothing is no news, twice of something is."""
    assert not too_slow(Ratios(0.004, 1.0), Ratios(0.013, 1.0), Tolerances())
    assert too_slow(Ratios(0.004, 1.0), Ratios(0.015, 1.0), Tolerances())
    assert too_slow(Ratios(0.03, 1.0), Ratios(0.06, 1.0), Tolerances())


def test_findings_are_told() -> None:
    now = replace(WAS, tokens={"fused": 256, "final": {"a": 62, "b": [61] * 9 + [60]}}, loss={"a": 1.01, "b": 0.001})
    out = io.StringIO()
    document(compare("fastv 0.76", WAS, now, Tolerances())).write(out)
    lines = out.getvalue().splitlines()
    assert "fastv 0.76 = +0.010 +0.50 ! = +0% +0%" in " ".join(out.getvalue().split())
    assert lines[-2] == ("fastv 0.76: tokens: final 61 -> 62 in a/0, 10 of 20 questions, mean +0.50; may move by 0")
    assert lines[-1] == "1 regression in 6 checks of 1 cells"


def test_junit_is_escaped() -> None:
    """Names and messages with everything that XML minds."""
    nasty = "<b>&\"' \x00\x1b[31m\u2028 é"
    findings = [Finding(nasty, "tokens", "", nasty, True), Finding("fine", "loss", "", "", False)]
    suite = ElementTree.fromstring(as_junit(findings, 1.5)).find("testsuite")
    assert suite is not None and suite.attrib["tests"] == "2" and suite.attrib["failures"] == "1"
    first, second = suite.iter("testcase")
    shown = nasty.replace("\x00", "\ufffd").replace("\x1b", "\ufffd")
    failure = first.find("failure")
    assert first.get("classname") == shown and failure is not None
    assert failure.get("message") == failure.text == shown
    assert second.find("failure") is None
