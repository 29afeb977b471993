"""Every contraction backend against the float64 definition, on what Hypothesis draws."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from helpers.contraction_cases import Case, cases, error, make_case
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rlcircuits.capture.batch_slices import batch_slices
from rlcircuits.capture.reader_grads import from_tensor
from rlcircuits.capture.writers import one_writer
from rlcircuits.common import devices, linear_product
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.contraction import grouped, matmul
from rlcircuits.contraction.backends import BACKENDS, choose_backend
from rlcircuits.contraction.grouped import BatchShape, GroupedContraction
from rlcircuits.graph.edge_graph import build_graph

DTYPES = [torch.float32, torch.bfloat16, torch.float64]


@given(case=cases(DTYPES, nodes=3))
def test_the_reference_is_the_sum_by_hand(case: Case) -> None:
    found = case.run(BACKENDS["reference"])
    writes = [write.double() for w in case.writers for write in w]
    grads = []
    for readers in case.readers:
        for grad in readers.grads.double():
            if readers.direction is not None:
                unit = readers.direction.double()
                grad = grad - (unit * grad).sum(-1, keepdim=True) / unit.shape[-1] * unit
            grads.append(grad)
    by_hand = torch.zeros_like(found)
    for w, write in enumerate(writes):
        for r, grad in enumerate(grads):
            if case.edges[w, r]:
                by_hand[:, w, r] = -(write * grad).sum((1, 2))
    torch.testing.assert_close(found, by_hand)


@given(case=cases(DTYPES))
def test_matmul_is_the_definition(case: Case) -> None:
    found = case.run(BACKENDS["matmul"])
    double = case.readers[0].grads.dtype == torch.float64
    assert found.dtype == (torch.float64 if double else torch.float32)
    # Inputs are exact in float32 whatever their dtype, so only float32 sums round.
    assert error(found, case) <= (1e-14 if double else 1e-6)


@given(case=cases(DTYPES), run=st.integers(1, 3))
def test_runs_of_positions_change_nothing(case: Case, run: int) -> None:
    """A product takes ``run`` positions: sequences of a whole number of runs, with a rest, and shorter than one."""
    width = case.readers[0].grads.shape[-1]
    with mock.patch.object(matmul, "_INNER", run * width):
        found = case.run(BACKENDS["matmul"])
    assert error(found, case) <= (1e-14 if found.dtype == torch.float64 else 1e-6)


@given(case=cases(DTYPES))
def test_onednn_changes_nothing(case: Case) -> None:
    with mock.patch.multiple(linear_product, _LEAST_MULTIPLICATIONS=1, _LEAST_PER_THREAD=0):
        found = case.run(BACKENDS["matmul"])
    assert error(found, case) <= (1e-14 if found.dtype == torch.float64 else 1e-6)


@given(edges=arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_two_blocks_hold_every_edge_once(edges: Any) -> None:
    times = torch.zeros(edges.shape, dtype=torch.int64)
    bands = matmul._bands(torch.from_numpy(edges))
    for rows, columns in bands:
        times[rows, columns] += 1
    assert len(bands) <= 2
    assert (times[torch.from_numpy(edges)] == 1).all()
    assert times.max() <= 1


@given(layers=st.integers(1, 9), heads=st.integers(1, 4))
def test_two_blocks_are_never_larger_than_one(layers: int, heads: int) -> None:
    edges = build_graph(layers, heads, "head").mask
    sizes = [len(range(edges.shape[0])[rows]) * len(range(edges.shape[1])[cols]) for rows, cols in matmul._bands(edges)]
    assert int(edges.sum()) <= sum(sizes) <= edges.numel()


@given(
    layers=st.integers(1, 5),
    held=st.sampled_from([0, 300, 10_000]),
    batch_slice=st.sampled_from([0, 600, 3_000, 100_000]),
    together=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_groups_and_slices_change_nothing(layers: int, held: int, batch_slice: int, together: int, seed: int) -> None:
    graph = build_graph(layers, 2, "sublayer")
    n_writers, n_readers = graph.mask.shape
    case = make_case(
        writers=[(1, "contiguous")] * n_writers,
        readers=[(1, "contiguous", 0)] * n_readers,
        shape=(2, 3, 4),
        dtype=torch.float32,
        seed=seed,
    )
    sizes = {
        "pending_grads_bytes": lambda device: held,
        "contraction_bytes": lambda *_: batch_slice,
        "readers_per_contraction": lambda device: together,
    }
    with mock.patch.multiple(grouped, **sizes):
        contraction = GroupedContraction(graph, BACKENDS["reference"](), BatchShape(2, 3, 4, itemsize=4))
        contraction.set_writers([one_writer(i, outputs[0]) for i, outputs in enumerate(case.writers)])
        for reader in reversed(case.readers):
            contraction.on_reader_grads(from_tensor(reader.indices.start, reader.grads))
        found = contraction.finish()
    torch.testing.assert_close(found, Case(case.writers, case.readers, graph.mask).run(BACKENDS["reference"]))


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=20), most=st.integers(1, 9))
def test_readers_come_in_as_few_groups_as_their_order_allows(sizes: list[int], most: int) -> None:
    readers = [from_tensor(sum(sizes[:i]), torch.ones(size, 1, 1, 1)) for i, size in enumerate(sizes)]
    groups = [[r.indices for r in group] for group in grouped._grouped(readers, most)]
    assert [indices for group in groups for indices in group] == [r.indices for r in readers]
    lengths = [sum(map(len, group)) for group in groups]
    assert all(length <= most or len(group) == 1 for length, group in zip(lengths, groups, strict=True))
    assert all(lengths[i] + len(group[0]) > most for i, group in enumerate(groups[1:]))


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=20), most=st.integers(1, 9), among=st.integers(1, 4))
def test_readers_of_one_sublayer_stay_in_one_group(sizes: list[int], most: int, among: int) -> None:
    readers = [from_tensor(sum(sizes[:i]), torch.ones(size, 1, 1, 1)) for i, size in enumerate(sizes)]
    sublayer = {id(reader): i // among for i, reader in enumerate(readers)}
    groups = grouped._grouped(readers, most, lambda reader: sublayer[id(reader)])
    assert [reader for group in groups for reader in group] == readers
    found = [{sublayer[id(reader)] for reader in group} for group in groups]
    assert sum(map(len, found)) == len(set(sublayer.values()))
    lengths = [sum(len(reader.indices) for reader in group) for group in groups]
    assert all(length <= most or len(names) == 1 for length, names in zip(lengths, found, strict=True))


@given(batch=st.integers(1, 5), positions=st.integers(1, 9), tokens=st.integers(0, 60))
def test_slices_hold_every_token_once(batch: int, positions: int, tokens: int) -> None:
    seen = torch.zeros(batch, positions, 2)
    for batch_slice in batch_slices(batch, positions, tokens):
        part = batch_slice.of(seen)
        assert 1 <= part[..., 0].numel() <= max(1, tokens)
        part += 1
    assert (seen == 1).all()


def test_a_reader_without_a_gradient_is_an_error() -> None:
    graph = build_graph(1, 2, "sublayer")
    contraction = GroupedContraction(graph, BACKENDS["reference"](), BatchShape(1, 1, 1, itemsize=4))
    contraction.set_writers([one_writer(i, torch.ones(1, 1, 1)) for i in range(len(graph.writers))])
    contraction.on_reader_grads(from_tensor(0, torch.ones(4, 1, 1, 1)))
    with pytest.raises(RLCircuitsError, match="no gradient reached reader logits"):
        contraction.finish()


class Weight:
    """What the choice of a backend looks at in a model's weight, for a device that need not be here."""

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        self.device, self.dtype = torch.device(device), dtype


@pytest.mark.parametrize(
    ("device", "dtype", "with_triton", "without"),
    [
        ("cpu", torch.float32, "matmul", "matmul"),
        ("cuda", torch.bfloat16, "triton", "matmul"),
        ("cuda", torch.float32, "triton", "matmul"),
        ("cuda", torch.float64, "matmul", "matmul"),
    ],
)
def test_the_choice_is_by_device_and_dtype(
    monkeypatch: Any, device: str, dtype: torch.dtype, with_triton: str, without: str
) -> None:
    weight: Any = Weight(device, dtype)
    for installed, wanted in ((True, with_triton), (False, without)):
        monkeypatch.setattr(devices, "has_triton", lambda installed=installed: installed)
        assert choose_backend(None, weight) == wanted
        assert choose_backend("matmul", weight) == "matmul"


def test_a_backend_that_cannot_run_is_an_error(monkeypatch: Any) -> None:
    with pytest.raises(RLCircuitsError, match="backend is 'cublas'; it must be one of matmul, reference, triton"):
        choose_backend("cublas")
    monkeypatch.setattr(devices, "has_triton", lambda: False)
    with pytest.raises(RLCircuitsError, match="triton is not installed"):
        choose_backend("triton")
