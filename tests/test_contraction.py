"""Every contraction backend against the float64 definition, on the shapes Hypothesis draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.contraction import BACKENDS, choose_backend
from rlcircuits.contraction.grouped import GroupedContraction
from rlcircuits.errors import RLCircuitsError
from rlcircuits.graph import build_graph
from rlcircuits.readers import Felt
from rlcircuits.writers import one_writer

sizes = st.tuples(*(st.integers(1, n) for n in (5, 5, 3, 7, 9)))


@pytest.mark.parametrize("backend", sorted(set(BACKENDS) - {"reference"}))
@given(size=sizes, seed=st.integers(0, 99), dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))
def test_backends_are_the_definition(backend: str, size: Any, seed: int, dtype: torch.dtype) -> None:
    n_writers, n_readers, batch, pos, width = size
    generator = torch.Generator().manual_seed(seed)
    # Writers and readers arrive as slices and broadcasts of larger tensors too: never assume contiguity.
    writes = torch.randn(n_writers, batch, width, pos, generator=generator).to(dtype).transpose(2, 3)
    grads = torch.randn(batch, n_readers, pos, width, generator=generator).to(dtype).transpose(0, 1)
    wanted = BACKENDS["reference"](writes, grads)
    by_hand = torch.zeros(batch, n_writers, n_readers, dtype=torch.float64)
    for b in range(batch):
        for w in range(n_writers):
            for r in range(n_readers):
                by_hand[b, w, r] = -(writes[w, b].double() * grads[r, b].double()).sum()
    torch.testing.assert_close(wanted, by_hand)
    found = BACKENDS[backend](writes, grads)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    # Inputs are exact in float32 whatever their dtype, so only float32 sums round.
    scale = (writes.double().norm() * grads.double().norm()).item()
    assert (found.double() - wanted).norm().item() <= 1e-6 * scale


@given(layers=st.integers(1, 12), seed=st.integers(0, 99))
def test_grouping_changes_nothing(layers: int, seed: int) -> None:
    graph = build_graph(layers, 2, "sublayer")
    generator = torch.Generator().manual_seed(seed)
    writes = torch.randn(len(graph.writers), 2, 3, 4, generator=generator)
    grads = torch.randn(len(graph.readers), 2, 3, 4, generator=generator)
    contraction = GroupedContraction(graph, BACKENDS["reference"])
    contraction.set_writers([one_writer(i, write) for i, write in enumerate(writes)])
    for reader in reversed(range(len(graph.readers))):
        contraction.deliver(Felt(range(reader, reader + 1), grads[reader, None]))
    wanted = BACKENDS["reference"](writes, grads) * graph.mask
    torch.testing.assert_close(contraction.finish(), wanted)


def test_a_reader_without_a_gradient_is_an_error() -> None:
    graph = build_graph(1, 2, "sublayer")
    contraction = GroupedContraction(graph, BACKENDS["reference"])
    contraction.set_writers([one_writer(i, torch.ones(1, 1, 1)) for i in range(len(graph.writers))])
    contraction.deliver(Felt(range(0, 4), torch.ones(4, 1, 1, 1)))
    with pytest.raises(RLCircuitsError, match="no gradient reached reader logits"):
        contraction.finish()


def test_an_unknown_backend_is_an_error() -> None:
    with pytest.raises(RLCircuitsError, match="backend is 'cublas'; it must be one of matmul, reference"):
        choose_backend("cublas")
