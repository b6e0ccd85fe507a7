"""lmms-eval is imported by one worker only, and keeps its caches in a folder that goes away with the tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The import takes ten seconds: with ``--dist loadgroup`` all of these tests share one."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("lmms_eval"))


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    # Read once by lmms-eval, when it loads its first data set.
    os.environ["LMMS_EVAL_DATASETS_CACHE"] = str(tmp_path_factory.mktemp("datasets"))
    yield
    del os.environ["LMMS_EVAL_DATASETS_CACHE"]
