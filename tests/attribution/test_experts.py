"""Granularity `expert`: each expert of a mixture is a writer, in every family of mixtures, against the oracle."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.core_inputs import batches, fixed_sequences, relative_error, sequences, tiny, tokens
from helpers.oracle import edge_names, edge_scores, float64_copy, path_scores
from helpers.rounding import differ_by_rounding
from helpers.slow_cases import slow_unless
from helpers.tiny_models import ARCHITECTURES, MIXTURES, build, has_experts, padding_sides
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from rlcircuits import AnswerSequence, AnswerSpans, Checkpoint, RLCircuitsError, attribute, attribute_spans
from rlcircuits.capture.expert_check import verify_experts
from rlcircuits.circuits.ablated_forward import ablated
from rlcircuits.circuits.circuit import Circuit
from rlcircuits.circuits.exact import exact_effects
from rlcircuits.circuits.nodes import prune
from rlcircuits.circuits.select import find_circuit
from rlcircuits.contraction import grouped
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.models.mixtures import Mixture
from rlcircuits.models.parts import locate_parts

TOLERANCE = 1e-4  # float32 against float64, ‖W − W*‖ / ‖W*‖ of each sequence
QUICK = ("mixtral", "llama4", "nemotron-h")
"""One of each way in which experts are called: with choices, with weighted inputs, in a latent."""
SOME = slow_unless(lambda name: name in QUICK, [(name,) for name in MIXTURES])


@cache
def exact(name: str) -> Any:
    """The float64 copy of `tiny(name)` for the oracle, which would make one at each call."""
    return float64_copy(tiny(name))


def by_sublayer(values: Tensor, graph: EdgeGraph, whole: EdgeGraph) -> Tensor:
    """Return the scores with the experts of each mixture added up."""
    rows = [whole.writers.index(".".join(name.split(".")[:2])) for name in graph.writers]
    return torch.zeros(len(values), *whole.mask.shape).index_add_(1, torch.tensor(rows), values)


BEHIND_A_NORM = ["gemma4-moe"]
"""Mixtures whose experts' sum is normed before it is added to the stream."""


def test_every_mixture_is_in_a_list() -> None:
    assert sorted([*MIXTURES, *BEHIND_A_NORM]) == [name for name in sorted(ARCHITECTURES) if has_experts(tiny(name))]


@pytest.mark.parametrize("name", BEHIND_A_NORM)
def test_experts_behind_a_norm_are_refused(name: str) -> None:
    with pytest.raises(RLCircuitsError, match=r"cannot have: mlp\.0: a norm of their sum stands between"):
        attribute(tiny(name), fixed_sequences(1), "expert")


@pytest.mark.parametrize("name", MIXTURES)
def test_graph_has_the_oracles_names_and_edges(name: str) -> None:
    graph = attribute(tiny(name), fixed_sequences(1), "expert").graph
    writers, readers, mask = edge_names(tiny(name), "expert")
    assert (graph.writers, graph.readers) == (writers, readers)
    assert torch.equal(graph.mask, mask)
    assert graph.granularity == "expert"


@pytest.mark.parametrize("name", MIXTURES)
@settings(max_examples=2)
@given(batch=batches)
def test_scores_are_the_definitions(name: str, batch: list[AnswerSequence]) -> None:
    found = attribute(tiny(name), batch, "expert")
    scores, losses = edge_scores(exact(name), batch, "expert")
    assert relative_error(found.values, scores) < TOLERANCE
    torch.testing.assert_close(found.loss.double(), losses, rtol=TOLERANCE, atol=TOLERANCE)
    # In the oracle the weight of an expert is exactly zero at the tokens that did not choose it.
    unused = (scores == 0).all(2)
    assert (found.values[unused] == 0).all()


@pytest.mark.parametrize("name", SOME)
@settings(max_examples=2)
@given(data=st.data())
def test_patching_scores_are_the_definitions(name: str, data: Any) -> None:
    clean = data.draw(sequences())
    lengths = len(clean.prompt_ids), len(clean.answer_ids)
    other = AnswerSequence(*(tuple(data.draw(st.lists(tokens, min_size=n, max_size=n))) for n in lengths))
    found = attribute(tiny(name), [clean], "expert", corrupted=[other]).values
    scores, _ = edge_scores(exact(name), [clean], "expert", corrupted=[other])
    # Where every difference lies outside what the answer depends on, both are zero up to rounding.
    assert (found.double() - scores).norm() < TOLERANCE * max(float(scores.norm()), 1e-3)


@pytest.mark.parametrize("name", SOME)
def test_integrated_gradients_are_the_definition(name: str) -> None:
    # Of one path: at its points a router may be near a tie, where float32 and float64 choose apart.
    clean, other = fixed_sequences(1)[0], fixed_sequences(1, seed=12)[0]
    found = attribute(tiny(name), [clean], "expert", corrupted=[other], method="eap-ig", steps=2).values[0]
    wanted, _ = path_scores(exact(name), clean, other, (0.25, 0.75), "expert")
    assert (found.double() - wanted).norm() < TOLERANCE * wanted.norm()


