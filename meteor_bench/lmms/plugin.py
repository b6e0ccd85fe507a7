"""The model class that lmms-eval drives: requests in, answers with token counts and latency out.

Made with a session by our own runner, or by lmms-eval's command line from its model arguments:

    lmms-eval --model meteor_bench --model_args method=meteor,ratio=0.76 --tasks pocket_pope --include_path ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms

from meteor_bench.core.errors import (
    ConfigError,
    MediaError,
    UnsupportedError,
)
from meteor_bench.core.request import FAILED
from meteor_bench.data.suites import known
from meteor_bench.lmms.inputs import HERE, Inputs
from meteor_bench.lmms.media import Broken, Documents
from meteor_bench.lmms.task_rows import unasked

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest

    from meteor_bench.config.run_config import RunConfig
    from meteor_bench.core.request import Answer, Request
    from meteor_bench.engine.session import Session
    from meteor_bench.lmms.journal import Journal

__all__ = ["Broken", "MeteorBench", "Progress", "SampleCounts", "manifest"]

# Tasks that name no limit expect the answer to end by itself; lmms-eval's own models stop here too.
MAX_NEW_TOKENS = 1024

Progress = Callable[[str, int, int], None]


def manifest() -> ModelManifest:
    """What lmms-eval finds under the entry point ``lmms_eval.models``."""
    # Here, because that package calls this function while it is being imported.
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="meteor_bench", simple_class_path=f"{__name__}.{MeteorBench.__name__}")


@dataclass
class SampleCounts(TokenCounts):  # type: ignore[misc]
    """lmms-eval's token counts and, in the same place of its samples, everything we measured.

    Attributes:
        measured: tokens, latency_ms, flops, notes, media_key, the answer before any filter, and whether there is one.
    """

    measured: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The form in which lmms-eval stores it."""
        return {**super().to_dict(), **self.measured}


class MeteorBench(lmms):  # type: ignore[misc]
    """A model with a pruning method.

    Args:
        session: the model, ready; None to build it from the other arguments.
        journal: where answers are kept as they are produced, and taken from when they are known.
        on_progress: called with task, number of answers known, number wanted.
        outside: entered while our own code runs (to lift the silence around lmms-eval).
        batch_size: requests answered together.
        reuse: let questions share what depends on the picture alone.
        deterministic: answer each question by itself, whatever the other two say.
        inputs: how videos are read, and what becomes of broken pictures; without a session the arguments say that too.
        arguments: fields of `RunConfig` and parameters of the method, as lmms-eval's ``--model_args`` gives them.
    """

    is_simple = True

    def __init__(
        self,
        session: Session | None = None,
        *,
        journal: Journal | None = None,
        on_progress: Progress | None = None,
        outside: Callable[[], AbstractContextManager[None]] = nullcontext,
        batch_size: int | str = 1,
        reuse: bool = True,
        deterministic: bool = False,
        inputs: Inputs = HERE,
        **arguments: Any,
    ) -> None:
        super().__init__()
        if session is None:
            config = _config({**arguments, "deterministic": deterministic})
            session, inputs = _build(config), Inputs.of(config)
        self._session = session
        self._journal = journal
        self._on_progress = on_progress
        self._outside = outside
        self._batch_size = _whole(batch_size)
        self._reuse = reuse
        self._alone = deterministic
        self._inputs = inputs

    @property
    def device(self) -> Any:
        """Where the model lives; lmms-eval gathers results there."""
        return self._session.device

    def clean(self) -> None:
        """Keep the model: lmms-eval would delete it after each benchmark."""

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Answer all requests, in their order; known answers are taken from the journal."""
        asked = list(self.requests(requests))
        answers: dict[str, Answer] = {}
        # Repeats and padding of several ranks come as the same request: decoding is greedy, once is enough.
        wanted = {request.key: request for request in asked if not isinstance(request, Broken)}
        broken: dict[str, MediaError] = {}

        def on_answer(request: Request, answer: Answer) -> None:
            if self._journal is not None:
                self._journal.add(request, answer)
            answers[request.key] = answer
            report()

        def report() -> None:
            if self._on_progress is not None:
                self._on_progress(requests[0].task_name, len(answers), len(wanted))

        with self._outside():
            for key, request in wanted.items():
                known = self._journal.get(request) if self._journal is not None else None
                if known is not None:
                    answers[key] = known
            report()
            while pending := [r for key, r in wanted.items() if key not in answers and r.media_key not in broken]:
                try:
                    if self._alone:
                        self._session.answer(pending[:1], on_answer, 1, False)
                    else:
                        self._session.answer(pending, on_answer, self._batch_size, self._reuse)
                except MediaError as error:
                    if isinstance(error, Broken) and not self._inputs.skip_broken:
                        raise
                    if not self._inputs.skip_broken:
                        raise MediaError(f"{error}{self._inputs.otherwise}", error.media_key) from error
                    broken[error.media_key] = error

        def result(request: Request | Broken) -> GenerationResult:
            if isinstance(request, Broken):
                return _failure(request)
            answer = answers.get(request.key)
            return _failure(broken[request.media_key]) if answer is None else _result(request, answer)

        return [result(request) for request in asked]

    def loglikelihood(self, requests: list[Instance]) -> list[GenerationResult]:
        """The loss of each continuation and whether greedy decoding gives it.

        lmms-eval's multiple choice takes the option of the lowest value, so this is a loss and no likelihood.
        """
        score = getattr(self._session, "loglikelihood", None)
        if score is None:
            raise UnsupportedError(f"task {requests[0].task_name} compares likelihoods; this model only generates")
        continuations = []
        for instance in requests:
            continuation, (doc_id, task, split) = instance.args[1], instance.args[3:6]
            if callable(continuation):
                continuation = continuation(self.task_dict[task][split][doc_id])
            continuations.append(continuation)
        with self._outside():
            asked = list(self.requests(requests))
            for request in asked:
                if isinstance(request, Broken):
                    raise request
            scored = score(asked, continuations, self._batch_size)
        return [GenerationResult(text=(loss, is_greedy)) for loss, is_greedy in scored]

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Not offered: the engine answers single questions."""
        raise UnsupportedError(f"task {requests[0].task_name} asks in several rounds; this model answers one question")

    def requests(self, instances: Sequence[Instance]) -> Iterator[Request | Broken]:
        """lmms-eval's requests in the form that a session takes; `Broken` for those without media, if allowed.

        Raises:
            Broken: a document shows nothing that could be read. Mostly that is known only when it is read.
        """
        from meteor_bench.core.request import Request

        documents: dict[tuple[str, str], Documents] = {}
        for instance in instances:
            question, second, to_visual, doc_id, task, split = instance.args[:6]
            generation = second if isinstance(second, Mapping) else {}
            _check_greedy(task, generation)
            place = (task, split)
            if place not in documents:
                frames = self._inputs.frames or self._session.frames
                remedy = self._inputs.remedy(known(task))
                data = self.task_dict[task][split]
                documents[place] = Documents(task, data, frames, remedy, self._inputs.otherwise, self._inputs.data_root)
            until = generation.get("until") or ()
            try:
                if (why := unasked(question)) is not None:
                    raise documents[place].unasked(doc_id, why)
                media = documents[place].media(doc_id, to_visual)
            except Broken as error:
                if not self._inputs.skip_broken:
                    raise
                yield error
                continue
            yield Request(
                key=f"{task}/{doc_id}" + (f"/{instance.idx}" if instance.idx else ""),
                media_key=media.key,
                media=media.read,
                question=question,
                max_new_tokens=int(generation.get("max_new_tokens", MAX_NEW_TOKENS)),
                until=(until,) if isinstance(until, str) else tuple(until),
            )


