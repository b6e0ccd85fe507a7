"""A model under a method, ready to answer requests; the one thing that evaluation and latency runs talk to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from threading import Event, Lock, RLock
from typing import Any, NamedTuple

import torch

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.clock import Clock
from meteor_bench.core.errors import (
    MediaError,
    UnsupportedError,
)
from meteor_bench.core.match import Measure, to_first_token
from meteor_bench.core.model import (
    PLAIN,
    VLM,
    Look,
    Prompt,
)
from meteor_bench.core.processing import Clip
from meteor_bench.core.pruner import Pruner
from meteor_bench.core.request import FAILED, Answer, Request
from meteor_bench.core.stops import cut
from meteor_bench.engine.batches import (
    Batch,
    Question,
    batches,
    most_at_once,
)
from meteor_bench.engine.encode import Towered, encode
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.fuse import Visual, embed_questions, fuse
from meteor_bench.engine.gauge import Gauge, Shape, shape_of
from meteor_bench.engine.generate import Generation, Likelihood, answer, score
from meteor_bench.engine.match_budget import Resolver
from meteor_bench.engine.prefetch import Prefetcher
from meteor_bench.engine.prefill import Prefix, prefix
from meteor_bench.engine.text_only import blank
from meteor_bench.engine.thread_pool import Workers, share_out
from meteor_bench.utils.plain_text import one_line

__all__ = ["Session", "Target"]

IMAGES_AT_ONCE = 16
_NOTHING = Look(torch.empty(0), PLAIN)  # what a question without a picture shows
SHORT = 4  # frames of a clip that is treated as an image is; longer ones are in memory alone


class Target(NamedTuple):
    """A budget that each shape of sample has of its own.

    Attributes:
        measure: what the ratio is of.
        ratio: fraction of it to remove.
        title: of the method on its model, for messages.
    """

    measure: Measure
    ratio: float
    title: str


class _Ready(NamedTuple):
    """An image with the questions about it, as the engine takes them.

    Attributes:
        alone: it is a long video, of which no second one is in memory.
    """

    requests: list[Request]
    look: Look
    prompts: list[Prompt]
    alone: bool


@dataclass(frozen=True)
class _Images:
    """Some images after encoding: their questions, and what those share (None: fusion depends on the question).

    Without pictures nothing was encoded, there is no shape, and the engine is one that asks no method.
    """

    questions: list[Question]
    towered: Towered | None
    shared: Visual | Prefix | None
    engine: Engine
    shape: Shape | None

    def batches(self, size: int) -> Iterator[Batch]:
        """The questions in batches of that size."""
        width = self.shared.width if isinstance(self.shared, Prefix) else 0
        return batches(self.questions, size, most_at_once(self.questions, width, size))


class Session:
    """Owns the model, the method and the budget of a run.

    Args:
        positions, seed, facts: as for `Engine`.
        provenance: what records say about this session.
        measured: tell of each answer also what its selection took and what the reference model would take, in FLOPs.
        target: give each shape of sample the budget that meets this; ``budget`` is then only where the search starts,
            and answers are measured.
    """

    def __init__(
        self,
        vlm: VLM,
        pruner: Pruner,
        budget: TokenBudget,
        *,
        positions: str | None = None,
        seed: int = 0,
        facts: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
        measured: bool = False,
        target: Target | None = None,
    ) -> None:
        self.vlm, self.pruner, self.budget = vlm, pruner, budget
        self.clock = Clock(vlm.device)
        self.engine = Engine(vlm, pruner, budget, positions=positions, seed=seed, facts=facts, clock=self.clock)
        self.provenance: dict[str, Any] = dict(provenance or {})
        self.gauge = Gauge(self.engine) if measured or target else None
        self._resolver = Resolver(self.gauge, *target) if self.gauge and target else None
        self._engines: dict[float, Engine] = {}
        self._making = RLock()

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.vlm.device

    @cached_property
    def _text_engine(self) -> Engine:
        """For questions without a picture, of which there is nothing to prune."""
        return Engine(self.vlm, Pruner(), TokenBudget(1.0), clock=self.clock)

    @property
    def frames(self) -> int:
        """How many the model takes of a video, where the user does not say."""
        return self.vlm.processor.frames

    @property
    def searches(self) -> bool:
        """Whether each shape of sample has a budget of its own, searched when the first such sample comes."""
        return self._resolver is not None

    def start_at(self, request: Request) -> None:
        """Let `engine`, `budget` and what the gauge looks at be those of this sample's shape.

        Raises:
            BudgetError: the target is out of reach there.
        """
        if self.gauge is None or not request.media():
            return
        look = self.look(request)
        self.gauge.show(shape_of(look), look.pixels)
        self.engine = self.engine_for(look, self.vlm.processor.prompt(request.question))
        self.budget = self.engine.budget

    def engine_for(self, look: Look, prompt: Prompt) -> Engine:
        """The method at the budget of a sample: everyone's, or that of its shape.

        Raises:
            BudgetError: the target is out of reach there.
        """
        if self._resolver is None:
            return self.engine
        budget = self._resolver.budget(shape_of(look), len(prompt.after))
        if budget == self.engine.budget:
            return self.engine
        with self._making:
            if budget.keep not in self._engines:
                self._engines[budget.keep] = self.engine.at(budget)
            return self._engines[budget.keep]

    @torch.inference_mode()
    def answer(
        self,
        requests: Sequence[Request],
        on_answer: Callable[[Request, Answer], None],
        batch_size: int = 64,
        reuse: bool = True,
    ) -> None:
        """Answer all requests, in an order of our own; ``on_answer`` is called as soon as each is known.

        Args:
            batch_size: questions at once.
            reuse: encode each distinct image once and extend its cached prefix by each question. The answers are
                the same without.
        """
        one_at_a_time = Lock()

        def use(images: _Images, batch: Batch, common: Mapping[str, float]) -> None:
            shared, rows = self._shared_for(images, batch)
            asked = [question.request for question in batch.questions]
            generations = answer(
                images.engine,
                shared,
                rows,
                batch.prompts,
                batch.new_tokens,
                share=batch.share,
                until=[request.until for request in asked],
                limits=[request.max_new_tokens for request in asked],
            )
            own = {name: ms / len(batch.questions) for name, ms in self.clock.read_ms().items()}
            self._check_method()
            for question, generation in zip(batch.questions, generations, strict=True):
                if not generation.finite and batch.share > 1:
                    # Nothing times zero is a number: what one question spoils, those that share its row have too.
                    use(images, Batch([question], 1), common)
                    continue
                self._measure(images, question, generation)
                found = self._answer(question.request, generation, common, own)
                with one_at_a_time:
                    on_answer(question.request, found)

        self._ask_all(requests, batch_size, reuse, use)

    @torch.inference_mode()
    def loglikelihood(
        self, requests: Sequence[Request], continuations: Sequence[str], batch_size: int = 64
    ) -> list[Likelihood]:
        """How likely each continuation is after its request, in the order given; images are shared.

        Raises:
            UnsupportedError: an empty continuation.
        """
        wanted: dict[int, tuple[int, ...]] = {}
        for request, text in zip(requests, continuations, strict=True):
            wanted[id(request)] = self.vlm.processor.continuation(text)
            if not wanted[id(request)]:
                raise UnsupportedError(f"request {request.key} asks for the likelihood of an empty answer")
        found: dict[int, Likelihood] = {}

        def use(images: _Images, batch: Batch, common: Mapping[str, float]) -> None:
            shared, rows = self._shared_for(images, batch)
            asked = [wanted[id(question.request)] for question in batch.questions]
            scores = score(images.engine, shared, rows, batch.prompts, asked, share=batch.share)
            self._check_method()
            for question, value in zip(batch.questions, scores, strict=True):
                if not math.isfinite(value.loss):
                    raise UnsupportedError(f"{question.request.key}: {self._not_finite()}")
            found.update({id(q.request): value for q, value in zip(batch.questions, scores, strict=True)})

        self._ask_all(requests, batch_size, True, use)
        return [found[id(request)] for request in requests]

    def _ask_all(
        self,
        requests: Sequence[Request],
        batch_size: int,
        reuse: bool,
        use: Callable[[_Images, Batch, Mapping[str, float]], None],
    ) -> None:
        """Hand all requests to ``use``, in batches about some images at a time; on a CPU several at once.

        Images are made ready while the model is at those before them, and gone before the next are encoded. ``use``
        is also told each question's share (ms) of what the encoding took. Without reuse each has an image of its own.
        """
        groups: dict[str, list[Request]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(request.media_key if reuse else f"{i}", []).append(request)
        # What watches sees all that happens, in one order.
        watched = self.engine.observer is not None or self.engine.recorder is not None
        workers = Workers.on(self.device, 1 if watched else len(groups))
        calls = [partial(self._ready, group) for group in groups.values()]

        def work(members: list[_Ready], ended: Event) -> None:
            self.clock.read_ms()
            with self.engine.watch.looking():
                parts = self._by_budget(members)
                while parts:
                    engine, part = parts.pop(0)
                    # A long video under several budgets is held until the last of them has encoded it.
                    images = self._look(engine, part, reuse, None if parts else prefetcher.release)
                    common = {name: ms / len(images.questions) for name, ms in self.clock.read_ms().items()}
                    for batch in images.batches(batch_size):
                        if ended.is_set():
                            return
                        use(images, batch, common)

        with Prefetcher(calls, IMAGES_AT_ONCE, lambda ready: ready.alone) as prefetcher:
            share_out(_by_shape(prefetcher, workers.portion(len(groups), IMAGES_AT_ONCE)), work, workers)

    def _ready(self, group: list[Request]) -> _Ready:
        """Decode and scale an image, tokenise its questions: all that needs no model."""
        media, processor = group[0].media(), self.vlm.processor
        if not media:
            texts = [Prompt((), processor.words(request.question)) for request in group]
            return _Ready(group, _NOTHING, texts, False)
        prompts = [processor.prompt(request.question) for request in group]
        return _Ready(group, self._taken(group[0], media), prompts, isinstance(media, Clip) and len(media) > SHORT)

    def look(self, request: Request) -> Look:
        """What the model is shown of a request.

        Raises:
            MediaError: it cannot be read, or the model cannot take it.
        """
        return self._taken(request, request.media())

    def _taken(self, request: Request, media: Sequence[Any]) -> Look:
        """The processor's tensors; what it (mostly the library's) says of media that it cannot take names the row."""
        try:
            look = self.vlm.processor.look(media)
            frames, _, *side = look.pixels.shape
            grid = self.vlm.grid(frames, *side)
            mixed = self.vlm.at(look.scene).towers is not self.vlm.towers
            if mixed and self.engine.input_grid(grid) not in (None, grid):
                raise UnsupportedError(f"{type(self.pruner).__name__} cannot shrink images of unequal size together")
            return look
        except (ArithmeticError, LookupError, RuntimeError, TypeError, UnsupportedError, ValueError) as error:
            task, _, row = request.key.partition("/")
            sizes = ", ".join(f"{one.width}x{one.height}" for one in media[:4])
            said = one_line(error)
            raise MediaError(
                f"{task}: row {row}: '{self.vlm.name}' cannot take its pictures ({sizes} pixels): {said}",
                request.media_key,
            ) from error

    def _by_budget(self, members: list[_Ready]) -> list[tuple[Engine, list[_Ready]]]:
        """Images of equal shape under the budgets of their questions; an image stands under each of its own."""
        if self._resolver is None or members[0].look is _NOTHING:
            return [(self.engine, members)]
        parts: dict[Engine, list[_Ready]] = {}
        for ready in members:
            own: dict[Engine, tuple[list[Request], list[Prompt]]] = {}
            for request, prompt in zip(ready.requests, ready.prompts, strict=True):
                requests, prompts = own.setdefault(self.engine_for(ready.look, prompt), ([], []))
                requests.append(request)
                prompts.append(prompt)
            for engine, (requests, prompts) in own.items():
                parts.setdefault(engine, []).append(ready._replace(requests=requests, prompts=prompts))
        members.clear()
        return list(parts.items())

    def _look(self, engine: Engine, members: list[_Ready], reuse: bool, release: Callable[[], None] | None) -> _Images:
        """Encode images of equal shape and run what their questions share; ``release`` a long video, if it is done."""
        vlm = self.vlm
        questions = [
            Question(row, request, prompt)
            for row, ready in enumerate(members)
            for request, prompt in zip(ready.requests, ready.prompts, strict=True)
        ]
        keys, scene, alone = [m.requests[0].media_key for m in members], members[0].look.scene, members[0].alone
        shape = shape_of(members[0].look)
        pixels = torch.stack([ready.look.pixels for ready in members])
        members.clear()
        if pixels.numel() == 0:
            return _Images(questions, None, blank(self._text_engine, keys), self._text_engine, None)
        try:
            towered = encode(engine, pixels.to(vlm.device, vlm.dtype), keys, scene)
        finally:
            del pixels
            if alone and release is not None:
                release()
        if engine.points.fuse is not None and engine.points.fuse.text:
            return _Images(questions, towered, None, engine, shape)
        visual = fuse(engine, towered)
        shared = prefix(engine, visual, questions[0].prompt.before) if reuse else visual
        return _Images(questions, towered, shared, engine, shape)

    def _shared_for(self, images: _Images, batch: Batch) -> tuple[Visual | Prefix, Sequence[int]]:
        """What a batch of questions extends, and the row of each in it."""
        if images.shared is not None:
            return images.shared, batch.rows
        assert images.towered is not None  # what was encoded is not shared
        # Fusion for a method whose choice depends on the question.
        text = embed_questions(images.engine, batch.prompts)
        return fuse(images.engine, images.towered, batch.rows, text), range(len(batch.questions))

    def _measure(self, images: _Images, question: Question, generation: Generation) -> None:
        """Add to an answer's trace what the gauge knows of its shape."""
        if self.gauge is None:
            return
        trace = generation.trace
        if images.shape is None:  # nothing to prune
            trace.reference_flops = int(to_first_token(trace.flops))
        else:
            self.gauge.complete(trace, images.shape, images.engine.budget, len(question.prompt.after))

    def _answer(
        self, request: Request, generation: Generation, common: Mapping[str, float], own: Mapping[str, float]
    ) -> Answer:
        text = cut(self.vlm.processor.decode(generation.ids), request.until)
        latency = {name: common.get(name, 0.0) + own.get(name, 0.0) for name in {*common, *own}}
        stages = {"encode": sum(ms for name, ms in latency.items() if name.startswith("encode."))}
        stages |= {name: latency.get(name, 0.0) for name in ("fuse", "prune", "prefill", "decode")}
        stages["total"] = sum(latency.values())
        trace = generation.trace
        if not generation.finite:
            task, _, row = request.key.partition("/")
            failure = f"{FAILED}{task}: row {row}: {self._not_finite()}"
            return Answer("", trace.as_record(), stages, trace.flops, (failure,))
        return Answer(text, trace.as_record(), stages, trace.flops, trace.notes)

    def _not_finite(self) -> str:
        dtype = str(self.vlm.dtype).removeprefix("torch.")
        wider = "" if dtype == "float32" else "; take a wider --dtype, say float32"
        return f"the model's logits are not finite in {dtype} (NaN or infinity){wider}"

    def _check_method(self) -> None:
        """Whether what the method gave at its points holds.

        Raises:
            UnsupportedError: it does not; names the method and the first such point.
        """
        wrong = self.engine.watch.read()
        if wrong:
            raise UnsupportedError(f"{type(self.pruner).__name__} gives {wrong}")


def _by_shape(images: Iterable[_Ready], at_once: int) -> Iterator[list[_Ready]]:
    """So many images at a time, those of equal shape together, each long video alone, when it is its turn."""
    shapes: dict[tuple[object, ...], list[_Ready]] = {}
    waiting = 0
    for ready in images:
        if ready.alone:
            alone = [ready]
            del ready  # whoever empties the list holds the last of it
            yield alone
            continue
        shapes.setdefault((ready.look.pixels.shape, ready.look.scene), []).append(ready)
        del ready
        waiting += 1
        if waiting == at_once:
            yield from shapes.values()
            shapes, waiting = {}, 0
    yield from shapes.values()
