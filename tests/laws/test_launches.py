"""Law 10: on a GPU (a pretended one) nothing mixes devices, and choosing costs no more kernels and waits than today.

The ceilings count kernels, and waits between the pixels and the first logits, of one picture on the tiny model of
pocket's kind; a change that needs more says so by raising one.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import pytest
import torch

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.registry import METHODS
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.runs.latency.launches import CHOOSING, NARROWED, count_launches, counted
from meteor_bench.runs.latency.ledger import Ledger
from meteor_bench.runs.latency.pretend_device import PretendGpu
from tests import tiny
from tests.laws.cases import COMPOSITIONS, RUNNABLE, Case, engine

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a real GPU would be taken for the pretended one")
KEEP = 0.24


class Ceiling(NamedTuple):
    """Most kernels of choosing and applying; most waits of a whole pass, and why there is any."""

    kernels: int
    waits: int = 0


CEILINGS = {
    "none": Ceiling(0),
    "random": Ceiling(4),
    "uniform": Ceiling(3),
    "pool": Ceiling(7),
    "downsample": Ceiling(3),
    "fastv": Ceiling(7),
    "pyramiddrop": Ceiling(84),
    "sparsevlm": Ceiling(146),
    "divprune": Ceiling(66),
    "cdpruner": Ceiling(157),
    "dart": Ceiling(73),
    "trim": Ceiling(34),
    "mustdrop": Ceiling(291, 4),  # how many stay is a threshold's doing
    "evoprune": Ceiling(187, 2),  # where a layer merges over a quarter, protection may leave fewer sources
    "tome": Ceiling(122),
    "visionzip": Ceiling(84),
    "prumerge": Ceiling(76, 1),  # a threshold
    "prumerge+": Ceiling(100, 1),
    "fastervlm": Ceiling(40),
    "vispruner": Ceiling(68),
    "holov": Ceiling(89, 1),  # what full crops hand on is worked out by the host
    "oc-vtp": Ceiling(374),
    "comp-token": Ceiling(66),
    "comp": Ceiling(11),
    "svdprune": Ceiling(1322, 3),  # torch's eigensolver waits
    "e-adaprune": Ceiling(465, 2),
    "midpool": Ceiling(374),
    "earlytom": Ceiling(76),
    "flowcut": Ceiling(254, 1),  # how many a layer drops is the attention's
    "ipcv": Ceiling(390),
    "ficoco-v": Ceiling(684),
    "hiprune": Ceiling(74),
    "scope": Ceiling(190),
    "apet": Ceiling(121),
    "mmtok": Ceiling(158),
    "prunesid": Ceiling(509, 6),  # groups, their sizes and suppression are the image's; torch's eigensolver waits
    "vscan": Ceiling(86),
    "subsample": Ceiling(3),
    "vidcom2": Ceiling(91),
    "fastvid": Ceiling(92),
    "dycoke": Ceiling(3),
    "holitom": Ceiling(82),
    "framefusion": Ceiling(34),
    "prunevid": Ceiling(60),
    "flashvid": Ceiling(285),
    "contrast": Ceiling(34),
    "meteor": Ceiling(94, 1),  # stage 3's count
}
DEFAULTS = [
    case
    for case in RUNNABLE
    if dict(case.options) in ({}, {"weights": "random"}, {"before": 1}) and case.method not in COMPOSITIONS
]


@cache
def passed(case: Case, pictures: int = 1, frames: int = 1) -> Ledger:
    """A pass of so many pictures through a model on the pretended GPU."""
    with torch.inference_mode():
        made = engine(case, KEEP, count=4, frames=frames, vlm=tiny.build(case.model))
        with PretendGpu() as gpu:
            for module in made.vlm.modules().values():
                gpu.move(module)
            return counted(gpu, made, tiny.requests(pictures, frames))


def of_pocket(case: Case) -> bool:
    return case.model == "shared" and not (case.method == "oc-vtp" and not case.options)


@pytest.mark.parametrize("case", [case for case in DEFAULTS if of_pocket(case)], ids=str)
def test_10_kernels_and_waits_stay_below_their_ceilings(case: Case) -> None:
    ledger, ceiling = passed(case), CEILINGS[case.method]
    assert not ledger.mixed
    assert sum(ledger.waits.values()) <= ceiling.waits, {k: n for k, n in ledger.sites.items() if k[1][:4] == "wait"}
    assert ledger.kernels["prune"] <= ceiling.kernels


def test_10_every_method_has_a_ceiling() -> None:
    assert set(CEILINGS) == set(METHODS.names())
    assert {case.method for case in DEFAULTS if of_pocket(case)} == set(CEILINGS)


@pytest.mark.slow
@pytest.mark.parametrize(("pictures", "frames"), [(1, 1), (2, 1), (1, 3)])
@pytest.mark.parametrize("case", RUNNABLE, ids=str)
def test_10_nothing_mixes_devices(case: Case, pictures: int, frames: int) -> None:
    assert not passed(case, pictures, frames).mixed


@pytest.mark.parametrize("model", ["independent", "single"])
def test_10_the_unpruned_model_waits_for_nothing(model: str) -> None:
    assert not passed(Case("none", model)).waits


@pytest.mark.parametrize("method", ["evoprune", "tome"])
def test_10_windows_of_all_encoders_are_counted_in_one_wait(method: str) -> None:
    """Of a model with two encoders in windows: not more often than tokens merge."""
    case = Case(method, "eagle")
    sites = {site: n for (_, what, site), n in passed(case).sites.items() if what.startswith("wait")}
    assert not any(site.startswith("models/") for site in sites)
    merges = len(engine(case, KEEP, count=4, vlm=tiny.build("eagle")).points.encode)
    assert 0 < sum(n for site, n in sites.items() if site.startswith("engine/encode.py")) <= merges


@pytest.mark.slow
@pytest.mark.parametrize(("method", "layers"), [("evoprune", 45), ("tome", 90)])
def test_10_a_merge_layer_of_eagle_x5_takes_25_kernels(method: str, layers: int) -> None:
    """Choosing, applying, and what following the groups to the fusion takes, at the true depths and grids."""
    config = RunConfig(model=NARROWED, method=method, ratio=0.76)
    unpruned, pruned = count_launches([config], [1])
    assert pruned.name == method and not pruned.mixed
    followed = pruned.kernels["fuse"] - unpruned.kernels["fuse"]
    assert pruned.kernels[CHOOSING] + followed <= 25 * layers


# ---------------------------------------------------------------- the pretended GPU itself


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_waits_are_seen(ledger: Ledger) -> None:
    with torch.inference_mode(), PretendGpu() as gpu, gpu.counting(ledger):
        x = torch.arange(6, device="cuda")
        assert x.device.type == "cuda" and not ledger.waits
        assert int(x.sum()) == 15 and bool((x > 1).any())
        assert x.tolist() == [0, 1, 2, 3, 4, 5]
        assert x[x > 2].cpu().tolist() == [3, 4, 5]  # one for the mask, one for the copy
        torch.tensor([1, 2]).to("cuda")
    assert ledger.waits[""] == 6


def test_stages_and_mixed_devices_are_seen(ledger: Ledger) -> None:
    with torch.inference_mode(), PretendGpu() as gpu:
        a, b = gpu.tensor(torch.ones(2, 3)), torch.ones(2, 3)
        with gpu.counting(ledger):
            with ledger.stage("one"):
                c = (a + 1).mul_(2)
            c.sort(dim=1)
            c.view(3, 2).transpose(0, 1)  # views are free
        assert not ledger.mixed and ledger.kernels == {"one": 2, "": 4}
        with gpu.counting(ledger):
            torch.cat([a, b])
    assert [operation for operation, _ in ledger.mixed] == ["cat"]


def test_integers_are_counted_as_cuda_counts_them(ledger: Ledger) -> None:
    """As transformers has it count the tokens of each expert, waiting only where it must find the bounds."""
    with torch.inference_mode(), PretendGpu() as gpu, gpu.counting(ledger):
        found = torch.histc(gpu.tensor(torch.tensor([0, 2, 2, 3], dtype=torch.int32)), bins=4, min=0, max=3)
        assert found.dtype == torch.int32 and not ledger.waits
        assert found.tolist() == [1, 0, 2, 1]
        torch.histc(gpu.tensor(torch.ones(3)), bins=2)
    assert ledger.waits[""] == 2


def test_everything_is_as_before_afterwards() -> None:
    before = torch.cuda._lazy_init, torch.cuda.get_device_capability, torch._C._only_lift_cpu_tensors()
    with PretendGpu():
        assert torch.cuda.get_device_capability("cuda") >= (8, 0)
        assert torch.zeros(1, device="cuda").device.type == "cuda"
    after = torch.cuda._lazy_init, torch.cuda.get_device_capability, torch._C._only_lift_cpu_tensors()
    assert before == after
    with pytest.raises((RuntimeError, AssertionError)):
        torch.zeros(1, device="cuda")


def test_bookkeeping_that_nobody_reads_is_not_worked_out() -> None:
    ledger = Ledger()
    with torch.inference_mode(), PretendGpu() as gpu, gpu.counting(ledger):
        tokens = Tokens.dense(gpu.tensor(torch.ones(1, 4, 2)), Grid(1, 2, 2))
        assert tokens.counts().tolist() == [4] and not tokens.padded
    assert not ledger.kernels and not ledger.waits
