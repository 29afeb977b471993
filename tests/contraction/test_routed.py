"""The contraction of experts at the tokens that chose them, against the definition at every token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.core_inputs import relative_error
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlcircuits.capture.batch_slices import BatchSlice
from rlcircuits.capture.expert_outputs import ExpertOutputs
from rlcircuits.capture.reader_grads import PendingReaderGrads, ReaderGrads, from_tensor
from rlcircuits.capture.writers import one_writer
from rlcircuits.common.stage_times import record_stages
from rlcircuits.common.sublayers import Experts
from rlcircuits.contraction import grouped
from rlcircuits.contraction.backends import BACKENDS
from rlcircuits.contraction.grouped import BatchShape, GroupedContraction
from rlcircuits.contraction.routed import contract_routed
from rlcircuits.graph.edge_graph import build_graph

WIDTH = 4


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator)


@st.composite
def routings(draw: Any) -> tuple[Tensor, Tensor, int, list[PendingReaderGrads]]:
    """Outputs of a few choices at each token, the experts they are of, and readers: any routing, ties included."""
    experts, choices, batch, pos = (draw(st.integers(1, most)) for most in (5, 3, 3, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    chosen = draw(st.lists(st.integers(0, experts - 1), min_size=(n := choices * batch * pos), max_size=n))
    outputs = normal(generator, choices, batch, pos, WIDTH)
    counts = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    readers = [from_tensor(0, normal(generator, count, batch, pos, WIDTH)) for count in counts]
    return outputs, torch.tensor(chosen).view(choices, batch, pos), experts, readers


def whole(outputs: Tensor) -> BatchSlice:
    return BatchSlice(slice(0, outputs.shape[1]), slice(0, outputs.shape[2]))


def grads(readers: list[PendingReaderGrads], outputs: Tensor) -> list[ReaderGrads]:
    return [each.reader_grads(whole(outputs)) for each in readers]


def by_hand(outputs: Tensor, chosen: Tensor, experts: int, readers: list[ReaderGrads]) -> Tensor:
    """The definition, one number after another, [batch, experts, R]."""
    stacked = torch.cat([each.whole() for each in readers]).double()
    scores = torch.zeros(outputs.shape[1], experts, len(stacked), dtype=torch.float64)
    for choice, batch, pos in torch.cartesian_prod(*(torch.arange(n) for n in outputs.shape[:3])).tolist():
        products = stacked[:, batch, pos] @ outputs[choice, batch, pos].double()
        scores[batch, chosen[choice, batch, pos]] -= products
    return scores


@pytest.mark.parametrize("name", ["reference", "matmul"])
@given(routing=routings())
def test_experts_are_contracted_where_they_were_chosen(name: str, routing: Any) -> None:
    outputs, chosen, experts, readers = routing
    wanted = by_hand(outputs, chosen, experts, grads(readers, outputs))
    found = BACKENDS[name]().contract_routed(outputs, chosen, experts, grads(readers, outputs))
    assert found.dtype == (torch.float64 if name == "reference" else torch.float32)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    for sequence in range(len(found)):
        idle = [e for e in range(experts) if not (chosen[:, sequence] == e).any()]
        assert (found[sequence, idle] == 0).all()


spans_of = st.tuples(st.integers(0, 5), st.integers(1, 5)).map(lambda pair: slice(pair[0], pair[0] + pair[1]))


@given(one=st.tuples(spans_of, spans_of), other=st.tuples(spans_of, spans_of))
def test_the_overlap_of_two_slices_is_what_both_cut_out(one: Any, other: Any) -> None:
    cells = torch.arange(100).view(10, 10, 1)
    first, second = BatchSlice(*one), BatchSlice(*other)
    wanted = set(first.of(cells).flatten().tolist()) & set(second.of(cells).flatten().tolist())
    found = first.overlap(second)
    assert (set() if found is None else set(found.of(cells).flatten().tolist())) == wanted
    if found is not None:
        assert torch.equal(found.relative_to(second).of(second.of(cells)), found.of(cells))


@given(routing=routings(), other=st.integers(0, 999))
def test_the_difference_of_two_runs_keeps_the_choices_of_both(routing: Any, other: int) -> None:
    outputs, chosen, experts, readers = routing
    generator = torch.Generator().manual_seed(other)
    theirs, their_choice = normal(generator, *outputs.shape), torch.randint(experts, chosen.shape, generator=generator)
    made = [
        ExpertOutputs(range(experts), which, lambda piece, what=what: piece.of(what))  # type: ignore[misc]
        for what, which in ((outputs, chosen), (theirs, their_choice))
    ]
    both = made[0].minus(made[1])
    assert both.choices == 2 * len(chosen)
    found = contract_routed(
        both.outputs(whole(outputs)), both.chosen_in(whole(outputs)), experts, grads(readers, outputs)
    )
    ours, others = (
        by_hand(what, which, experts, grads(readers, outputs))
        for what, which in ((outputs, chosen), (theirs, their_choice))
    )
    torch.testing.assert_close(found.double(), ours - others, rtol=1e-5, atol=1e-5)


def test_a_direction_is_taken_off_and_half_precision_is_accumulated_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, direction = normal(generator, 2, 3, 5, WIDTH), normal(generator, 3, 5, WIDTH)
    readers = [ReaderGrads(range(2), normal(generator, 2, 3, 5, WIDTH), direction)]
    chosen = torch.randint(4, (2, 3, 5), generator=generator)
    wanted = by_hand(outputs, chosen, 4, readers)
    assert relative_error(contract_routed(outputs, chosen, 4, readers), wanted) < 1e-6
    assert relative_error(BACKENDS["reference"]().contract_routed(outputs, chosen, 4, readers), wanted) < 1e-6
    half = contract_routed(outputs.bfloat16(), chosen, 4, [ReaderGrads(range(2), readers[0].grads)])
    assert half.dtype == torch.float32


# --- experts among the other writers of a graph


class Graph:
    """The contraction of a graph of two layers, each a mixture of two experts, of which each token chooses one."""

    def __init__(self) -> None:
        self.graph = build_graph(2, 1, "expert", experts=Experts(2, shared=False))
        self.calls: list[str] = []
        self.contraction = GroupedContraction(self.graph, BACKENDS["matmul"](), BatchShape(1, 3, WIDTH, 4))
        others = [self.graph.writers.index(name) for name in ("embed", "attn.0", "attn.1")]
        writers = [one_writer(index, torch.ones(1, 3, WIDTH)) for index in others]
        self.contraction.set_writers([*writers, *map(self._experts, (0, 1))])

    def _experts(self, layer: int) -> ExpertOutputs:
        def outputs(piece: BatchSlice) -> Tensor:
            self.calls.append(f"mlp.{layer}")
            return piece.of(torch.ones(1, 1, 3, WIDTH))

        first = self.graph.writers.index(f"mlp.{layer}.e0")
        return ExpertOutputs(range(first, first + 2), torch.zeros(1, 1, 3, dtype=torch.int64), outputs)

    def deliver(self, readers: list[str], device: str = "cpu") -> None:
        for name in readers:
            grads = torch.ones(1, 1, 3, WIDTH, device=device)
            self.contraction.on_reader_grads(from_tensor(self.graph.readers.index(name), grads))


LAST, FIRST = ["logits", "mlp.1", "attn.1.v", "attn.1.k", "attn.1.q"], ["mlp.0", "attn.0.v", "attn.0.k", "attn.0.q"]


def test_experts_run_again_only_for_readers_behind_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped, "expert_grads_bytes", lambda device: 1)  # each reader is contracted as it comes
    case = Graph()
    case.deliver(LAST + FIRST)
    case.contraction.finish()
    assert case.calls.count("mlp.1") == 1  # for the logits
    assert case.calls.count("mlp.0") == len(LAST)


def test_gradients_that_wait_for_experts_are_contracted_on_their_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    # The other gradients of the first device are contracted already when the first of the second device comes.
    monkeypatch.setattr(grouped, "pending_grads_bytes", lambda device: 1)
    case = Graph()
    case.deliver(LAST[:1], "meta")
    case.deliver(LAST[1:] + FIRST)
    assert case.contraction.finish().shape == (1, *case.graph.mask.shape)


def test_the_time_of_experts_is_that_of_the_contraction(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Graph()
    with record_stages() as times:
        case.deliver(LAST + FIRST)
        monkeypatch.setattr(case.contraction, "_contract_pending", lambda: None)
        case.contraction.finish()
    assert times is not None
    assert "contract" in {each.stage for each in times.table()}
