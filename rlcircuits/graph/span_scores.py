"""The score of every edge for every span of every sequence, and the file that stores them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from rlcircuits.common.arguments import validate_arguments, validate_fields
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import write_atomically
from rlcircuits.common.input_files import check_readable
from rlcircuits.common.reprs import format_count, short_repr
from rlcircuits.graph.answer_spans import AnswerSpans
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.how_scored import HowScored
from rlcircuits.graph.span_file import KIND, METADATA, SpanFile

__all__ = ["SpanScores"]


@dataclass(frozen=True, eq=False)
class SpanScores:
    """The scores of every edge, kept apart by span: the prompt, and each step of the answer.

    The score of a span is the sum over its positions only, so the spans' scores add up to the sequence's:

        W_s[u→v] = − Σ_{t in s} ⟨ ∂M/∂x_v[t] , o_u[t] ⟩,        Σ_s W_s = W

    Row i is span ``span[i]`` of sequence ``sequence[i]``. Rows stand in the order of the sequences, then of the spans.
    """

    values: Tensor
    """float32 [rows, writers, readers] on the CPU. Those of a file stay there, and are read where they are used."""
    sequence: Tensor
    """int64 [rows]: the place of each row's sequence."""
    span: Tensor
    """int64 [rows]: 0 for the prompt, 1 for the first step, …."""
    positions: Tensor
    """int64 [rows]: how many positions the span has; 0 for a last step of one token, which is only predicted."""
    loss: Tensor
    """float32 [sequences], in nats: the mean cross-entropy over a sequence's answer tokens."""
    metric_values: Tensor
    """float32 [sequences]: the metric, by default the loss."""
    graph: EdgeGraph
    """The names of the writers and readers, and the mask of the edges."""
    backend: str
    """The backend that contracted."""
    how: HowScored
    """What was differentiated, and how."""

    def __post_init__(self) -> None:
        validate_fields(self)

    def __repr__(self) -> str:
        graph = f"{self.graph.granularity} graph of {format_count(self.graph.n_edges, 'edge')}"
        return short_repr(self, format_count(len(self), "sequence"), format_count(len(self.values), "span"), graph)

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def n_steps(self) -> int:
        """The largest number of steps that an answer has."""
        return int(self.span.max()) if len(self.span) else 0

    def whole(self) -> EdgeScores:
        """Return the scores of whole sequences: the sums over their spans."""
        total = torch.zeros(len(self), *self.graph.mask.shape)
        for row, sequence in enumerate(self.sequence.tolist()):  # one at a time: the rows may be larger than the memory
            total[sequence] += self.values[row]
        return EdgeScores(total, self.loss, self.graph, self.backend, self.how, self.metric_values)

    @validate_arguments
    def save(self, path: str | Path) -> None:
        """Write one safetensors file, atomically. Raises RLCircuitsError if it cannot be written."""

        def write(partial: Path) -> None:
            file = SpanFile(partial, *_indices(self), self.graph, self.backend, self.how)
            for row, values in enumerate(self.values):
                file.values[row] = values
            file.loss[:], file.metric_values[:] = self.loss, self.metric_values
            file.close()

        try:
            write_atomically(Path(path), write)
        except OSError as error:
            raise RLCircuitsError(f"{path} cannot be written: {error}") from error

    @classmethod
    @validate_arguments
    def load(cls, path: str | Path) -> SpanScores:
        """Read a file that ``save`` or ``attribute_spans(out=...)`` wrote. Its values stay in the file until used.

        Raises:
            RLCircuitsError: the file is missing or damaged, or holds no scores of spans.
        """
        check_readable(Path(path))
        try:
            with safetensors.safe_open(str(path), framework="pt") as file:
                stored = json.loads((file.metadata() or {})[METADATA])
                if stored.get("kind") != KIND:
                    raise RLCircuitsError("it holds scores of whole sequences; EdgeScores.load reads them")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            graph = EdgeGraph(tuple(stored["writers"]), tuple(stored["readers"]), tensors.pop("mask").bool())
            scores = cls(**tensors, graph=graph, backend=stored["backend"], how=HowScored.of_changed(stored["how"]))
        except KeyError as error:
            raise RLCircuitsError(f"{path} holds no scores of spans: {error} is missing") from error
        except (
            OSError, safetensors.SafetensorError, json.JSONDecodeError, TypeError, AttributeError, RLCircuitsError
        ) as error:  # fmt: skip
            raise RLCircuitsError(f"{path} cannot be read as scores of spans: {error}") from error
        _check_shapes(path, scores)
        return scores


def span_rows(spans: Sequence[AnswerSpans]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sequence, the span and the number of positions of each row, int64 [rows] each."""
    rows = [
        (sequence, span, len(positions))
        for sequence, each in enumerate(spans)
        for span, positions in enumerate(each.positions)
    ]
    table = torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)
    return tuple(column.contiguous() for column in table.unbind(1))  # type: ignore[return-value]


def _indices(scores: SpanScores) -> tuple[Tensor, Tensor, Tensor, int]:
    return scores.sequence, scores.span, scores.positions, len(scores)


def _check_shapes(path: str | Path, scores: SpanScores) -> None:
    """Raise RLCircuitsError for tensors that do not fit one another."""
    rows, sequences, edges = len(scores.values), len(scores.loss), tuple(scores.graph.mask.shape)
    nodes = len(scores.graph.writers), len(scores.graph.readers)
    indices = (scores.sequence, scores.span, scores.positions)
    fits = (
        scores.values.shape == (rows, *edges)
        and edges == nodes
        and all(each.shape == (rows,) and each.dtype == torch.int64 for each in indices)
        and scores.metric_values.shape == scores.loss.shape == (sequences,)
        and (not rows or 0 <= int(scores.sequence.min()) <= int(scores.sequence.max()) < sequences)
    )
    if not fits:
        raise RLCircuitsError(
            f"{path} cannot be read as scores of spans: values {list(scores.values.shape)} do not fit {nodes[0]} "
            f"writers, {nodes[1]} readers and {sequences} sequences"
        )
