"""How large the page is: ten pairs of a model of 7 billion parameters fit into 5 MB, a graph of heads is cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.page_parts import read_page
from helpers.synthetic_comparisons import answers_of, made_up_comparison

from rlcircuits.answers.answer_file import Answers
from rlcircuits.graph.edge_graph import EdgeGraph, build_graph
from rlcircuits.report.page import write
from rlcircuits.report.page.data import PairData, collect_pairs
from rlcircuits.report.page.edge_means import EdgeMeans
from rlcircuits.report.page.edges import MOST_EDGES, edge_payload, edges_in_words
from rlcircuits.report.page.payload import unpack

LAYERS, HEADS = 32, 32
"""Of Llama 2 7B."""


def means(graph: EdgeGraph, seed: int = 0) -> EdgeMeans:
    rng = np.random.default_rng(seed)
    places = graph.mask.nonzero().numpy()
    before, after = (1e-3 * rng.standard_t(2.5, len(places)) for _ in range(2))
    return EdgeMeans(graph, places, before, after, None, 400)


def written(rng: np.random.Generator, answers: Answers) -> Answers:
    """Give each answer 1,200 characters of words of random letters, which compress less well than a language."""
    letters = np.array(list("etaoinshrdlucmfwypvbgk"))
    lengths = rng.integers(2, 9, 3000)
    words = ["".join(rng.choice(letters, length)) for length in lengths]
    return replace(answers, items=tuple(replace(item, text=" ".join(rng.choice(words, 210))) for item in answers.items))


@pytest.mark.slow
def test_ten_pairs_of_7b_fit_into_five_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, graph = np.random.default_rng(0), build_graph(LAYERS, HEADS, "sublayer")
    comparisons = [replace(made_up_comparison(questions=400), name=f"pair {number}") for number in range(10)]

    def collect(*arguments: object) -> list[PairData]:
        pairs = collect_pairs(*arguments)  # type: ignore[arg-type]
        answers = [{side: written(rng, answers_of([True] * 400)) for side in ("before", "after")} for _ in comparisons]
        edges = [means(graph, seed) for seed in range(10)]
        return [replace(p, edges=e, answers=a) for p, e, a in zip(pairs, edges, answers, strict=True)]

    monkeypatch.setattr(write, "collect_pairs", collect)
    page = write.to_html(comparisons)
    assert len(page.encode()) < 5_000_000
    packed = [unpack(each.text) for each in read_page(page).all("script", class_="payload")]
    assert [len(each["edges"]["before"]) for each in packed] == [graph.n_edges] * 10  # type: ignore[index,call-overload]
    assert all(len(text) <= 800 for text, *_ in packed[0]["answers"][0])  # type: ignore[index]


def test_of_a_graph_of_heads_the_strongest_edges_are_there() -> None:
    small = means(build_graph(8, 8, "head"))
    assert len(edge_payload(small)["steps"]) == small.graph.n_edges  # type: ignore[arg-type]
    large = means(build_graph(16, 16, "head"))
    assert len(large.before) > MOST_EDGES
    packed = edge_payload(large)
    steps, unit = packed["steps"], packed["unit"]
    assert isinstance(steps, list)
    assert isinstance(unit, float)
    assert len(steps) == MOST_EDGES
    kept = np.cumsum(steps)
    size = np.maximum.reduce([np.abs(large.before), np.abs(large.after), np.abs(large.change)])
    all_places = large.places[:, 0] * len(large.graph.readers) + large.places[:, 1]
    is_kept = np.isin(all_places, kept)
    assert size[is_kept].min() >= size[~is_kept].max()
    np.testing.assert_allclose(np.array(packed["before"]) * unit, large.before[is_kept], atol=unit)
    assert str(edges_in_words(large)).startswith("The 30,000 strongest of ")
