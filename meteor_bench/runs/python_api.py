"""What `meteor_bench` offers to Python: models, sessions, runs, sweeps, and their records as pandas frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meteor_bench.config import run_config, sweep_config
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import ConfigError, UnsupportedError
from meteor_bench.core.match import Measure
from meteor_bench.core.model import VLM
from meteor_bench.core.pruner import Pruner
from meteor_bench.core.request import Answer, Request
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.data.calibration import calibration_requests
from meteor_bench.engine.load_model import load_model as load_card
from meteor_bench.engine.load_model import (
    random_model,
    resolve_device,
    resolve_dtype,
    resolve_model,
)
from meteor_bench.engine.make_method import checked, make_pruner
from meteor_bench.engine.ready import ready
from meteor_bench.utils.environment import quiet_libraries

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from meteor_bench.records.schema import RunRecord

__all__ = ["Left", "Session", "load_model", "load_runs", "load_tables", "pruned", "run", "sweep"]


def load_model(
    model: str = "pocket",
    *,
    device: str = "auto",
    dtype: str = "auto",
    source: str | None = None,
    random_weights: bool = False,
) -> VLM:
    """A model with its weights, to be shared by several sessions.

    Args:
        model: row of `list models`, or a checkpoint's folder or hub id.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto" (float32 on a CPU, bfloat16 elsewhere), "float32", "bfloat16", "float16".
        source: folder or hub id of other weights for a row.
        random_weights: build a row at its real size without any file, for counting and timing.

    Raises:
        MeteorBenchError: there is no such model here, or its checkpoint is broken.
    """
    quiet_libraries()
    where = resolve_device(device)
    card = resolve_model(model, Pruner(), source)
    load = random_model if random_weights else load_card
    return load(card, where, resolve_dtype(dtype, where), source)


@dataclass(frozen=True)
class Left:
    """What is left at one point of one sample.

    Attributes:
        stage: "encode" or "decode" after a pruning point there, "tower" where an encoder ends, "fuse" after fusion.
        point: index among the method's points of that stage.
        tower: whose tokens; "fused" for the joined sequence, "llm" in the language model.
        group: for each cell of the unpruned grid (t·h·w, raster order) the cell that stands for it now: itself, the
            one it was merged into, or -1 where it was dropped.
        grid: its extent, t frames, h rows and w columns.
    """

    stage: str
    point: int
    tower: str
    group: tuple[int, ...]
    grid: Grid

    @property
    def kept(self) -> int:
        """Tokens left."""
        return len({cell for cell in self.group if cell >= 0})


class Session:
    """A model under a method at a ratio.

    Args:
        model: a name as for `load_model`, or what that gave. A method that was made for encoders with a projector
            each (meteor) takes that variant of a model that is given by name.
        method: row of `list methods`, a composition ("evoprune+fastv"), a file ("./loudest.py"), or a `Pruner`.
        ratio: fraction of the visual tokens to remove, in [0, 1).
        match: what the ratio is of: "tokens" (after the last prune), "layer-mean", "kv" or "flops".
        parameters: hyperparameters of a method that is given by name.
        stages, positions, seed: as the flags of `meteor-bench run`.
        calibration: gives the samples on which an adaptive method measures its constants; by default the shipped
            calibration set.
        device, dtype: where a model that is given by name shall run; see `load_model`. Another one runs where it lies.

    Raises:
        MeteorBenchError: anything that does not exist or does not fit together.
    """

    def __init__(
        self,
        model: str | VLM = "pocket",
        method: str | Pruner = "none",
        ratio: float = 0.0,
        *,
        parameters: Mapping[str, Any] | None = None,
        match: Measure = "tokens",
        stages: Sequence[str] | None = None,
        positions: str | None = None,
        seed: int = 0,
        calibration: Callable[[], Sequence[Request]] = calibration_requests,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        quiet_libraries()
        pruner = make_pruner(method, parameters, stages) if isinstance(method, str) else checked(method)
        TokenBudget.from_ratio(ratio)  # before anything is loaded
        run_config.check("match", match)
        if not isinstance(model, str) and (device, dtype) != ("auto", "auto"):
            raise ConfigError("a model in memory runs where it lies; leave device and dtype out, or move it first")
        if isinstance(model, str):
            where = resolve_device(device)
            model = load_card(resolve_model(model, pruner), where, resolve_dtype(dtype, where), None)
        name = method if isinstance(method, str) else type(method).__name__
        self._session = ready(
            model, pruner, ratio, match, method=name, positions=positions, seed=seed, calibration=calibration
        )
        self._asked = 0

    @property
    def model(self) -> VLM:
        """The model; it is never changed, so that several sessions may share it."""
        return self._session.vlm

    def answer(self, media: Image | Sequence[Image], question: str, *, max_new_tokens: int = 64) -> Answer:
        """The answer to a question about a picture, several pictures, or the frames of a clip (RGB PIL images).

        Raises:
            UnsupportedError: media that the model cannot take.
        """
        from PIL.Image import Image

        frames = list(media) if isinstance(media, Sequence) and not isinstance(media, str) else [media]
        for one in frames:
            if not isinstance(one, Image):
                raise UnsupportedError(f"a picture is a PIL image, not a {type(one).__name__}; Image.open reads a file")
        self._asked += 1
        key = f"session/{self._asked}"
        found: list[Answer] = []
        request = Request(key, key, lambda: frames, question, max_new_tokens)
        self._session.answer([request], lambda _, answer: found.append(answer), batch_size=1)
        return found[0]

    def trace(self, media: Image | Sequence[Image], question: str) -> list[Left]:
        """What is left of the visual tokens at each point, in the order in which they are reached."""
        seen: list[Left] = []

        def record(stage: str, point: int, tower: str, tokens: Tokens) -> None:
            for row in tokens.group:
                seen.append(Left(stage, point, tower, tuple(row.tolist()), tokens.grid))

        with self._session.engine.instrumented(recorder=record):
            self.answer(media, question, max_new_tokens=1)
        return seen


@contextmanager
def pruned(model: Any, processor: Any, method: str | Pruner, ratio: float, **settings: Any) -> Iterator[Session]:
    """A method on a model of transformers that you hold in memory, which stays as it is.

        with pruned(model, processor, method="visionzip", ratio=0.5) as session:
            print(session.answer(picture, "What is on the table?").text)

    Inside and after the block ``model`` gives what it gave before: its weights are shared, not copied, and nothing of
    it is changed.

    Args:
        model: LlavaForConditionalGeneration, LlavaNextForConditionalGeneration, LlavaOnevisionForConditionalGeneration,
            Qwen2_5_VLForConditionalGeneration, DeepseekVLHybridForConditionalGeneration, or another class of
            transformers that has an adapter; on one device, its weights not quantised.
        processor: transformers' processor of that model.
        method, ratio, settings: as for `Session`.

    Raises:
        ModelError: there is no adapter for the model's class.
        MeteorBenchError: method, model and ratio do not fit.
    """
    from meteor_bench.models.held import held

    yield Session(held(model, processor), method, ratio, **settings)


def run(**settings: Any) -> Path:
    """One run, as `meteor-bench run` with these settings does it; the run's folder.

    Args:
        settings: fields of `meteor_bench.config.run_config.RunConfig`: ``run(method="fastv", ratio=0.5, limit=50)``.

    Raises:
        MeteorBenchError: what is wrong and what would be right.
    """
    from meteor_bench.runs.job import execute

    return execute(run_config.load(None, settings)).path


def sweep(**settings: Any) -> list[Path]:
    """Methods x ratios x models x suites x seeds, as `meteor-bench sweep` does them; the folders of those that ended.

    Args:
        settings: fields of `meteor_bench.config.sweep_config.SweepConfig`:
            ``sweep(methods=["fastv"], ratios=[0.5, 0.76])``.

    Raises:
        MeteorBenchError: what is wrong and what would be right.
    """
    from meteor_bench.runs.sweep import runner

    return [result.path for result in runner.sweep(sweep_config.load(None, settings)) if result.path is not None]


def load_runs(*folders: str | Path) -> pd.DataFrame:
    """Records as a frame: a row for each run and benchmark, runs found in the folders and below them.

    Columns: run, model, method, ratio, match (what the ratio is of), seed, task, group, score (0 to 100), n; mean
    visual tokens of the run at the language model's input and after the last pruning point (tokens_llm_input,
    tokens_final), the fraction removed (realised_ratio; of each measure realised_tokens, realised_layer-mean,
    realised_kv, realised_flops), and mean FLOPs by stage (flops_fuse, flops_prefill, ...).

    Raises:
        RecordError: a folder holds no run, or a record is broken.
    """
    import pandas as pd

    from meteor_bench.report.runs import load

    rows = []
    for cell in load(*map(Path, folders)):
        for found in cell.runs:
            record = found.record
            for task in record.tasks:
                rows.append(
                    {
                        "run": str(found.path),
                        "model": record.model,
                        "method": record.config.label,
                        "ratio": record.config.ratio,
                        "match": record.config.match,
                        "seed": record.config.seed,
                        "task": task.task,
                        "group": task.group,
                        "score": task.score,
                        "n": task.n,
                        **_tokens(record),
                        **{f"flops_{stage}": flops for stage, flops in record.flops.items()},
                    }
                )
    return pd.DataFrame(rows)


def load_tables(*folders: str | Path) -> dict[str, pd.DataFrame]:
    """The numbers behind the tables of `report`, unrounded, as frames "accuracy", "tokens" and "latency".

    "accuracy" has a row for each setting (its seeds together) and benchmark, group and average, with the score, the
    difference to the unpruned model, and their 95 % intervals; see `report.accuracy.accuracy` for its columns, and
    `report.counts.tokens` and `report.times.latency` for the others'.

    Raises:
        RecordError: a folder holds no run, or a record is broken.
    """
    from meteor_bench.report.render import frames
    from meteor_bench.report.runs import load

    return frames(load(*map(Path, folders)))


def _tokens(record: RunRecord) -> dict[str, float]:
    if record.tokens is None:
        return {}
    tokens = record.tokens
    return {
        "tokens_llm_input": tokens.llm_input.mean,
        "tokens_final": tokens.final.mean,
        "realised_ratio": tokens.realised_ratio,
        **{f"realised_{measure}": share for measure, share in tokens.realised.items()},
    }
