"""For all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# The same cases every time: a commit that passes passes again. `--hypothesis-profile=default` looks for new ones.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """lmms-eval keeps its caches in a folder that goes away with the tests."""
    # Read once by lmms-eval, when it loads its first data set.
    os.environ["LMMS_EVAL_DATASETS_CACHE"] = str(tmp_path_factory.mktemp("datasets"))
    yield
    del os.environ["LMMS_EVAL_DATASETS_CACHE"]
