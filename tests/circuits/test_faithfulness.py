"""Faithfulness: the reference values of MIB, identities, and a model whose circuit is known."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from helpers.core_inputs import fixed_sequences, tiny
from helpers.known_circuit import EDGES, known_circuit_model, majority_questions

from rlcircuits import AnswerSequence, Checkpoint, EdgeScores, RLCircuitsError, attribute
from rlcircuits.attribution.edge_attribution import graph_of
from rlcircuits.circuits import (
    MIB_SIZES,
    Circuit,
    ablated,
    auroc,
    faithfulness,
    find_circuit,
    logit_difference,
    random_circuits,
)
from rlcircuits.circuits.faithfulness_curve import area
from rlcircuits.graph.edge_graph import build_graph


@cache
def known() -> Checkpoint:
    return Checkpoint(known_circuit_model())


@cache
def questions() -> list[AnswerSequence]:
    return majority_questions(60)


@cache
def corrupted() -> list[AnswerSequence]:
    return majority_questions(60, seed=1)


@cache
def known_scores() -> EdgeScores:
    return attribute(known(), questions(), corrupted=corrupted())


def known_circuit() -> Circuit:
    graph = known_scores().graph
    mask = torch.zeros_like(graph.mask)
    for writer, reader in EDGES:
        mask[graph.writers.index(writer), graph.readers.index(reader)] = True
    return Circuit(graph, mask)


def test_the_areas_are_mibs() -> None:
    """Ideal circuits have CPR .999 and CMD 0; circuits that do nothing below the full size CPR .25 and CMD .749."""
    ideal, random = np.ones(10), np.array([0.0] * 9 + [1.0])
    assert area(MIB_SIZES, ideal) == pytest.approx(0.999)
    assert area(MIB_SIZES, np.abs(1 - ideal)) == 0
    assert area(MIB_SIZES, random) == pytest.approx(0.25)
    assert area(MIB_SIZES, np.abs(1 - random)) == pytest.approx(0.749)


def test_the_model_with_a_known_circuit_answers() -> None:
    found = ablated(known(), questions(), known_scores().graph.mask)
    assert all(int(one.argmax()) == s.answer_ids[0] for one, s in zip(found.logits, questions(), strict=True))


def test_the_known_circuit_alone_does_what_the_model_does_and_without_one_edge_nothing() -> None:
    circuit, graph = known_circuit(), known_scores().graph
    how: dict[str, Any] = {"ablation": "resample", "corrupted": corrupted()}
    full, empty = (ablated(known(), questions(), m, **how).loss.mean() for m in (graph.mask, circuit.mask & False))
    assert float(ablated(known(), questions(), circuit, **how).loss.mean()) == pytest.approx(float(full), rel=0.02)
    for edge in circuit.mask.nonzero():
        mask = circuit.mask.clone()
        mask[tuple(edge)] = False
        assert float(ablated(known(), questions(), mask, **how).loss.mean()) == pytest.approx(float(empty), rel=0.02)


def test_the_scores_find_the_known_circuit() -> None:
    assert auroc(known_scores(), known_circuit()) == 1
    assert find_circuit(known_scores(), 3).edges == EDGES
    assert find_circuit(known_scores(), 3, method="greedy").edges == EDGES
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(known_scores().values.shape, generator=generator) * known_scores().graph.mask
    assert auroc(EdgeScores(noise, known_scores().loss, known_scores().graph, "reference"), known_circuit()) < 1


def test_the_curve_of_the_known_circuit_is_ideal_as_soon_as_it_holds_three_edges() -> None:
    curve = faithfulness(known(), questions(), known_scores(), "resample", corrupted=corrupted())
    edges = known_scores().graph.n_edges
    for size, f, kl, accuracy in zip(curve.sizes, curve.faithfulness, curve.kl, curve.accuracy, strict=True):
        if int(size * edges) >= len(EDGES):
            assert f == pytest.approx(1, abs=0.02)
            assert kl < 0.01
            assert accuracy == 1
        else:
            assert f == 0
    assert curve.faithfulness[-1] == 1
    drawn = random_circuits(known(), questions(), known_scores().graph, "resample", corrupted=corrupted(), draws=10)
    assert drawn.cpr[1] <= drawn.cpr[0] <= drawn.cpr[2] < curve.cpr
    assert drawn.cmd[0] > curve.cmd
    assert (drawn.interval[0] <= drawn.interval[1]).all()


@pytest.mark.parametrize("name", ["llama-gqa", "gemma2"])
def test_a_curve_is_what_each_circuit_gives_by_itself(name: str) -> None:
    sequences, model = fixed_sequences(), tiny(name)
    scores = attribute(model, sequences, "head")
    sizes = (0.05, 0.3, 1.0)
    curve = faithfulness(model, sequences, scores, "mean", ranking="signed", sizes=sizes, batch_tokens=20)
    nothing = torch.zeros_like(scores.graph.mask)
    full, empty = (-float(ablated(model, sequences, m, "mean").loss.mean()) for m in (scores.graph.mask, nothing))
    assert (curve.full, curve.empty) == pytest.approx((full, empty), rel=1e-5)
    for place, size in enumerate(sizes):
        circuit = find_circuit(scores, size, ranking="signed", pruned=size < 1)
        assert circuit.n_edges == curve.n_edges[place]
        metric = -float(ablated(model, sequences, circuit, "mean").loss.mean())
        assert curve.metric[place] == pytest.approx(metric, rel=1e-5)
        assert curve.faithfulness[place] == pytest.approx((metric - empty) / (full - empty), rel=1e-3)
    assert curve.kl[-1] == pytest.approx(0, abs=1e-6)


def test_the_logit_difference_is_mibs() -> None:
    sequences, model = fixed_sequences(), tiny("llama")
    foils = [7, 8, 9]
    scores = attribute(model, sequences)
    curve = faithfulness(model, sequences, scores, "zero", metric=logit_difference(foils), sizes=(0.5, 1.0))
    logits = ablated(model, sequences, scores.graph.mask).logits
    wanted = [one[0, s.answer_ids[0]] - one[0, foil] for one, s, foil in zip(logits, sequences, foils, strict=True)]
    assert curve.full == pytest.approx(float(torch.stack(wanted).mean()), rel=1e-5)


def test_a_curve_becomes_a_table() -> None:
    sequences = fixed_sequences()
    curve = faithfulness(tiny("llama"), sequences, attribute(tiny("llama"), sequences))
    assert list(curve.to_pandas()["size"]) == list(MIB_SIZES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": (0.5, 0.1)}, "ascending shares"),
        ({"sizes": (0.5,)}, "two or more"),
        ({"sequences": []}, "there is no sequence"),
        ({"ranking": "best"}, "ranking is 'best'"),
        ({"metric": logit_difference([1])}, "foils has 1 tokens"),
        ({"metric": lambda logits, batch: logits}, "a tensor .* is wanted, one a sequence"),
        ({"metric": lambda logits, batch: 1.0}, "metric returned float"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    sequences = fixed_sequences()
    scores = attribute(tiny("llama"), sequences)
    with pytest.raises(RLCircuitsError, match=message):
        faithfulness(tiny("llama"), **{"sequences": sequences, "scores": scores, **change})


def test_scores_of_another_graph_are_refused() -> None:
    sequences = fixed_sequences()
    with pytest.raises(RLCircuitsError, match="the scores' graph is not that of"):
        faithfulness(tiny("llama"), sequences, attribute(tiny("gpt2"), sequences))
    # A model whose attention and MLP read the same stream has nodes of the same names, and fewer edges.
    llama = attribute(tiny("llama"), sequences)
    parallel = build_graph(3, 1, "sublayer", parallel=True)
    assert parallel.mask.shape == llama.graph.mask.shape
    with pytest.raises(RLCircuitsError, match="the scores' graph is not that of"):
        faithfulness(tiny("llama"), sequences, EdgeScores(llama.values, llama.loss, parallel, llama.backend))
    graph = graph_of(Checkpoint(tiny("llama")), "sublayer")
    with pytest.raises(RLCircuitsError, match="has 0 of 46 edges"):
        auroc(attribute(tiny("llama"), sequences), Circuit(graph, graph.mask & False))
