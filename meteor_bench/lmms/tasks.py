"""Benchmarks as lmms-eval's task objects, ours and its own."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meteor_bench.core.errors import ConfigError, DataError, UnknownNameError
from meteor_bench.data import lookalike
from meteor_bench.data.root import check_files
from meteor_bench.data.shipped import check_data
from meteor_bench.data.suites import Benchmark, resolve
from meteor_bench.data.videos import check_videos
from meteor_bench.lmms import root
from meteor_bench.lmms.harness import Quiet, task_manager
from meteor_bench.lmms.inputs import Inputs
from meteor_bench.lmms.rows import Rows
from meteor_bench.lmms.task_rows import made
from meteor_bench.models.locate import is_online
from meteor_bench.records.schema import LOOKALIKES
from meteor_bench.utils.progress import detail

if TYPE_CHECKING:
    from meteor_bench.config.run_config import RunConfig

__all__ = ["check", "check_hub_data", "index", "opened"]


def check_hub_data(config: RunConfig) -> None:
    """Find what is wrong with the data of lmms-eval's own tasks before a model is loaded; errors as for `check`."""
    inputs = Inputs.of(config)
    asked = resolve(config.suite, config.tasks)
    if lookalike.rows(inputs.data_root) is not None and any(row.stock for row in asked):
        detail(LOOKALIKES)
    for row in asked:
        if row.stock:
            check(row, inputs)
            if inputs.data_root is not None and not inputs.skip_broken:
                check_videos(row, inputs.data_root, config.limit)


def check(row: Benchmark, inputs: Inputs) -> None:
    """Find what is wrong with a benchmark's data without lmms-eval, which would try five times, two seconds apart.

    Raises:
        ConfigError: its data come from the hub, and nothing says where they are.
        DataError: they are missing, incomplete or of another size.
    """
    if not row.stock:
        folder = row.folder / "data"
        if folder.is_dir():
            check_data(folder)
    elif inputs.data_root is not None:
        check_files(lookalike.counted(row, inputs.data_root), inputs.data_root, whole=not inputs.skip_broken)
    elif not is_online():
        raise ConfigError(
            f"{row.task} needs {row.dataset} of the hub; give --data-root DIR (made by: "
            f"meteor-bench data fetch --task {row.task} --root DIR), or --online"
        )


def index(rows: Iterable[Benchmark], folders: Iterable[Path] = ()) -> Any:
    """lmms-eval's task manager for these benchmarks.

    Args:
        folders: searched for tasks besides our own.

    Raises:
        UnknownNameError: a task is nowhere.
    """
    rows = list(rows)
    stock = dict.fromkeys(root.stock_folder(row.task) for row in rows if row.stock)
    own = dict.fromkeys(row.tasks for row in rows if not row.stock)
    found = task_manager((*own, *folders, *stock))
    for row in rows:
        if row.task not in found.all_tasks:
            raise UnknownNameError("task", row.task, found.all_tasks)
    return found


@contextlib.contextmanager
def opened(row: Benchmark, manager: Any, inputs: Inputs) -> Iterator[Any]:
    """A benchmark's task object, made anew: some add up over calls. Its videos are found inside the block only.

    Raises:
        ConfigError, DataError: as for `check`; or lmms-eval cannot load the data.
    """
    check(row, inputs)
    row = lookalike.counted(row, inputs.data_root)
    from lmms_eval.tasks import get_task_dict
    from PIL.Image import DecompressionBombError
    from tenacity import RetryError

    with contextlib.ExitStack() as stack:
        inside: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if row.stock and inputs.data_root is not None:
            stack.enter_context(root.entered(row, inputs.data_root))
            inside = contextlib.chdir(inputs.data_root)
        try:
            with Quiet(), inside, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what compiling lmms-eval's own functions says is not ours to mend
                if row.stock or inputs.skip_broken:
                    task = made(row.task, manager, looking=not inputs.skip_broken)
                else:
                    (task,) = get_task_dict([row.task], manager, "simple").values()
        except RetryError as error:
            # What lmms-eval met five times while loading.
            cause = error.last_attempt.exception()
            raise _not_made(row, cause, inputs) from cause
        except DecompressionBombError as error:
            raise _not_made(row, error, inputs) from error
        except (ArithmeticError, AttributeError, LookupError, OSError, SyntaxError, TypeError, ValueError) as error:
            raise _not_made(row, error, inputs) from error
        except ImportError as error:
            raise DataError(f"{row.task}: lmms-eval's task needs a package: {error}; install it") from error
        found = len(task.eval_docs)
        if found != row.n:
            raise DataError(
                f"{row.task}: {found} documents in {row.dataset}, the table says {row.n}; fetch the data again"
            )
        if task.dataset_no_image is not task.dataset:
            for split, rows in task.dataset_no_image.items():
                task.dataset_no_image[split] = Rows(rows)
        # Filters go through the documents beside the answers: AI2D's would decode every picture once more.
        task.task_docs = task.eval_docs_no_media
        yield task


def _not_made(row: Benchmark, cause: BaseException | None, inputs: Inputs) -> DataError:
    """lmms-eval opens the first document's picture by itself, and GQA's all."""
    from PIL import UnidentifiedImageError

    said = " ".join(str(cause).split())
    if isinstance(cause, ArithmeticError | AttributeError | LookupError | TypeError | ValueError):
        # The first row without a picture, a question of another kind, a column that is not there.
        said = f"its rows are not what the task expects ({type(cause).__name__}: {said}); {inputs.remedy(row)}"
    why = f"{row.task}: {row.dataset}: {said}"
    if isinstance(cause, UnidentifiedImageError | SyntaxError):
        why = f"{row.task}: {row.dataset}: a picture without which the task cannot be made is of no known format"
        why += f"; {inputs.remedy(row)}"
    return DataError(why)
