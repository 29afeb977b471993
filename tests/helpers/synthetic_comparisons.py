"""Synthetic scores, answers and comparisons, for tests of everything after attribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.types import Answer, Sampling
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.control_pairing import pair_control
from rlcircuits.comparison.effects import compare_accuracy
from rlcircuits.comparison.from_scores import Control, compare
from rlcircuits.comparison.pairing import Pairing, pair
from rlcircuits.graph.edge_graph import build_graph
from rlcircuits.graph.edge_scores import EdgeScores


def scores_of(edges: np.ndarray, loss: Sequence[float] | None = None, layers: int = 2) -> EdgeScores:
    """Return scores with these edges, [sequences, edges], truncated or padded with 0 to the graph's edges."""
    graph = build_graph(layers, 2, "sublayer")
    rows = np.zeros((len(edges), graph.n_edges), dtype=np.float32)
    width = min(edges.shape[1], graph.n_edges)
    rows[:, :width] = edges[:, :width]
    values = torch.zeros(len(edges), *graph.mask.shape)
    values[:, graph.mask] = torch.from_numpy(rows)
    losses = torch.ones(len(edges)) if loss is None else torch.tensor(loss, dtype=torch.float32)
    return EdgeScores(values, losses, graph, "made up")


def random_scores(sequences: int, seed: int, scale: float = 1.0, degrees: float = 5.0) -> EdgeScores:
    """Return edges drawn from a Student-t distribution with `degrees` of freedom, in a graph of two layers."""
    rng = np.random.default_rng(seed)
    edges = scale * rng.standard_t(degrees, size=(sequences, build_graph(2, 2, "sublayer").n_edges))
    return scores_of(edges, loss=list(rng.uniform(0.1, 1.0, sequences)))


def rows_of(scores: EdgeScores, places: Sequence[int]) -> EdgeScores:
    """Return the scores of the sequences at these indices."""
    chosen = list(places)
    return EdgeScores(scores.values[chosen], scores.loss[chosen], scores.graph, scores.backend)


def answers_of(
    correct: Sequence[bool],
    lengths: Sequence[int] | int = 10,
    prompts: Sequence[int] | int = 6,
    *,
    model: str = "made-up",
    split: str = "test",
    sampling: Sampling | None = None,
    first_token: int = 100,
) -> Answers:
    """Return one answer for each flag, to questions q0, q1, …

    `lengths` and `prompts` are numbers of tokens. The ids of every answer count up from `first_token`.
    """
    count = len(correct)
    lengths = [lengths] * count if isinstance(lengths, int) else lengths
    prompts = [prompts] * count if isinstance(prompts, int) else prompts
    items = tuple(
        Answer(f"q{i}", tuple(range(prompt)), tuple(range(first_token, first_token + length)), "", bool(right), True)
        for i, (right, length, prompt) in enumerate(zip(correct, lengths, prompts, strict=True))
    )
    return Answers(model, "arithmetic", split, sampling or Sampling(), items)


def noise(pairing: Pairing, before: Answers, answers: Answers, scores: EdgeScores | None, draw: int = 0) -> Control:
    """Return a noise draw with these answers.

    `scores` has a row for each question of the pairing, of which those that the draw is paired on are used.
    """
    paired = pair_control(pairing, before, answers)
    return Control(draw, answers, paired, None if scores is None else rows_of(scores, paired.places))


def made_up_comparison(
    name: str = "made-up",
    algorithm: str = "grpo",
    *,
    rise: bool = True,
    right_after: Sequence[bool] | None = None,
    questions: int = 40,
    controls: Sequence[float] = (1.0, 1.01),
    **options: Any,
) -> Comparison:
    """Return a comparison in which intensity and complexity rise and kurtosis falls, or the reverse if not `rise`.

    `controls` has, for each noise draw, the factor between its scores and those of before; 0 stands for a draw without
    correct answers. `right_after` are after's answers to `questions` questions that before answered right. By default
    accuracy rises: after answers these right, and half as many more that before answered wrong.
    """
    small_and_heavy = random_scores(questions, seed=0, scale=1.0, degrees=2.5)
    large_and_flat = random_scores(questions, seed=1, scale=3.0, degrees=200.0)
    first, last = (small_and_heavy, large_and_flat) if rise else (large_and_flat, small_and_heavy)
    before = answers_of([True] * questions, model="base")
    after = answers_of([True] * questions, model="tuned")
    paired = pair(before, after, k=questions)
    drawn = [
        noise(
            paired,
            before,
            answers_of([factor > 0] * questions),
            replace(first, values=factor * first.values) if factor else None,
            draw,
        )
        for draw, factor in enumerate(controls)
    ]
    compared = compare(first, last, paired, before, after, name=name, algorithm=algorithm, controls=drawn, **options)
    if right_after is None:
        more = questions // 2
        accuracy = compare_accuracy(
            answers_of([True] * questions + [False] * more), answers_of([True] * (questions + more))
        )
    else:
        accuracy = compare_accuracy(before, answers_of(right_after))
    return replace(compared, accuracy=accuracy)
