"""A model under a method, ready to answer requests; the one thing that evaluation and latency runs talk to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from threading import Event, Lock, RLock
from typing import Any, NamedTuple

import torch

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.clock import Clock
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.match import Measure, to_first_token
from meteor_bench.core.model import VLM, Look, Prompt
from meteor_bench.core.pruner import Pruner
from meteor_bench.core.request import FAILED, Answer, Request
from meteor_bench.core.stops import cut
from meteor_bench.engine.batches import Batch, Question
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.gauge import Gauge, shape_of
from meteor_bench.engine.generate import Generation, Likelihood, answer, score
from meteor_bench.engine.images import Images, run_images
from meteor_bench.engine.match_budget import Resolver
from meteor_bench.engine.prefetch import Prefetcher
from meteor_bench.engine.prepare import Prepared, by_shape, look_at, prepare
from meteor_bench.engine.thread_pool import Workers, share_out

__all__ = ["Session", "Target"]

IMAGES_AT_ONCE = 16


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

        def use(images: Images, batch: Batch, common: Mapping[str, float]) -> None:
            shared, rows = images.shared_for(batch)
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

        def use(images: Images, batch: Batch, common: Mapping[str, float]) -> None:
            shared, rows = images.shared_for(batch)
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
        use: Callable[[Images, Batch, Mapping[str, float]], None],
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
        calls = [partial(prepare, self.engine, self.pruner, group) for group in groups.values()]

        def work(members: list[Prepared], ended: Event) -> None:
            self.clock.read_ms()
            with self.engine.watch.looking():
                parts = self._by_budget(members)
                while parts:
                    engine, part = parts.pop(0)
                    # A long video under several budgets is held until the last of them has encoded it.
                    images = run_images(engine, part, reuse, None if parts else prefetcher.release)
                    common = {name: ms / len(images.questions) for name, ms in self.clock.read_ms().items()}
                    for batch in images.batches(batch_size):
                        if ended.is_set():
                            return
                        use(images, batch, common)

        with Prefetcher(calls, IMAGES_AT_ONCE, lambda ready: ready.alone) as prefetcher:
            share_out(by_shape(prefetcher, workers.portion(len(groups), IMAGES_AT_ONCE)), work, workers)

    def look(self, request: Request) -> Look:
        """What the model is shown of a request.

        Raises:
            MediaError: it cannot be read, or the model cannot take it.
        """
        return look_at(self.engine, self.pruner, request, request.media())

    def _by_budget(self, members: list[Prepared]) -> list[tuple[Engine, list[Prepared]]]:
        """Images of equal shape under the budgets of their questions; an image stands under each of its own."""
        if members[0].look.pixels.numel() == 0:
            return [(self._text_engine, members)]
        if self._resolver is None:
            return [(self.engine, members)]
        parts: dict[Engine, list[Prepared]] = {}
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

    def _measure(self, images: Images, question: Question, generation: Generation) -> None:
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