def _result(request: Request, answer: Answer) -> GenerationResult:
    tokens = answer.tokens
    measured = {
        "tokens": tokens,
        "latency_ms": answer.latency_ms,
        "flops": answer.flops,
        "notes": list(answer.notes),
        "media_key": request.media_key,
        "raw": answer.text,
        "failed": any(note.startswith(FAILED) for note in answer.notes),
    }
    read = tokens.get("llm_input", 0) + tokens.get("text", 0)
    return GenerationResult(answer.text, SampleCounts(read, tokens.get("answer"), measured=measured))


def _failure(error: MediaError) -> GenerationResult:
    """An empty answer in the place of one that cannot be given."""
    measured = {
        "tokens": {},
        "latency_ms": {},
        "flops": {},
        "notes": [f"{FAILED}{' '.join(str(error).split())}"],
        "media_key": error.media_key,
        "raw": "",
        "failed": True,
    }
    return GenerationResult("", SampleCounts(0, 0, measured=measured))


def _check_greedy(task: str, generation: Mapping[str, Any]) -> None:
    if (generation.get("do_sample") and generation.get("temperature", 1) > 0) or generation.get("num_beams", 1) > 1:
        raise UnsupportedError(f"task {task} asks for sampling or beams; this model decodes greedily")


def _whole(batch_size: int | str) -> int:
    if not str(batch_size).isdecimal() or int(batch_size) < 1:
        raise ConfigError(f"batch_size must be 1 or more, not {batch_size}")
    return int(batch_size)


def _config(arguments: Mapping[str, Any]) -> RunConfig:
    """The run that lmms-eval's model arguments describe."""
    from meteor_bench.config.run_config import load
    from meteor_bench.lmms.model_args import settings

    return load(None, settings(arguments))


def _build(config: RunConfig) -> Session:
    from meteor_bench.data.calibration import calibration_requests
    from meteor_bench.engine.factory import blueprint

    return blueprint(config).session(calibration_requests)
