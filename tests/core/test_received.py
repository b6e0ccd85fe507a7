"""Attention received against every weight written out in float64: in chunks, and by Triton's kernels, interpreted."""

import os
import subprocess
import sys

import pytest
import torch

from meteor_bench.core import received as module
from tests.core.received_cases import TOLERANCE, brute, cases


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("chunk", [1 << 21, 1000])
def test_chunks_equal_brute_force(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_CPU", chunk)
    case = cases()[name]
    wanted = brute(*case)
    assert float((module.received(*case) - wanted).abs().max() / wanted.max()) < TOLERANCE


def test_the_operation_is_the_chunks_where_there_is_no_gpu() -> None:
    case = cases()["seen"]
    assert torch.equal(torch.ops.meteor_bench.received(*case), module.received_in_chunks(*case))


def test_flops_of_the_operation_are_two_products() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    query, key, *rest = cases()["grouped heads"]
    with FlopCounterMode(display=False) as counter:
        torch.ops.meteor_bench.received(query, key, *rest)
    assert counter.get_total_flops() == 2 * 2 * 2 * 4 * 70 * 90 * 40


def test_a_kernel_that_cannot_be_built_is_told_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    from meteor_bench.core import received_triton

    def broken(*_: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(received_triton, "received", broken)
    module._proven.cache_clear()
    with pytest.warns(UserWarning, match="read by torch: Triton's kernel failed .no compiler"):
        assert not module._proven(torch.device("cpu"), torch.float32)
    monkeypatch.setattr(received_triton, "received", lambda *given: module.received_in_chunks(*given) * 1.01)
    module._proven.cache_clear()
    with pytest.warns(UserWarning, match="e-02 off"):
        assert not module._proven(torch.device("cpu"), torch.float32)
    monkeypatch.setattr(received_triton, "received", module.received_in_chunks)
    module._proven.cache_clear()
    assert module._proven(torch.device("cpu"), torch.float32)
    module._proven.cache_clear()


@pytest.mark.slow
def test_tritons_kernels_equal_brute_force() -> None:
    pytest.importorskip("triton")
    surroundings = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.core.received_cases"], env=surroundings, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_tritons_kernels_compile_for_a_hopper_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """To machine code, which the interpreter says nothing about; needs no GPU."""
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # Triton 3.9 warns where nothing is said
    from triton import compile as built
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from meteor_bench.core import received_triton

    flags = {"MASK": 2, "CAUSAL": False, "TILE": received_triton.TILE, "DEEP": received_triton.DEEP}
    tensors = {"query": "*bf16", "key": "*bf16", "mask": "*bf16", "sums": "*fp32", "out": "*fp32", "counted": "*u8"}
    for kernel, more in (
        (received_triton._row_sums, {}),
        (received_triton._column_sums, {"COUNTED": True, "PEAK": True}),
    ):
        fixed = flags | more
        kinds = tensors | dict.fromkeys(fixed, "constexpr") | {"scaling": "fp32"}
        signature = {name: kinds.get(name, "i32") for name in kernel.arg_names}
        source = ASTSource(kernel, signature, {(kernel.arg_names.index(name),): fixed[name] for name in fixed})
        assert built(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]
