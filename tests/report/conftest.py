"""What the tests of reports share: made-up runs, and rows of a frame by what they are about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from meteor_bench.report.runs import load
from meteor_bench.report.sections import Section, sections
from tests import synthetic


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Folders of unpruned, random (three seeds) and meteor at two ratios; nobody writes to them."""
    return synthetic.reference(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def section(runs: Mapping[str, Path]) -> Section:
    """Those runs as one section."""
    (only,) = sections(load(runs["none"].parent))
    return only


@pytest.fixture
def pick(section: Section) -> Callable[..., dict[str, Any]]:
    """The one row of a frame of ``section`` about a method, a ratio and whatever else is given."""

    def pick(frame: pd.DataFrame, label: str, ratio: float, **where: Any) -> dict[str, Any]:
        row = next(i for i, c in enumerate(section.cells) if (section.labels[i], c.ratio) == (label, ratio))
        found = [r for r in frame.to_dict("records") if all(r[k] == v for k, v in {"row": row, **where}.items())]
        assert len(found) == 1
        return found[0]

    return pick
