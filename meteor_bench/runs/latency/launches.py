"""How many kernels a GPU would be sent, and how often the host would wait for it, between the pixels and first logits.

Counted on a GPU that is not there (`pretend_device`). EAGLE-X5 is counted at its true depths and grids with narrow
widths, which change no count; other models as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.errors import BudgetError, UnsupportedError
from meteor_bench.core.model import VLM, ModelCard
from meteor_bench.core.request import Request
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.factory import blueprint
from meteor_bench.engine.load_model import Loader, load_model, random_model
from meteor_bench.engine.static_first import Batch, first
from meteor_bench.runs.latency.ledger import Ledger
from meteor_bench.runs.latency.pretend_device import PretendGpu, check_none_is_real
from meteor_bench.runs.latency.records import UNPRUNED
from meteor_bench.runs.latency.requests import noise
from meteor_bench.utils.environment import quiet_libraries
from meteor_bench.utils.progress import track

__all__ = ["CHOOSING", "NARROWED", "UNPRUNED", "Launches", "count_launches", "counted"]

NARROWED = "eagle-x5-7b"
CHOOSING = "prune"  # the stage of choosing and applying
CALIBRATION = 4  # samples, for methods that measure constants


@dataclass(frozen=True)
class Launches:
    """What one contender launched in a pass that had run once before (constants of a grid are cached by then).

    Attributes:
        name: of the contender.
        batch: pictures at once.
        waits, kernels: stage -> count; "prune" is choosing and applying.
        mixed: operations whose tensors lay on different devices.
        failure: why nothing was counted, "" otherwise.
    """

    name: str
    batch: int
    waits: Mapping[str, int] = field(default_factory=dict)
    kernels: Mapping[str, int] = field(default_factory=dict)
    mixed: int = 0
    failure: str = ""


def count_launches(
    configs: Sequence[RunConfig], batches: Sequence[int], *, random_weights: bool = False
) -> list[Launches]:
    """Count the unpruned model and every method at every batch size.

    Raises:
        MeteorBenchError: a model or method that does not exist, or a GPU that does.
    """
    check_none_is_real()
    quiet_libraries()
    load = _loader(random_weights)
    wanted = [replace(config, device="cpu", dtype="float32") for config in (configs[0].unpruned(), *configs)]
    engines: dict[str, Engine] = {}
    found: list[Launches] = []
    requests: list[Request] = []

    def calibration() -> Sequence[Request]:
        return requests[:CALIBRATION]

    with track("model and methods", len(wanted)) as update:
        for done, config in enumerate(wanted, start=1):
            name = UNPRUNED if config.method == "none" else config.label
            try:
                session = blueprint(config, load).session(calibration)
                if not requests:
                    requests += noise(session, max(CALIBRATION, *batches), 1)
                engines[name] = session.engine
            except (BudgetError, UnsupportedError) as error:
                found += [Launches(name, batch, failure=str(error)) for batch in batches]
            update(done)
    with PretendGpu() as gpu, torch.inference_mode(), track("passes", len(engines) * len(batches)) as update:
        for vlm in {id(engine.vlm): engine.vlm for engine in engines.values()}.values():
            for module in vlm.modules().values():
                gpu.move(module)
        for name, engine in engines.items():
            for batch in batches:
                found.append(_row(name, batch, counted(gpu, engine, requests[:batch])))
                update(len(found))
    return sorted(found, key=lambda row: (row.batch, row.name != UNPRUNED, row.kernels.get(CHOOSING, 0)))


def _loader(random_weights: bool) -> Loader:
    """What builds each model once, EAGLE-X5 narrow."""
    inner = random_model if random_weights else load_model
    known: dict[tuple[str, str | None], VLM] = {}

    def load(card: ModelCard, device: str, dtype: str, source: str | None) -> VLM:
        key = card.name, source
        if key not in known:
            known[key] = _narrow() if key == (NARROWED, None) else inner(card, device, dtype, source)
        return known[key]

    return load


def _narrow() -> VLM:
    from meteor_bench.models.eagle.narrow import narrow_x5

    return narrow_x5()


def counted(gpu: PretendGpu, engine: Engine, requests: Sequence[Request]) -> Ledger:
    """A pass of a batch from its pixels to the first logits, after one that is not counted.

    Args:
        engine: its model lies on the pretend GPU.
    """
    processor = engine.vlm.processor
    looks = [processor.look(request.media()) for request in requests]
    pixels = gpu.tensor(torch.stack([look.pixels for look in looks]).to(engine.vlm.dtype))
    prompts, keys = [processor.prompt(r.question) for r in requests], tuple(r.media_key for r in requests)
    batch = Batch(pixels, keys, prompts, looks[0].scene)
    with engine.instrumented(clock=Ledger()):
        first(engine, batch, 1)
    ledger = Ledger()
    with engine.instrumented(clock=ledger), gpu.counting(ledger):
        first(engine, batch, 1)
    return ledger


def _row(name: str, batch: int, ledger: Ledger) -> Launches:
    return Launches(name, batch, dict(ledger.waits), dict(ledger.kernels), sum(ledger.mixed.values()))
