"""How fast questions are answered: ours, ours without sharing, and a stock lmms-eval model with the same weights.

    python scripts/accuracy_speed.py --rounds 3

All of them go through lmms-eval, task by task, and take turns in one process, in an order that rotates. Two suites:

- shared: questions of pocket_gqa and pocket_pope, 20 on each of 15 pictures, as GQA and POPE ask 18 to 30 (the
  benchmarks as shipped ask 5 on each of 60, for narrower intervals);
- unshared: the first question on each picture of four other benchmarks.

The stock model is what lmms-eval's own model classes are: pictures and prompts to embeddings by the model's own
forward, then transformers' `generate`, one request at a time (their default) or in batches sorted by length. Questions
a second count everything between the task object and its scores, without importing and loading. "Outside" is the part
of the wall time in which no thread is in a stage of a model's forward: lmms-eval, and whatever of pictures, prompts,
journal and counts is not done beside a forward. Processor times compare on a machine that others load, too.
"""

from __future__ import annotations

import argparse
import gc
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any, ClassVar

import numpy as np
import torch

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.clock import Clock
from meteor_bench.data.calibration import calibration_requests
from meteor_bench.data.suites import Benchmark, benchmark
from meteor_bench.engine.factory import blueprint
from meteor_bench.engine.session import Session
from meteor_bench.lmms import tasks
from meteor_bench.lmms.harness import Quiet, load_evaluator
from meteor_bench.lmms.inputs import HERE
from meteor_bench.lmms.journal import Journal
from meteor_bench.models.pocket.modules import PocketVLM, load_pocket
from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts import make_pocket_tasks

SUITES = {
    "shared": ("pocket_gqa", "pocket_pope"),
    "unshared": ("pocket_seed", "pocket_vqa", "pocket_docvqa", "pocket_ocrbench"),
}
WEIGHTS = Path(__file__).parents[1] / "meteor_bench" / "models" / "weights" / "pocket"


@dataclass
class Turn:
    """One contestant on one suite once.

    Attributes:
        n: questions.
        wall, cpu, forward: seconds; ``forward`` is the part of ``wall`` in which a forward runs.
        answers: by "task/document".
    """

    n: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    forward: float = 0.0
    answers: dict[str, str] = field(default_factory=dict)


class Union(Clock):
    """Also knows how long any thread was in any stage."""

    all_spans: ClassVar[list[tuple[float, float]]] = []

    def read_ms(self) -> dict[str, float]:
        self.all_spans.extend((start, end) for _, start, end in self._spans)
        return super().read_ms()

    def read_union(self) -> float:
        """Seconds since the last reading; every thread has read its stages."""
        total, last = 0.0, -1.0
        for start, end in sorted(self.all_spans):
            total += max(0.0, end - max(start, last))
            last = max(last, end)
        self.all_spans.clear()
        return total


def generated(
    model: PocketVLM, tokenizer: PocketTokenizer, pixels: torch.Tensor, prompts: Sequence[Sequence[int]], new: int
) -> list[list[int]]:
    """[B, 128, 128, 3] and prompts -> ids of the answers, through `generate`; padded on the left."""
    decoder = model.decoder
    visual = model.visual(pixels)
    embed = decoder.get_input_embeddings()
    width = max(map(len, prompts))
    rows, masks = [], []
    for one, prompt in zip(visual, prompts, strict=True):
        parts = [embed(torch.tensor([tokenizer.bos_id])), one, embed(torch.tensor(prompt))]
        row = torch.cat(parts)
        pad = width - len(prompt)
        rows.append(torch.cat([row.new_zeros(pad, row.shape[1]), row]))
        masks.append(torch.cat([torch.zeros(pad), torch.ones(len(row))]).long())
    out = decoder.generate(
        inputs_embeds=torch.stack(rows), attention_mask=torch.stack(masks), max_new_tokens=new, do_sample=False
    )
    ids: list[list[int]] = out.tolist()
    end = tokenizer.eos_id
    return [row[: row.index(end)] if end in row else row for row in ids]


