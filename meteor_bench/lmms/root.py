"""lmms-eval inside a data root (see `data.root`): its own tasks find their data and videos there, offline.

``datasets`` takes a folder ``<org>/<repository>`` of the working directory for the repository of that name, so a task
that is built there needs no change. Its cache, however, knows such a folder by its name alone: a second root would get
the first one's rows. Each root, with what its files hold, therefore has a cache of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from meteor_bench.core.errors import DataError
from meteor_bench.data.root import digest
from meteor_bench.data.suites import Benchmark

__all__ = ["entered", "stock_folder"]


@cache
def stock_folder(task: str) -> Path:
    """The folder of one of lmms-eval's own tasks; found without importing lmms-eval.

    Raises:
        DataError: the installed lmms-eval has none of that name.
    """
    spec = find_spec("lmms_eval")
    if spec is None or spec.origin is None:
        raise DataError("lmms-eval is not installed; install meteor-bench again")
    for file in (Path(spec.origin).parent / "tasks").rglob(f"{task}.yaml"):
        return file.parent
    raise DataError(f"the installed lmms-eval has no task {task}; this version of meteor-bench wants lmms-eval 0.7.3")


@contextlib.contextmanager
def entered(row: Benchmark, root: Path) -> Iterator[None]:
    """Inside, lmms-eval finds this benchmark's data and videos under the root; tasks must be built in `root` itself."""
    import datasets
    from lmms_eval.api import task as api

    folder = str(_cache_folder(row, root, Path(_base(datasets.config.HF_DATASETS_CACHE))))
    before = {name: os.environ.get(name) for name in ("HF_HOME", "LMMS_EVAL_DATASETS_CACHE")}
    outside = datasets.config.HF_DATASETS_CACHE
    os.environ.update({"HF_HOME": str(root.resolve()), "LMMS_EVAL_DATASETS_CACHE": folder})
    datasets.config.HF_DATASETS_CACHE = Path(folder)  # for tasks that load a second data set by themselves
    api._resolve_hf_datasets_cache_dir.cache_clear()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        datasets.config.HF_DATASETS_CACHE = outside
        api._resolve_hf_datasets_cache_dir.cache_clear()


def _base(default: str | Path) -> str | Path:
    return os.environ.get("LMMS_EVAL_DATASETS_CACHE") or default


def _cache_folder(row: Benchmark, root: Path, base: Path) -> Path:
    """For the rows of this root as they are: another path or another content is another folder."""
    key = hashlib.sha256(f"{root.resolve()}\n{digest(row, root)}".encode()).hexdigest()[:16]
    return base / "meteor-bench" / key
