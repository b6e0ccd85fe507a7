"""Findings for people and for CI: a row a cell, a line for everything that failed; JUnit XML."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from meteor_bench.report.document import Document
from meteor_bench.report.table import Table
from meteor_bench.runs.regression.compare import METRICS, Finding

__all__ = ["as_junit", "document"]

# What XML 1.0 cannot hold, escaped or not.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(findings: Sequence[Finding], after: Sequence[str] = ()) -> Document:
    """A table of what moved ("=": nothing, "!": beyond its tolerance), then each failure in a line of its own.

    Args:
        findings: those of a cell together; none where there was nothing to compare with.
        after: lines that follow.
    """
    failed = [finding for finding in findings if finding.failed]
    cells: dict[str, dict[str, str]] = {}
    for finding in findings:
        row = cells.setdefault(finding.cell, {})
        row[finding.metric] = (finding.change or "=") + " !" * finding.failed
    tail = [f"{finding.cell}: {finding.metric}: {finding.detail}" for finding in failed]
    if findings:
        regressions = f"{len(failed)} regression{'s' * (len(failed) != 1)}" if failed else "no regression"
        tail.append(f"{regressions} in {len(findings)} checks of {len(cells)} cells")
    rows = [[cell, *(row[metric] for metric in METRICS)] for cell, row in cells.items()]
    tables = [Table("What moved since the baseline", ["", *METRICS], rows)] if rows else []

    def data() -> dict[str, Any]:
        return {"regressions": len(failed), "findings": [asdict(finding) for finding in findings], "said": list(after)}

    return Document(
        lambda: tables,
        lambda: {"findings": pd.DataFrame([asdict(finding) for finding in findings])},
        ("cell", "metric"),
        data,
        tail=[*tail, *after],
    )


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
