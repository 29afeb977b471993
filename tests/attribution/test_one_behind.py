"""Batches of an accelerator: a batch's scores are waited for once the next batch is queued."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.attribution.memory_budget import one_behind
from rlcircuits.common.devices import CopiesOnCPU


@given(st.lists(st.integers()))
def test_every_result_comes_in_order_once_the_next_is_there(results: list[int]) -> None:
    made: list[int] = []

    def make() -> Iterator[int]:
        for each in results:
            made.append(each)
            yield each

    for place, each in enumerate(one_behind(make())):
        assert each == results[place]
        assert len(made) == min(place + 2, len(results))
    assert made == results


@given(st.integers(0, 4))
def test_what_was_made_before_an_error_is_not_lost(count: int) -> None:
    def make() -> Iterator[int]:
        yield from range(count)
        raise ValueError("the next batch failed")

    found: list[int] = []
    with pytest.raises(ValueError, match="the next batch failed"):
        found.extend(one_behind(make()))
    assert found == list(range(count))


def test_results_that_nobody_waits_for_are_let_go() -> None:
    closed = []

    def make() -> Iterator[int]:
        try:
            yield from range(5)
        finally:
            closed.append(True)

    results = one_behind(make())
    assert next(iter(results)) == 0
    del results
    assert closed == [True]


def test_copies_are_the_tensors() -> None:
    tensors = torch.arange(6.0).view(2, 3), torch.tensor([1, 2]), torch.empty(0, 4)
    for found, wanted in zip(CopiesOnCPU(*tensors).wait(), tensors, strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_copies_of_a_device_are_there_after_the_wait_and_in_pinned_memory() -> None:
    wanted = torch.arange(1 << 22, dtype=torch.float32)
    tensor = wanted.cuda()
    for _ in range(20):  # work that is still queued when the copy is
        tensor = tensor + 1
    (found,) = CopiesOnCPU(tensor).wait()
    assert found.is_pinned()
    assert torch.equal(found, wanted + 20)
