"""Findings for people and for CI: a row a cell, a line for everything that failed; JUnit XML."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import IO

from meteor_bench.report.rows import print_rows
from meteor_bench.runs.regression.compare import METRICS, Finding

__all__ = ["as_junit", "print_findings"]

# What XML 1.0 cannot hold, escaped or not.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def print_findings(findings: Sequence[Finding], stream: IO[str]) -> None:
    """A table of what moved ("=": nothing, "!": beyond its tolerance), then each failure in a line of its own.

    Args:
        findings: at least one, those of a cell together.
    """
    cells: dict[str, dict[str, str]] = {}
    for finding in findings:
        row = cells.setdefault(finding.cell, {"": finding.cell})
        row[finding.metric] = (finding.change or "=") + " !" * finding.failed
    print_rows([{"": row[""]} | {metric: row[metric] for metric in METRICS} for row in cells.values()], stream)
    failed = [finding for finding in findings if finding.failed]
    for finding in failed:
        stream.write(f"{finding.cell}: {finding.metric}: {finding.detail}\n")
    regressions = f"{len(failed)} regression{'s' * (len(failed) != 1)}" if failed else "no regression"
    stream.write(f"{regressions} in {len(findings)} checks of {len(cells)} cells\n")


def as_junit(findings: Sequence[Finding], seconds: float) -> bytes:
    """JUnit XML: a test case for each metric of each cell."""
    failed = sum(finding.failed for finding in findings)
    about = {"name": "meteor-bench check", "tests": f"{len(findings)}", "failures": f"{failed}", "errors": "0"}
    suites = ElementTree.Element("testsuites", about)
    suite = ElementTree.SubElement(suites, "testsuite", {**about, "skipped": "0", "time": f"{seconds:.3f}"})
    for finding in findings:
        names = {"classname": _legal(finding.cell), "name": finding.metric, "time": "0"}
        case = ElementTree.SubElement(suite, "testcase", names)
        if finding.failed:
            message = _legal(finding.detail)
            ElementTree.SubElement(case, "failure", {"message": message, "type": "regression"}).text = message
    ElementTree.indent(suites)
    document: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)
