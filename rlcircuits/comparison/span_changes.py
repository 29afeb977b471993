"""What changed by span between two checkpoints: which step of the answer the stronger edges serve.

The activation intensity of a sequence is the mean |W| of its edges. With W the sum of W_s over spans s, each span has

    I_s = mean over edges of sign(W) W_s,        Σ_s I_s = mean |W|

as its share: positive where the span's positions give an edge its score, negative where they lessen it. **Choice**: the
mean of |W_s| would not add up, since spans may cancel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from tabulate import tabulate
from torch import Tensor

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.reprs import format_count, short_repr
from rlcircuits.graph.answer_spans import span_name
from rlcircuits.graph.span_scores import SpanScores

__all__ = ["SpanChange", "SpanChanges", "span_changes", "span_intensities", "strengthened_edges"]

_LEVEL = 0.95


@dataclass(frozen=True)
class SpanChange:
    """The intensity of one span before and after, over the sequences that have the span in both."""

    name: str
    """``prompt``, ``step 1``, …, or ``whole``."""
    sequences: int
    """How many sequences have it in both."""
    before: float
    """Mean intensity before, in units of the metric (nats)."""
    after: float
    """Mean intensity after."""
    low: float
    """Lower end of the 95 % interval of after − before (Student's t of the pairs); NaN for fewer than two pairs."""
    high: float
    """Upper end."""

    @property
    def change(self) -> float:
        """After − before."""
        return self.after - self.before


@dataclass(frozen=True)
class SpanChanges:
    """The change of each span, the whole sequence last. Where all sequences have all spans, the rows before add up."""

    rows: tuple[SpanChange, ...]
    edges: int
    """How many edges the means are over."""

    def __repr__(self) -> str:
        return short_repr(self, format_count(len(self.rows) - 1, "span"), format_count(self.edges, "edge"))

    def __str__(self) -> str:
        table = [
            [row.name, row.sequences, f"{row.before:.4g}", f"{row.after:.4g}", f"{row.change:+.3g}",
             f"[{row.low:+.3g}, {row.high:+.3g}]"]
            for row in self.rows
        ]  # fmt: skip
        headers = ["span", "sequences", "before", "after", "change", "95 %"]
        return tabulate(table, headers, disable_numparse=True, stralign="right")


@validate_arguments
def span_changes(before: SpanScores, after: SpanScores, edges: Tensor | None = None) -> SpanChanges:
    """Return how the activation intensity of each span changed.

    Args:
        before: scores of the checkpoint before training.
        after: scores of the one after it, whose sequence i is paired with sequence i of ``before``: the same one, or an
            answer to the same question.
        edges: bool [writers, readers], the edges to take the mean over, such as :func:`strengthened_edges` returns; by
            default all.

    Raises:
        RLCircuitsError: another graph, other scoring or another number of sequences; ``edges`` of another shape, or
            with none.
    """
    _check_pair(before, after)
    graph = before.graph
    chosen = graph.mask if edges is None else edges
    if chosen.dtype != torch.bool or chosen.shape != graph.mask.shape or not bool((chosen & graph.mask).any()):
        raise RLCircuitsError(
            f"edges is {chosen.dtype} {list(chosen.shape)}; bool {list(graph.mask.shape)} with at least one edge is "
            "wanted"
        )
    chosen = chosen & graph.mask
    table = [_by_span(scores, chosen) for scores in (before, after)]
    columns = max(each.shape[1] for each in table)
    padded = [np.pad(each, ((0, 0), (0, columns - each.shape[1])), constant_values=np.nan) for each in table]
    rows = [_change(span_name(span), padded[0][:, span], padded[1][:, span]) for span in range(columns)]
    rows.append(_change("whole", *(np.nansum(each, axis=1) for each in padded)))
    return SpanChanges(tuple(rows), int(chosen.sum()))


@validate_arguments
def span_intensities(scores: SpanScores, edges: Tensor | None = None) -> NDArray[np.float64]:
    """Return each row's share of its sequence's activation intensity.

    Args:
        scores: scores of R spans.
        edges: bool [writers, readers], the edges to take the mean over; by default all.

    Returns:
        float64 [R]. The rows of a sequence add up to its mean |W| over the edges.
    """
    chosen = scores.graph.mask if edges is None else edges
    found = np.zeros(len(scores.span))
    of_row = scores.sequence.numpy()
    for sequence in range(len(scores)):  # one at a time: the rows may be larger than the memory
        places = np.flatnonzero(of_row == sequence)
        values = scores.values[places.tolist()][:, chosen].double()
        found[places] = (values * values.sum(0).sign()).mean(1).numpy()
    return found


@validate_arguments
def strengthened_edges(before: SpanScores, after: SpanScores, top: int = 20) -> Tensor:
    """Return the edges whose mean |W| grew most, bool [writers, readers]: at most ``top``, none that did not grow.

    Edges that are chosen on some sequences and measured on the same ones seem to have grown by more than they did. So
    choose them on half of the questions, and give :func:`span_changes` the other half.

    Raises:
        RLCircuitsError: another graph, other scoring or another number of sequences; ``top`` below 1.
    """
    _check_pair(before, after)
    if top < 1:
        raise RLCircuitsError(f"top is {top}; at least one edge is wanted")
    means = [scores.whole().values.abs().double().mean(0) for scores in (before, after)]
    growth = (means[1] - means[0]).masked_fill(~before.graph.mask, 0)
    best = growth.flatten().topk(min(top, growth.numel())).indices
    mask = torch.zeros_like(before.graph.mask)
    mask.view(-1)[best] = True
    return mask & (growth > 0)


def _by_span(scores: SpanScores, chosen: Tensor) -> NDArray[np.float64]:
    """Return the intensity of each span of each sequence, [sequences, spans], NaN where a sequence has no such span."""
    found = np.full((len(scores), 1 + scores.n_steps), np.nan)
    found[scores.sequence.numpy(), scores.span.numpy()] = span_intensities(scores, chosen)
    return found


def _change(name: str, before: NDArray[np.float64], after: NDArray[np.float64]) -> SpanChange:
    both = ~np.isnan(before) & ~np.isnan(after)
    before, after = before[both], after[both]
    if not len(before):
        return SpanChange(name, 0, *(math.nan,) * 4)
    low = high = math.nan
    if len(before) > 1:
        change = after - before
        half = stats.t.isf((1 - _LEVEL) / 2, len(change) - 1) * stats.sem(change)
        low, high = change.mean() - half, change.mean() + half
    return SpanChange(name, len(before), float(before.mean()), float(after.mean()), float(low), float(high))


def _check_pair(before: SpanScores, after: SpanScores) -> None:
    """Raise RLCircuitsError unless the scores can be compared sequence by sequence."""
    if not before.graph.same_as(after.graph):
        raise RLCircuitsError("the two have different graphs, so their edges cannot be compared")
    if before.how != after.how:
        raise RLCircuitsError(f"before was scored by {before.how}, after by {after.how}; score both in one way")
    if len(before) != len(after):
        raise RLCircuitsError(
            f"before has {len(before)} sequences and after {len(after)}; each needs its pair, at the same place"
        )
