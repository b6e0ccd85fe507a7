"""What choosing costs: each method's own decisions on synthetic tokens, beside a real ViT-L that encodes as many.

The engine runs every method on a model of real shape that computes nothing (`models.synthetic`). Of what it counts as
pruning, the method's share is deciding; reading attention beside the kernel and applying decisions are the engine's. In
every round the ViT and each method run once, in turn, in one process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.errors import ConfigError, UnsupportedError
from meteor_bench.records.provenance import environment
from meteor_bench.runs.device import device_and_dtype, device_name
from meteor_bench.runs.latency.records import Chosen, Selection
from meteor_bench.utils.atomic_io import check_writable
from meteor_bench.utils.environment import quiet_libraries
from meteor_bench.utils.progress import track

if TYPE_CHECKING:
    import torch

    from meteor_bench.models.synthetic import Shape
    from meteor_bench.runs.latency.selection_meter import Choice, Contender

__all__ = ["time_selection"]


def time_selection(
    configs: Sequence[RunConfig], tokens: int, batches: Sequence[int], rounds: int, out: Path
) -> list[Selection]:
    """Time the decisions of methods and write the records.

    Args:
        configs: the methods, at one ratio.
        tokens: visual tokens of a picture, a square number.

    Raises:
        MeteorBenchError: something the user can put right.
    """
    side = round(tokens**0.5)
    if tokens < 16 or side * side != tokens:
        raise ConfigError(
            f"--tokens {tokens} is no square of at least 16, as the grid must be; take {max(4, side) ** 2}"
        )
    quiet_libraries()
    check_writable(out)
    from meteor_bench.core.tokens import Grid
    from meteor_bench.models.synthetic import Shape
    from meteor_bench.runs.latency.selection_tables import document

    shape = Shape(Grid(1, side, side))
    found: list[Selection] = []
    for batch in batches:
        found.append(_time(configs, shape, batch, rounds))
        out.mkdir(parents=True, exist_ok=True)
        document(found).write_files(out, "selection")
    return found


def _time(configs: Sequence[RunConfig], shape: Shape, batch: int, rounds: int) -> Selection:
    import torch

    from meteor_bench.core.attention_probe import KERNEL
    from meteor_bench.engine.load_model import DTYPES
    from meteor_bench.models.synthetic import vit
    from meteor_bench.runs.latency.selection_meter import Meter

    device, dtype = device_and_dtype(configs[0])
    contenders = _contenders(configs, shape, batch, device, DTYPES[dtype])
    encode = vit(shape, batch, device, DTYPES[dtype])
    vits: list[Meter] = []
    choices: dict[str, list[Choice]] = {name: [] for name in contenders}
    with track(f"{shape.grid.n} tokens, batch {batch}: {len(contenders)} methods", rounds) as update:
        for turn in range(-1, rounds):  # the first round is thrown away
            meter = Meter(torch.device(device))
            with meter.running():
                encode()
            taken = {name: contender.choose() for name, (_, contender) in contenders.items()}
            if turn >= 0:
                vits.append(meter)
                for name, choice in taken.items():
                    choices[name].append(choice)
            update(turn + 1)
    return Selection(
        tokens=shape.grid.n,
        batch=batch,
        ratio=configs[0].ratio,
        environment=environment(device_name(device), KERNEL, dtype, torch.get_num_threads(), ""),
        vit_ms=tuple(meter.wall_ms for meter in vits),
        vit_cpu_ms=tuple(meter.cpu_ms for meter in vits),
        rows=tuple(_chosen(name, contenders[name][0], found) for name, found in choices.items()),
    )


def _contenders(
    configs: Sequence[RunConfig], shape: Shape, batch: int, device: str, dtype: torch.dtype
) -> dict[str, tuple[int, Contender]]:
    """Name -> how many encoders its model has, and the method on it: one encoder, or two where it compares them."""
    from meteor_bench.core.budget import TokenBudget
    from meteor_bench.core.request import Request
    from meteor_bench.engine.make_method import make_pruner
    from meteor_bench.models.synthetic import WORDS, synthetic_model
    from meteor_bench.runs.latency.selection_meter import Contender

    requests = [Request(str(i), str(i), partial(list, [i]), str(WORDS), 1) for i in range(batch)]
    models = {n: synthetic_model(replace(shape, towers=n), batch, device=device, dtype=dtype) for n in (1, 2)}
    found: dict[str, tuple[int, Contender]] = {}
    with track(f"{len(configs)} methods, batch {batch}", len(configs)) as update:
        for done, config in enumerate(configs, start=1):
            pruner, budget = make_pruner(config.method, config.parameters), TokenBudget.from_ratio(config.ratio)
            try:
                found[config.label] = 1, Contender(models[1], pruner, budget, requests)
            except UnsupportedError:
                found[config.label] = 2, Contender(models[2], pruner, budget, requests)
            update(done)
    return found


def _chosen(name: str, encoders: int, choices: Sequence[Choice]) -> Chosen:
    return Chosen(
        name=name,
        encoders=encoders,
        decide_ms=tuple(choice.decide_ms for choice in choices),
        decide_cpu_ms=tuple(choice.decide_cpu_ms for choice in choices),
        around_ms=tuple(choice.around_ms for choice in choices),
        kept=choices[-1].kept,
    )