def stock_model(batch_size: int, clock: Clock) -> Any:
    """A model class as lmms-eval has them, around the library's modules."""
    from lmms_eval.api.model import lmms

    class Stock(lmms):  # type: ignore[misc]
        is_simple = True

        def __init__(self) -> None:
            super().__init__()
            self.parts, self.tokenizer = load_pocket(WEIGHTS), PocketTokenizer(WEIGHTS / "tokenizer.json")

        @property
        def device(self) -> torch.device:
            return torch.device("cpu")

        def clean(self) -> None:
            """Keep the model for the next turn."""

        @torch.inference_mode()
        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            said = [""] * len(requests)
            # As lmms-eval's collator: equal settings together, the longest first.
            order = sorted(range(len(requests)), key=lambda i: (str(requests[i].args[1]), -len(requests[i].args[0])))
            for start in range(0, len(order), batch_size):
                some = order[start : start + batch_size]
                for i, text in zip(some, self.answer([requests[i].args for i in some]), strict=True):
                    said[i] = text
            return said

        def answer(self, asked: Sequence[Any]) -> list[str]:
            pictures, prompts = [], []
            for question, _, to_visual, doc, task, split in asked:
                (picture,) = to_visual(self.task_dict[task][split][doc])
                pictures.append(np.asarray(picture.convert("RGB").resize((128, 128), resample=3)))
                t = self.tokenizer
                prompts.append([t.question_id, *t.encode(question), t.answer_id])
            settings = max((args[1] for args in asked), key=lambda s: s["max_new_tokens"])
            with clock.stage("forward"):
                pixels = torch.from_numpy(np.stack(pictures))
                ids = generated(self.parts, self.tokenizer, pixels, prompts, settings["max_new_tokens"])
            texts = [self.tokenizer.decode(row) for row in ids]
            for stop in settings.get("until") or ():
                texts = [text.split(stop)[0] if stop else text for text in texts]
            return texts

        def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
            raise NotImplementedError

        def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
            raise NotImplementedError

    return Stock()


def our_model(session: Session, batch_size: int, reuse: bool, journal: Journal) -> Any:
    from meteor_bench.lmms.plugin import MeteorBench

    return MeteorBench(session, batch_size=batch_size, reuse=reuse, journal=journal)


def many_on_each(benchmark: str, folder: Path) -> Any:
    """A benchmark's data set again, 20 questions on each picture."""
    from datasets import load_dataset

    drawn = make_pocket_tasks.benchmark_pictures(benchmark, per_image=20)
    path = make_pocket_tasks.write(list(make_pocket_tasks.rows(benchmark, list(drawn))), folder, "test")
    return load_dataset("parquet", data_files=str(path), cache_dir=str(folder), split="train")


def opened(row: Benchmark, index: Any, unshared: bool, limit: int | None) -> Iterator[Any]:
    """A fresh task object; of its documents only the first on each picture where that is wanted."""
    with tasks.opened(row, index, HERE) as task, TemporaryDirectory() as folder:
        if not unshared:
            crowded = many_on_each(row.task, Path(folder))
            task.dataset["test"] = crowded
            task.dataset_no_image["test"] = crowded.remove_columns("image")
        for split, rows in task.dataset.items():
            firsts = {key: i for i, key in reversed(list(enumerate(rows["media_key"])))}
            wanted = sorted(firsts.values()) if unshared else list(range(len(rows)))
            for data in (task.dataset, task.dataset_no_image):
                data[split] = data[split].select(wanted[:limit])
        yield task


