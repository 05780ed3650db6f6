"""Failures are classified, and nothing of a failed attempt is left in memory when it is repeated."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_trials import DATA, FP32, small
from torch import Tensor, nn

from bench.train import evaluate
from bench.train.batches import Batch
from bench.train.evaluate import predict
from bench.train.outcome import describe, is_oom, release


class WrappedError(Exception):
    """An error in which another library wraps a failure."""


@pytest.mark.parametrize(
    "message",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
        "CUDA driver error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "CUDA error: CUSPARSE_STATUS_ALLOC_FAILED when calling `cusparseCreate(handle)`",
        "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
        "cuFFT error: CUFFT_ALLOC_FAILED",
        "HIP out of memory. Tried to allocate 2.00 GiB",
        "HIP error: out of memory",
        "CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`",
        "miopenStatusAllocFailed",
        "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate",
        "[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried to allocate",
        "unable to mmap 4096 bytes from file: Cannot allocate memory (12)",
        "std::bad_alloc",
    ],
)
def test_every_librarys_message_of_a_full_memory_is_an_oom(message: str) -> None:
    for error in (RuntimeError(message), torch.AcceleratorError(message)):
        assert is_oom(error)
        assert describe(error)[0] == "oom"
    wrapped = WrappedError("the compiler failed")
    wrapped.__cause__ = RuntimeError(message)
    assert is_oom(wrapped)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
        ValueError("rank=4 is out of memory slots: CUDA out of memory"),
        OSError("[Errno 28] No space left on device"),
    ],
)
def test_other_failures_are_not_an_oom(error: Exception) -> None:
    assert not is_oom(error)


def failing(held: list[Any]) -> None:
    tensor = torch.ones(8)
    held.append(weakref.ref(tensor))
    raise torch.OutOfMemoryError(f"CUDA out of memory with {len(tensor)}")


def test_a_released_error_holds_no_tensor_and_keeps_its_text() -> None:
    held: list[Any] = []

    def wrapping() -> None:
        try:
            failing(held)
        except RuntimeError as error:
            raise WrappedError("it failed") from error

    with pytest.raises(WrappedError) as caught:
        wrapping()
    assert held[0]() is not None
    release(caught.value)
    assert held[0]() is None
    assert "failing(held)" in describe(caught.value)[1]["traceback"]


@pytest.fixture
def emptied(monkeypatch: pytest.MonkeyPatch) -> tuple[Callable[[], Tensor], list[bool]]:
    """A function that makes a tensor for the failing frame, and whether all are freed whenever the cache is emptied."""
    references: list[Any] = []
    freed: list[bool] = []

    def hold() -> Tensor:
        tensor = torch.ones(8)
        references.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(
        torch.cuda, "empty_cache", lambda: freed.append(all(reference() is None for reference in references))
    )
    return hold, freed


def test_an_evaluation_frees_the_failed_attempt_before_it_halves(
    emptied: tuple[Callable[[], Tensor], list[bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (hold, gone), whole = emptied, evaluate.forward

    def narrow(model: nn.Module, batch: Batch) -> Tensor:
        tensor = hold()
        if batch.rows > 4:
            raise torch.OutOfMemoryError(f"CUDA out of memory with {len(tensor)}")
        return whole(model, batch)

    model = small()
    expected = predict(model, DATA.select, 32, FP32)
    monkeypatch.setattr(evaluate, "forward", narrow)
    assert torch.equal(predict(model, DATA.select, 32, FP32), expected)
    assert gone
    assert all(gone)
