"""Fused operations against loops: as torch makes them, and by Triton's kernels, interpreted and compiled."""

import os
import subprocess
import sys
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from meteor_bench.core import fused as module
from meteor_bench.core.fused import Fused
from meteor_bench.runs.latency.ledger import Ledger
from meteor_bench.runs.latency.pretend_device import PretendGpu
from tests.core.fused_cases import OPERATIONS, cases, compare


@pytest.mark.parametrize("name", cases())
def test_torch_says_what_the_loops_say(name: str) -> None:
    compare(name, OPERATIONS[name.split(":")[0]])


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_its_function_where_there_is_no_gpu(name: str) -> None:
    operation = OPERATIONS[name]
    given = next(case for key, case in cases().items() if key.startswith(f"{name}:"))
    found, wanted = getattr(torch.ops.meteor_bench, name)(*given), operation.plain(*given)
    for got, want in zip(*((x,) if torch.is_tensor(x) else x for x in (found, wanted)), strict=True):
        assert torch.equal(got, want)


KERNELS = {
    "unit": (1, 3),
    "to_mean": (2, 9),
    "ranks": (1, 5),
    "ordered": (1, 4),
    "best": (1, 11),
    "foremost": (1, 16),
    "merged": (1, 20),
    "followed": (1, 3),
    "settled": (1, 11),
    "nearest": (1, 8),
    "nearer": (1, 5),
    "peaked": (3, 37),
    "facing": (1, 3),
    "thinned": (1, 6),
    "standing": (2, 21),
    "in_places": (2, 24),
    "relative": (1, 3),
    "seats": (2, 15),
    "edges": (1, 10),
    "isolation": (3, 16),
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a real GPU would be taken for the pretended one")
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_saves_the_kernels_that_the_documentation_says(name: str) -> None:
    operation, found = OPERATIONS[name], []
    with torch.inference_mode(), PretendGpu() as gpu:
        given = [gpu.tensor(value) if torch.is_tensor(value) else value for value in operation.trial()]
        for run in (operation, operation.plain):
            run(*given)  # what is made once
            ledger = Ledger()
            with gpu.counting(ledger):
                run(*given)
            assert not ledger.waits and not ledger.mixed
            found.append(sum(ledger.kernels.values()))
    assert tuple(found) == KERNELS[name]


def _twice(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


@pytest.fixture
def twice(monkeypatch: pytest.MonkeyPatch) -> Fused[Any, Any]:
    made: Fused[Any, Any] = Fused(_twice, "(Tensor x) -> Tensor", "kernels", lambda: (torch.ones(3),))
    return made


def test_kernels_that_fail_or_differ_are_told_and_left_out(
    twice: Fused[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("no compiler")

    tried = [
        (broken, "'twice' is left to torch: Triton's kernel failed .no compiler"),
        (lambda x: 2.02 * x, "'twice' is left to torch: Triton's kernel is 1.0e-02 off"),
        (lambda x: (2 * x)[:2], "inf off"),
        (lambda x: x * torch.nan, "nan off"),
    ]
    for kernel, said in tried:
        monkeypatch.setattr(module, "import_module", lambda _, kernel=kernel: SimpleNamespace(twice=kernel))
        with pytest.warns(UserWarning, match=said):
            assert not twice.proven(torch.device("cpu"))
        twice.proven.cache_clear()
    monkeypatch.setattr(module, "import_module", lambda _: SimpleNamespace(twice=lambda x: x + x))
    assert twice.proven(torch.device("cpu"))


@pytest.mark.slow
def test_tritons_kernels_say_what_the_loops_say() -> None:
    pytest.importorskip("triton")
    surroundings = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "tests.core.fused_cases"]
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


COMPILED = {
    "meteor_bench.core.rows_triton": (
        "_unit",
        "_cosine",
        "_ranks",
        "_ordered",
        "_best",
        "_foremost",
    ),
    "meteor_bench.core.ends_triton": ("_merged", "_followed", "_settled", "_nearest"),
    "meteor_bench.methods.shared.picks_triton": ("_nearer",),
    "meteor_bench.methods.shared.density_triton": ("_density", "_apart"),
    "meteor_bench.methods.shared.rounds_triton": ("_facing", "_thinned"),
    "meteor_bench.core.standing_triton": ("_own", "_nearby"),
    "meteor_bench.models.relative_triton": ("_relative",),
    "meteor_bench.models.window_places_triton": ("_place", "_fill"),
    "meteor_bench.methods.shared.pairs_triton": ("_seats",),
    "meteor_bench.methods.evoprune.edges_triton": ("_nearest", "_apart", "_edges"),
}
LONGS = (
    "seats", "index", "rank", "partner", "stay", "window", "left", "origin", "group", "known", "counted", "inner",
    "padding", "place", "token", "row", "column", "each", "into", "order",
)  # fmt: skip
FLOATS = ("strength", "fixed")
FIXED = {
    "WIDE": 256, "SCAN": 512, "TILE": 32, "SEATS": 8, "ORDER": 1, "FIXED": 0, "APART": True, "PROTECTED": True,
    "FALLING": True, "ALLOWED": True,
    "EACH": True, "SOME": True,
}  # fmt: skip
WHOLE_OUT = (
    "_ranks", "_followed", "_seats", "_own", "_nearby", "_place", "_fill", "_ordered", "_settled", "_nearest",
    "_thinned",
)  # fmt: skip
TRUTHS = ("protected", "allowed", "keep", "present")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kernel"), [(name, kernel) for name, all_ in COMPILED.items() for kernel in all_])
def test_tritons_kernels_compile_for_a_hopper_gpu(name: str, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To machine code, which the interpreter says nothing about; needs no GPU."""
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # Triton 3.9 warns where nothing is said
    from triton import compile as built
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    made = getattr(import_module(name), kernel)

    def kind(argument: str) -> str:
        if argument in FIXED:
            return "constexpr"
        if argument in LONGS or (argument == "out" and kernel in WHOLE_OUT):
            return "*i64"
        if argument in TRUTHS or (argument == "out" and kernel in ("_foremost", "_best")):
            return "*u8"
        if argument in FLOATS:
            return "fp32"
        return "*fp32" if argument in POINTERS else "i32"

    signature = {argument: kind(argument) for argument in made.arg_names}
    fixed = {(i,): FIXED[argument] for i, argument in enumerate(made.arg_names) if argument in FIXED}
    assert built(ASTSource(made, signature, fixed), target=GPUTarget("cuda", 90, 32)).asm["cubin"]


POINTERS = (
    "x", "out", "score", "size", "mass", "likeness", "distance", "middle", "apart", "best", "total", "early", "down",
    "key", "across", "away", "alike", "density", "reach", "far",
)  # fmt: skip
