"""The score of every edge for every sequence, and the file that stores them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from rlcircuits.common.arguments import validate_arguments, validate_fields
from rlcircuits.common.choices import CROSS_ENTROPY
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.input_files import check_readable
from rlcircuits.common.reprs import format_count, short_repr
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.graph.edge_tables import edge_table
from rlcircuits.graph.how_scored import DEFAULT_SCORING, HowScored, changed_in_words
from rlcircuits.graph.span_file import KIND as SPANS

if TYPE_CHECKING:
    import pandas as pd

_METADATA = "rlcircuits"
"""The entry of a file's metadata that holds the names, the backend, and how the scores were made."""


_UNREADABLE = (
    OSError,
    safetensors.SafetensorError,
    json.JSONDecodeError,
    TypeError,
    AttributeError,
    RLCircuitsError,
)
"""What a damaged file raises while it is read."""


@dataclass(frozen=True, eq=False)
class EdgeScores:
    """The score of every edge for every sequence, with the sequences' losses.

    A score is the first-order effect of an edge on the loss (edge attribution patching, arXiv 2310.10348; as a metric
    of post-training, arXiv 2509.21044). ``rlcircuits.attribute`` has the formula.
    """

    values: Tensor
    """float32 [sequences, writers, readers] on the CPU, in units of the metric; 0 where there is no edge.

    The estimated change of the metric when the writer's output is removed from what the reader reads (with corrupted
    sequences: replaced by the corrupted output). The default metric is the loss, in nats: a positive score means that
    the loss rises without the edge, so the edge makes the answer more likely. For a metric that is better where it is
    higher, such an edge has a negative score.

    The sign is that of EAP-IG, (corrupted − clean) · ∂loss at the clean run. TransformerLens takes
    (clean − corrupted) · ∂metric at the corrupted run, so that its corrupted is our clean. auto-circuit takes either
    direction. See "Signs, and other libraries" in docs/method.md."""
    loss: Tensor
    """float32 [sequences] on the CPU, in nats: the mean cross-entropy over a sequence's answer tokens."""
    graph: EdgeGraph
    """The names of the writers (rows) and readers (columns), and the mask of the edges."""
    backend: str
    """The backend that contracted: ``triton``, ``matmul`` or ``reference``."""
    how: HowScored = DEFAULT_SCORING
    """What was differentiated, and how."""
    metric_values: Tensor = None  # type: ignore[assignment]
    """float32 [sequences] on the CPU: the metric, by default the loss."""

    def __post_init__(self) -> None:
        if self.metric_values is None:
            object.__setattr__(self, "metric_values", self.loss)
        validate_fields(self)

    def __repr__(self) -> str:
        graph = f"{self.graph.granularity} graph of {format_count(self.graph.n_edges, 'edge')}"
        loss = f"mean loss {float(self.loss.mean()):.3g}" if len(self) else "no loss"
        how = changed_in_words(self.how.changed)
        return short_repr(self, format_count(len(self), "sequence"), graph, loss, f"backend {self.backend}", *how)

    def __len__(self) -> int:
        return len(self.values)

    @validate_arguments
    def of_rows(self, rows: Sequence[int] | Tensor) -> EdgeScores:
        """Return the scores of some sequences, in this order.

        Raises:
            RLCircuitsError: a row that is not there.
        """
        rows = torch.as_tensor(rows, dtype=torch.int64)
        if rows.dim() != 1 or (rows.numel() and not -len(self) <= int(rows.min()) <= int(rows.max()) < len(self)):
            raise RLCircuitsError(f"rows are {truncated_repr(rows.tolist())}; numbers of {len(self)} rows are wanted")
        tensors = self.values[rows], self.loss[rows]
        return replace(self, values=tensors[0], loss=tensors[1], metric_values=self.metric_values[rows])

    def to_pandas(self, *, by_sequence: bool = False) -> pd.DataFrame:
        """Return a table with one row for each edge: ``writer``, ``reader`` and ``score``, the mean over sequences.

        Args:
            by_sequence: one row for each sequence and edge instead, with the column ``sequence`` before the others.

        Raises:
            RLCircuitsError: pandas is not installed, or ``by_sequence`` is no truth value.
        """
        if not isinstance(by_sequence, bool):
            raise RLCircuitsError(f"by_sequence is {truncated_repr(by_sequence)}; True or False is wanted")
        places = self.graph.mask.nonzero().numpy()
        rows = self.values[:, self.graph.mask]
        if not by_sequence:
            return edge_table(self.graph, places, score=rows.double().mean(0).numpy())
        table = edge_table(self.graph, np.tile(places, (len(self), 1)), score=rows.flatten().numpy())
        table.insert(0, "sequence", np.repeat(np.arange(len(self)), len(places)))
        return table

    @validate_arguments
    def save(self, path: str | Path, extra: Mapping[str, Tensor] | None = None) -> None:
        """Write one safetensors file, with the names and the backend in its metadata.

        Args:
            path: the file, which is replaced if it exists.
            extra: further tensors for the file, by name; ``load`` ignores them.

        Raises:
            RLCircuitsError: the file cannot be written, or ``extra`` has a name that the scores use.
        """
        names: dict[str, object] = {
            "writers": self.graph.writers,
            "readers": self.graph.readers,
            "backend": self.backend,
        }
        tensors = {"values": self.values.contiguous(), "loss": self.loss, "mask": self.graph.mask}
        if self.how.changed:  # the default scores' files are those of versions that knew no other scores
            names["how"] = self.how.changed
        if self.how.metric != CROSS_ENTROPY:
            tensors["metric_values"] = self.metric_values.clone()  # the library refuses tensors that share memory
        if taken := tensors.keys() & (extra or {}).keys():
            raise RLCircuitsError(f"extra holds {min(taken)!r}, which is the name of a tensor of the scores")
        tensors |= extra or {}
        # One entry only: the library writes several in varying order, and equal scores must give equal files.
        try:
            safetensors.torch.save_file(tensors, str(path), metadata={_METADATA: json.dumps(names)})
        except (OSError, safetensors.SafetensorError) as error:
            raise RLCircuitsError(f"{path} cannot be written: {error}") from error

    @classmethod
    @validate_arguments
    def load(cls, path: str | Path) -> EdgeScores:
        """Read a file that ``save`` wrote.

        Raises:
            RLCircuitsError: the file is missing or damaged, or holds no edge scores.
        """
        check_readable(Path(path))
        try:
            with safetensors.safe_open(str(path), framework="pt") as file:
                metadata = json.loads((file.metadata() or {})[_METADATA])
                # Copies, because the library maps the file into memory: its tensors would change with the file.
                tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 (not a dict)
            if metadata.get("kind") == SPANS:
                raise RLCircuitsError("it holds scores of spans, which SpanScores.load reads")
            graph = EdgeGraph(tuple(metadata["writers"]), tuple(metadata["readers"]), tensors["mask"])
            how = HowScored.of_changed(metadata.get("how", {}))
            measured = tensors["loss" if how.metric == CROSS_ENTROPY else "metric_values"]
            scores = cls(tensors["values"], tensors["loss"], graph, metadata["backend"], how, measured)
        except _UNREADABLE as error:
            raise RLCircuitsError(f"{path} cannot be read as edge scores: {error}") from error
        except KeyError as error:
            raise RLCircuitsError(f"{path} holds no edge scores: {error} is missing") from error
        edges = len(graph.writers), len(graph.readers)
        shapes = [tuple(tensor.shape) for tensor in (scores.values, scores.loss, graph.mask, scores.metric_values)]
        if shapes != [(len(scores.loss), *edges), (len(scores.loss),), edges, (len(scores.loss),)]:
            raise RLCircuitsError(
                f"{path} holds no edge scores: values {shapes[0]}, loss {shapes[1]} and mask {shapes[2]} do not fit "
                f" {edges[0]} writers and {edges[1]} readers"
            )
        return scores

    @validate_arguments
    def to_eap_ig(
        self,
        path: str | Path,
        *,
        d_model: int = 1,
        in_graph: Tensor | None = None,
        higher_is_better: bool | None = None,
    ) -> None:
        """Write the mean over sequences as EAP-IG's JSON, which MIB's circuit track calls ``importances.json``.

        EAP-IG's scores are of a loss. Those of a metric that is better where it is higher change their sign, so that
        an edge that the answer needs is positive, and ``from_eap_ig`` changes it back.

        Args:
            path: the file, which is replaced if it exists.
            d_model: the width of the model's residual stream. Scores do not know it. EAP-IG's loader allocates its
                neurons' scores by it, and uses it for nothing that a file of edges has.
            in_graph: bool [writers, readers], the edges of a circuit, such as ``Circuit.mask``; by default none.
            higher_is_better: whether the metric is better where it is higher; needed for a function of your own only.

        Raises:
            RLCircuitsError: a graph of other granularity than ``head`` or with layers that EAP-IG does not have; no
                sequences; a score that is not finite; a metric of unknown direction; a file that cannot be written.
        """
        from rlcircuits.graph import eap_ig_scores  # here, since it needs pydantic, without which the core runs

        eap_ig_scores.write(self, Path(path), d_model, in_graph, higher_is_better)

    @classmethod
    @validate_arguments
    def from_eap_ig(cls, path: str | Path) -> EdgeScores:
        """Read EAP-IG's JSON of a graph, or MIB's ``importances.json``, as the scores of one sequence.

        A file of ``to_eap_ig`` gives the mean score with its metric, sign and mean loss. In a file of EAP-IG itself
        scores are of an unnamed loss, by patching: ``how.metric`` is ``eap_ig_loss``, and ``loss`` is NaN.

        Raises:
            RLCircuitsError: the file is missing or damaged, is a pickle (``.pt``), lacks an edge, or has a score that
                is no finite number.
        """
        from rlcircuits.graph import eap_ig_scores  # here, since it needs pydantic, without which the core runs

        return cls(*eap_ig_scores.read(Path(path)))
