"""A circuit: some edges of a graph, how they were found, and the JSON file that stores them."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import ConfigDict, ValidationError
from torch import Tensor

from rlcircuits.common.arguments import validate_arguments, validate_fields
from rlcircuits.common.choices import Granularity
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import write_text_atomically
from rlcircuits.common.json_files import read_json_object
from rlcircuits.common.reprs import format_count, short_repr
from rlcircuits.common.sublayers import SUBLAYERS, Experts, LayerExperts, LayerReads, layer_reads
from rlcircuits.common.validation import StrictModel, describe_error
from rlcircuits.graph.edge_graph import EdgeGraph, build_layered_graph
from rlcircuits.graph.edge_tables import edge_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Circuit:
    """Some edges of a graph, and how they were found."""

    graph: EdgeGraph
    """All writers, readers and edges of the model."""
    mask: Tensor
    """bool [writers, readers], true where the edge belongs to the circuit."""
    found_by: str = ""
    """How the edges were chosen, in words."""

    def __post_init__(self) -> None:
        validate_fields(self)
        if self.mask.dtype != torch.bool or self.mask.shape != self.graph.mask.shape:
            raise RLCircuitsError(
                f"Circuit: mask is {self.mask.dtype} {list(self.mask.shape)}; bool {list(self.graph.mask.shape)} is "
                "wanted, as the graph has writers and readers"
            )
        if bool((self.mask & ~self.graph.mask).any()):
            writer, reader = (self.mask & ~self.graph.mask).nonzero()[0].tolist()
            found = f"{self.graph.writers[writer]} → {self.graph.readers[reader]}"
            raise RLCircuitsError(f"Circuit: mask has {found}, which is no edge: the writer comes after the reader")

    def __repr__(self) -> str:
        size = f"{self.n_edges} of {format_count(self.graph.n_edges, 'edge')}"
        return short_repr(self, self.graph.granularity, size, self.found_by or "found by hand")

    @property
    def n_edges(self) -> int:
        """The number of edges in the circuit."""
        return int(self.mask.sum())

    @cached_property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """The circuit's edges as (writer, reader), in the graph's order."""
        return tuple((self.graph.writers[u], self.graph.readers[v]) for u, v in self.mask.nonzero().tolist())

    def to_pandas(self) -> pd.DataFrame:
        """Return a table with one row for each edge of the graph: writer, reader, and whether the circuit has it.

        Raises:
            RLCircuitsError: pandas is not installed.
        """
        in_circuit = self.mask[self.graph.mask].numpy()
        return edge_table(self.graph, self.graph.mask.nonzero().numpy(), in_circuit=in_circuit)

    @validate_arguments
    def save(self, path: str | Path) -> None:
        """Write the circuit as JSON, by the names of its edges. Raises RLCircuitsError if it cannot be written."""
        text = _Stored(
            format="rlcircuits-circuit",
            version=1,
            found_by=self.found_by,
            granularity=self.graph.granularity,
            parallel=_is_parallel(self.graph),
            writers=list(self.graph.writers),
            readers=list(self.graph.readers),
            edges=list(self.edges),
        ).model_dump()
        try:
            write_text_atomically(Path(path), json.dumps(text, indent=1) + "\n")
        except OSError as error:
            raise RLCircuitsError(f"{path} cannot be written: {error}") from error

    @classmethod
    @validate_arguments
    def load(cls, path: str | Path) -> Circuit:
        """Read a circuit that ``save`` wrote.

        Raises:
            RLCircuitsError: the file is missing or damaged, or names nodes or edges that the graph does not have.
        """
        try:
            stored = _Stored.model_validate(read_json_object(Path(path)))
        except ValidationError as error:
            raise RLCircuitsError(f"{path}{describe_error(error)}") from None
        graph = _rebuilt(stored, path)
        mask = torch.zeros_like(graph.mask)
        for writer, reader in stored.edges:
            if writer not in graph.writers or reader not in graph.readers:
                raise RLCircuitsError(f"{path}: edges has {writer} → {reader}, which is not between the nodes named")
            mask[graph.writers.index(writer), graph.readers.index(reader)] = True
        try:
            return cls(graph, mask, stored.found_by)
        except RLCircuitsError as error:
            raise RLCircuitsError(f"{path}: {error}") from None


class _Stored(StrictModel):
    """The JSON document."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["rlcircuits-circuit"]
    version: Literal[1]
    found_by: str
    granularity: Granularity
    parallel: bool
    writers: list[str]
    readers: list[str]
    edges: list[tuple[str, str]]


def _is_parallel(graph: EdgeGraph) -> bool:
    """Return whether attention and MLP of a block read the same stream."""
    for writer, name in enumerate(graph.writers):
        sublayer, _, place = name.partition(".")
        mlp = f"mlp.{place.partition('.')[0]}"
        if sublayer in ("attn", "mixer") and mlp in graph.readers:
            return not bool(graph.mask[writer, graph.readers.index(mlp)])
    return False


def _rebuilt(stored: _Stored, path: str | Path) -> EdgeGraph:
    """Return the graph whose nodes a file names. Raises RLCircuitsError if no graph has exactly these nodes."""
    heads = sum(bool(re.fullmatch(r"attn\.0\.h\d+", name)) for name in stored.writers)
    layers = _layers_of(stored)
    shared = Counter(match[1] for name in stored.readers if (match := re.fullmatch(r"attn\.(\d+)\.kv\d+\.k", name)))
    kv_heads = [shared[str(layer)] or heads or 1 for layer in range(len(layers))]
    experts = _experts_of(stored, len(layers))
    if stored.granularity == "expert" and not any(experts):
        raise RLCircuitsError(f"{path}: granularity is 'expert', but writers has no expert such as mlp.0.e0")
    graph = build_layered_graph(layers, heads or 1, stored.granularity, n_kv_heads=kv_heads, experts=experts)
    if (list(graph.writers), list(graph.readers)) != (stored.writers, stored.readers):
        raise RLCircuitsError(
            f"{path}: writers and readers are not those of a {stored.granularity} graph of {len(layers)} layers"
        )
    return graph


def _layers_of(stored: _Stored) -> list[LayerReads]:
    """Return the sublayers of each layer, by the names of the writers."""
    found: dict[int, set[str]] = {}
    for name in stored.writers:
        if match := re.fullmatch(r"(attn|mixer|mlp)\.(\d{1,9})(\.h\d+|\.e\d+|\.shared)?", name):
            found.setdefault(int(match[2]), set()).add(match[1])
    # A number that is left out makes the graph another one than the file's.
    in_order = (present for _, present in sorted(found.items()))
    return [
        layer_reads(tuple(sublayer for sublayer in SUBLAYERS if sublayer in present), parallel=stored.parallel)
        for present in in_order
    ]


def _experts_of(stored: _Stored, layers: int) -> LayerExperts:
    """Return the experts of each layer, by the names of the writers."""
    counts = [sum(bool(re.fullmatch(rf"mlp\.{i}\.e\d+", name)) for name in stored.writers) for i in range(layers)]
    return tuple(
        Experts(count, f"mlp.{i}.shared" in stored.writers) if count else None for i, count in enumerate(counts)
    )
