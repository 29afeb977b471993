"""Made-up scores, answers and comparisons, for tests of what comes after attribution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rlcircuits.answers import Answer, Answers, Sampling
from rlcircuits.attribution import EdgeScores
from rlcircuits.comparison import Comparison, compare
from rlcircuits.graph import build_graph
from rlcircuits.pairing import pair


def scores_of(edges: np.ndarray, loss: Sequence[float] | None = None, layers: int = 2) -> EdgeScores:
    """Scores with these edges: [sequences, edges], cut or repeated with 0 to the graph's number of edges."""
    graph = build_graph(layers, 2, "sublayer")
    rows = np.zeros((len(edges), graph.n_edges), dtype=np.float32)
    width = min(edges.shape[1], graph.n_edges)
    rows[:, :width] = edges[:, :width]
    values = torch.zeros(len(edges), *graph.mask.shape)
    values[:, graph.mask] = torch.from_numpy(rows)
    losses = torch.ones(len(edges)) if loss is None else torch.tensor(loss, dtype=torch.float32)
    return EdgeScores(values, losses, graph, "made up")


def random_scores(sequences: int, seed: int, scale: float = 1.0, degrees: float = 5.0) -> EdgeScores:
    """Student-t edges, as heavy-tailed as `degrees` says, in a graph of two layers."""
    rng = np.random.default_rng(seed)
    edges = scale * rng.standard_t(degrees, size=(sequences, build_graph(2, 2, "sublayer").n_edges))
    return scores_of(edges, loss=list(rng.uniform(0.1, 1.0, sequences)))


def answers_of(
    correct: Sequence[bool],
    lengths: Sequence[int] | int = 10,
    prompts: Sequence[int] | int = 6,
    *,
    model: str = "made-up",
    split: str = "test",
    sampling: Sampling | None = None,
) -> Answers:
    """One answer a flag, to questions q0, q1, …, with these token counts."""
    count = len(correct)
    lengths = [lengths] * count if isinstance(lengths, int) else lengths
    prompts = [prompts] * count if isinstance(prompts, int) else prompts
    items = tuple(
        Answer(f"q{i}", tuple(range(prompt)), tuple(range(100, 100 + length)), "", bool(right), True)
        for i, (right, length, prompt) in enumerate(zip(correct, lengths, prompts, strict=True))
    )
    return Answers(model, "arithmetic", split, sampling or Sampling(), items)


def made_up_comparison(
    name: str = "made-up",
    algorithm: str = "grpo",
    *,
    rise: bool = True,
    right_after: Sequence[bool] | None = None,
    questions: int = 40,
) -> Comparison:
    """A comparison whose intensity and complexity rise and kurtosis falls, or the other way round."""
    small_and_heavy = random_scores(questions, seed=0, scale=1.0, degrees=2.5)
    large_and_flat = random_scores(questions, seed=1, scale=3.0, degrees=200.0)
    first, last = (small_and_heavy, large_and_flat) if rise else (large_and_flat, small_and_heavy)
    before = answers_of([True] * questions, model="base")
    after = answers_of([True] * questions, model="tuned")
    compared = compare(first, last, pair(before, after, k=questions), before, after, name=name, algorithm=algorithm)
    if right_after is None:
        return compared
    from dataclasses import replace

    from rlcircuits.comparison import compare_accuracy

    return replace(compared, accuracy=compare_accuracy(before, answers_of(right_after)))