@pytest.mark.parametrize("name", MIXTURES)
def test_a_layers_experts_sum_to_its_mlp(name: str) -> None:
    batch = fixed_sequences()
    found, whole = attribute(tiny(name), batch, "expert"), attribute(tiny(name), batch)
    assert torch.equal(found.loss, whole.loss)
    assert relative_error(by_sublayer(found.values, found.graph, whole.graph), whole.values) < 1e-5


@pytest.mark.parametrize("name", SOME)
@settings(max_examples=2)
@given(data=st.data())
def test_scores_do_not_depend_on_the_batch_or_on_padding(name: str, data: Any) -> None:
    batch = data.draw(st.lists(sequences(), min_size=2, max_size=3))
    alone = torch.cat([attribute(tiny(name), [each], "expert").values for each in batch])
    for side in padding_sides(name):
        together = attribute(tiny(name), batch, "expert", batch_tokens=64, padding_side=side)
        assert differ_by_rounding(together.values, alone, name, batch, "expert")


@pytest.mark.parametrize("name", QUICK)
def test_recomputation_leaves_scores_as_they_are(name: str) -> None:
    batch = fixed_sequences()
    wanted = attribute(tiny(name), batch, "expert").values
    assert relative_error(attribute(tiny(name), batch, "expert", recompute=True).values, wanted) < 1e-5


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("nbytes", [1, 3000, 2**28])
def test_spans_add_up_however_the_batch_is_cut(name: str, nbytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [*fixed_sequences(), *fixed_sequences(seed=12)]
    wanted = attribute(tiny(name), batch, "expert").values
    spans = [AnswerSpans(len(each.prompt_ids), (1, len(each.answer_ids) - 1)) for each in batch]
    for bound in ("pending_grads_bytes", "contraction_bytes"):
        monkeypatch.setattr(grouped, bound, lambda *_: nbytes)
    found = attribute_spans(tiny(name), batch, spans, "expert")
    assert relative_error(found.whole().values, wanted) < 1e-5
    sublayers = attribute_spans(tiny(name), batch, spans)
    summed = by_sublayer(found.values, found.graph, sublayers.graph)
    scale = sublayers.values.abs().max()
    torch.testing.assert_close(summed, sublayers.values, rtol=1e-4, atol=float(1e-6 * scale))


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("waiting", ["expert_grads_bytes", "pending_grads_bytes", "contraction_bytes"])
def test_little_memory_changes_no_score(name: str, waiting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = fixed_sequences()
    wanted = attribute(tiny(name), batch, "expert").values
    monkeypatch.setattr(grouped, waiting, lambda *_: 1)
    assert relative_error(attribute(tiny(name), batch, "expert").values, wanted) < 1e-5


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_err_as_sublayers_do(name: str, dtype: torch.dtype) -> None:
    model, batch = build(name, seed=3, dtype=dtype), fixed_sequences()
    errors = {
        kind: relative_error(attribute(model, batch, kind).values, edge_scores(model, batch, kind)[0])
        for kind in ("expert", "sublayer")
    }
    assert errors["expert"] < 2 * errors["sublayer"]


def test_an_average_with_shared_experts_halves_each_expert() -> None:
    model, batch = build("cohere2-moe", seed=3, shared_expert_combination_strategy="average"), fixed_sequences()
    assert relative_error(attribute(model, batch, "expert").values, edge_scores(model, batch, "expert")[0]) < TOLERANCE


def test_a_latent_without_shared_bias_and_without_a_latent() -> None:
    batch = fixed_sequences()
    for change in ({"mlp_bias": False}, {"moe_latent_size": None}):
        model = build("nemotron-h", seed=3, **change)
        scores = edge_scores(model, batch, "expert")[0]
        assert relative_error(attribute(model, batch, "expert").values, scores) < TOLERANCE


@pytest.mark.parametrize("name", ["mixtral", "qwen3-moe"])
def test_a_mixture_is_contracted_as_its_tokens_choices_one_layer_at_a_time(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never all experts at each token, nor two mixtures at once: that is what large mixtures have no memory for."""
    made: list[StorageWeakRef] = []
    shares = Mixture.shares

    def counted(self: Mixture, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        assert chosen.shape[1] == 2 < self.count
        assert all(each.expired() for each in made), "what another mixture wrote is still there"
        found = shares(self, hidden, chosen, weights)
        made.append(StorageWeakRef(found.untyped_storage()))
        return found

    attribute(tiny(name), fixed_sequences(1), "expert")  # the check of the experts
    monkeypatch.setattr(Mixture, "shares", counted)
    attribute(tiny(name), fixed_sequences(), "expert")
    mixtures = sum(block.mixture is not None for block in locate_parts(tiny(name)).blocks)
    assert len(made) == mixtures, "the experts of each layer run once more"
    made.clear()
    monkeypatch.setattr(grouped, "expert_grads_bytes", lambda device: 1)
    graph = attribute(tiny(name), fixed_sequences(), "expert").graph
    readers_behind = [int(graph.mask[graph.writers.index(w)].sum()) for w in graph.writers if w.endswith(".e0")]
    assert len(made) == sum(readers_behind), "and not where no reader waits for them"


# --- what is refused


def test_a_dense_model_has_no_experts() -> None:
    with pytest.raises(RLCircuitsError, match="'expert', which LlamaModel cannot have: it has no mixture of experts"):
        attribute(tiny("llama"), fixed_sequences(1), "expert")


def test_experts_of_an_unknown_kind_are_refused_and_sublayers_are_not() -> None:
    model: Any = build("mixtral", seed=3)
    wanted = attribute(model, fixed_sequences()).values

    class Other(type(model.model.layers[1].mlp.experts)):  # type: ignore[misc]
        def forward(self, hidden: Tensor, *routing: Tensor) -> Tensor:
            return super().forward(hidden, *routing)  # type: ignore[no-any-return]

    model.model.layers[1].mlp.experts.__class__ = Other
    assert torch.equal(attribute(model, fixed_sequences()).values, wanted)
    with pytest.raises(RLCircuitsError, match=r"mlp\.1: its experts \(Other\) are not one module that is called with"):
        attribute(model, fixed_sequences(), "expert")


@pytest.mark.parametrize("name", ["mixtral", "glm4-moe"])
def test_a_mixture_that_writes_something_else_is_an_error(name: str) -> None:
    model: Any = build(name, seed=3)
    mixture = model.model.layers[1].mlp

    class Doubled(type(mixture)):  # type: ignore[misc]
        def forward(self, hidden: Tensor) -> Tensor:
            return super().forward(hidden) * 2  # type: ignore[no-any-return]

    mixture.__class__ = Doubled
    assert attribute(model, fixed_sequences(1)).values.isfinite().all()
    with pytest.raises(RLCircuitsError, match=r"the sum of the experts of mlp\.1, .* is not what the mixture writes"):
        attribute(model, fixed_sequences(1), "expert")


@pytest.mark.parametrize("name", MIXTURES)
def test_the_check_agrees_where_scores_do(name: str) -> None:
    assert verify_experts(tiny(name), locate_parts(tiny(name))).error < 1e-5


def test_edges_of_experts_cannot_be_removed() -> None:
    batch = fixed_sequences(2)
    scores = attribute(tiny("mixtral"), batch, "expert")
    for remove in (
        lambda: ablated(tiny("mixtral"), batch, find_circuit(scores, 5)),
        lambda: exact_effects(tiny("mixtral"), batch, granularity="expert"),
    ):
        with pytest.raises(RLCircuitsError, match="'expert', whose edges cannot be removed"):
            remove()


# --- circuits of experts


@pytest.mark.parametrize("name", ["qwen3-moe", "glm4-moe", "granite-hybrid"])
def test_a_circuit_of_experts_is_stored_and_read(name: str, tmp_path: Path) -> None:
    scores = attribute(tiny(name), fixed_sequences(), "expert")
    circuit = find_circuit(scores, 0.3)
    assert any(".e" in writer for writer, _ in circuit.edges)
    circuit.save(tmp_path / "circuit.json")
    again = Circuit.load(tmp_path / "circuit.json")
    assert again.graph.same_as(scores.graph)
    assert again.edges == circuit.edges


def test_an_expert_is_fed_by_what_its_mlp_reads() -> None:
    scores = attribute(tiny("mixtral"), fixed_sequences(1), "expert")
    graph, mask = scores.graph, torch.zeros_like(scores.graph.mask)
    for writer, reader in (("embed", "mlp.0"), ("mlp.0.e1", "logits"), ("mlp.1.e0", "logits")):
        mask[graph.writers.index(writer), graph.readers.index(reader)] = True
    kept = [(graph.writers[u], graph.readers[v]) for u, v in prune(graph, mask).nonzero().tolist()]
    assert kept == [("embed", "mlp.0"), ("mlp.0.e1", "logits")]


def test_experts_are_verified_once() -> None:
    model = build("mixtral", seed=3)
    calls = []
    hook = model.model.layers[0].mlp.experts.register_forward_hook(lambda *_: calls.append(1))
    checkpoint = Checkpoint(model)
    attribute(checkpoint, fixed_sequences(1), "expert")
    first = len(calls)
    calls.clear()
    attribute(checkpoint, fixed_sequences(1), "expert")
    hook.remove()
    assert len(calls) == 1 < first
