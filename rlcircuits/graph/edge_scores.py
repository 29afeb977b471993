"""The scores of every edge of every sequence, and the file they are kept in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from rlcircuits.common.arguments import validate_arguments, validate_fields
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.reprs import format_count, short_repr
from rlcircuits.graph.edge_graph import EdgeGraph

# The entry of a file's metadata that holds the names.
_METADATA = "rlcircuits"


@dataclass(frozen=True, eq=False)
class EdgeScores:
    """Scores of every edge of every sequence.

    values: float32 [sequences, writers, readers] on the CPU, 0 where there is no edge; the
    first-order estimate of how much the loss, in nats, changes when the edge is removed.
    loss: float32 [sequences], nats a scored token. graph: names and mask. backend: what contracted.
    """

    values: Tensor
    loss: Tensor
    graph: EdgeGraph
    backend: str

    def __post_init__(self) -> None:
        validate_fields(self)

    def __repr__(self) -> str:
        graph = f"{self.graph.granularity} graph of {format_count(self.graph.n_edges, 'edge')}"
        loss = f"mean loss {float(self.loss.mean()):.3g}" if len(self) else "no loss"
        return short_repr(self, format_count(len(self), "sequence"), graph, loss, f"backend {self.backend}")

    def __len__(self) -> int:
        return len(self.values)

    @validate_arguments
    def save(self, path: str | Path, extra: Mapping[str, Tensor] | None = None) -> None:
        """Write to one safetensors file, names and backend in its metadata.

        extra: further tensors to keep in the file, which ``load`` leaves alone. Raises RLCircuitsError where the
        file cannot be written or ``extra`` has one of its own names.
        """
        names = {"writers": self.graph.writers, "readers": self.graph.readers, "backend": self.backend}
        tensors = {"values": self.values.contiguous(), "loss": self.loss, "mask": self.graph.mask}
        if taken := tensors.keys() & (extra or {}).keys():
            raise RLCircuitsError(f"extra holds {min(taken)!r}, which is the name of a tensor of the scores")
        tensors |= extra or {}
        # One entry: the library writes several in an order that changes, and equal scores must be equal files.
        try:
            safetensors.torch.save_file(tensors, str(path), metadata={_METADATA: json.dumps(names)})
        except (OSError, safetensors.SafetensorError) as error:
            raise RLCircuitsError(f"{path} cannot be written: {error}") from error

    @classmethod
    @validate_arguments
    def load(cls, path: str | Path) -> EdgeScores:
        """Read what ``save`` wrote. Raises RLCircuitsError if the file is missing, damaged or another kind."""
        try:
            with safetensors.safe_open(str(path), framework="pt") as file:
                metadata = json.loads((file.metadata() or {})[_METADATA])
                # Copies: the library's tensors are the file itself, and would change or vanish with it.
                tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 (not a dict)
            graph = EdgeGraph(tuple(metadata["writers"]), tuple(metadata["readers"]), tensors["mask"])
            scores = cls(tensors["values"], tensors["loss"], graph, metadata["backend"])
        except (OSError, safetensors.SafetensorError, json.JSONDecodeError, TypeError) as error:
            raise RLCircuitsError(f"{path} cannot be read as edge scores: {error}") from error
        except KeyError as error:
            raise RLCircuitsError(f"{path} holds no edge scores: {error} is missing") from error
        edges = len(graph.writers), len(graph.readers)
        shapes = [tuple(tensor.shape) for tensor in (scores.values, scores.loss, graph.mask)]
        if shapes != [(len(scores.loss), *edges), (len(scores.loss),), edges]:
            raise RLCircuitsError(
                f"{path} holds no edge scores: values {shapes[0]}, loss {shapes[1]} and mask {shapes[2]} do not go "
                f"with {edges[0]} writers and {edges[1]} readers"
            )
        return scores