def take_turn(make: Callable[[Journal], Any], clock: Union, suite: str, index: Any, limit: int | None) -> Turn:
    """All questions of a suite through lmms-eval."""
    turn = Turn()
    with TemporaryDirectory() as folder, Journal(Path(folder) / "answers.jsonl", "0" * 16) as journal:
        model = make(journal)
        arguments = Namespace(
            output_path=folder, process_with_media=False, reasoning_tags=None, agentic_trace_mode="basic"
        )
        for name in SUITES[suite]:
            for task in opened(benchmark(name), index, suite == "unshared", limit):
                gc.collect()
                clock.read_union()
                wall, cpu = perf_counter(), process_time()
                with Quiet():
                    results = load_evaluator().simple_evaluate(
                        model,
                        tasks=[task],
                        task_manager=index,
                        bootstrap_iters=0,
                        log_samples=True,
                        process_docs_parallel=1,
                        cli_args=arguments,
                        distributed_executor_backend="torchrun",
                    )
                turn.wall += perf_counter() - wall
                turn.cpu += process_time() - cpu
                clock.read_ms()  # the stock model's; our threads have read theirs
                turn.forward += clock.read_union()
                logged = {f"{name}/{s['doc_id']}": str(s["resps"][0][0]) for s in results["samples"][name]}
                turn.answers |= logged
                turn.n += len(logged)
    return turn


def table(turns: dict[str, dict[str, list[Turn]]]) -> Iterator[str]:
    yield "| suite | model | questions/s | outside forwards | answers as ours | ours is faster (wall) | (CPU time) |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for suite, rows in turns.items():
        ours = rows["ours"]
        for name, own in rows.items():
            same = sum(own[0].answers[key] == text for key, text in ours[0].answers.items())
            walls = [b.wall / a.wall for a, b in zip(ours, own, strict=True)]
            cpus = [b.cpu / a.cpu for a, b in zip(ours, own, strict=True)]
            yield (
                f"| {suite} | {name} | {median(t.n / t.wall for t in own):.1f} "
                f"| {100 * median(1 - t.forward / t.wall for t in own):.1f} % | {same} of {own[0].n} "
                f"| {_spread(walls)} | {_spread(cpus)} |"
            )


def _spread(ratios: Sequence[float]) -> str:
    return f"{median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, help="documents per benchmark")
    parser.add_argument("--batch", type=int, default=64, help="of all but the stock model that answers one at a time")
    parser.add_argument("--method", default="none", help="of ours; the stock model prunes nothing")
    parser.add_argument("--ratio", type=float, default=0.0)
    given = parser.parse_args()

    load_evaluator()
    session = blueprint(RunConfig(method=given.method, ratio=given.ratio, device="cpu")).session(calibration_requests)
    session.clock = clock = Union(torch.device("cpu"))
    one, many = stock_model(1, clock), stock_model(given.batch, clock)
    contestants: dict[str, Callable[[Journal], Any]] = {
        "ours": lambda journal: our_model(session, given.batch, True, journal),
        "ours, --no-reuse": lambda journal: our_model(session, given.batch, False, journal),
        "stock, one at a time": lambda journal: one,
        f"stock, batches of {given.batch}": lambda journal: many,
    }
    index = tasks.index([benchmark(name) for names in SUITES.values() for name in names])
    with session.engine.instrumented(clock=clock):
        for make in contestants.values():
            take_turn(make, clock, "shared", index, 4)  # warm-up
        turns: dict[str, dict[str, list[Turn]]] = {suite: {name: [] for name in contestants} for suite in SUITES}
        for number in range(given.rounds):
            for suite in SUITES:
                names = list(contestants)
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    turn = take_turn(contestants[name], clock, suite, index, given.limit)
                    turns[suite][name].append(turn)
                    print(f"round {number + 1}, {suite}, {name}: {turn.n / turn.wall:.1f} questions/s", file=sys.stderr)
    print(f"{given.method} at ratio {given.ratio:g}, {torch.get_num_threads()} threads, {given.rounds} rounds\n")
    print("\n".join(table(turns)))


if __name__ == "__main__":
    main()
