"""What each writer adds to the stream in the running forward, less what replaces it.

The numbers of all writers stand in one tensor, so that the removed edges of several readers are one matrix product.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from rlcircuits.capture.batch_slices import WHOLE_BATCH
from rlcircuits.capture.writers import AnyOutputs, WriterOutputs, hook_writers, one_writer
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.models.hooks import Hooks
from rlcircuits.models.parts import ModelParts


class WriterDifferences:
    """o_u − õ_u of every writer u that has run.

    Attributes:
        values: [writers, batch, pos, width] in the model's dtype. A writer's entry is set when it has run. Entries of
            heads behind a post-norm are those before it.
        whole: layer → the attention's output before its post-norm, [batch, pos, width]; head granularity only.
    """

    def __init__(self, parts: ModelParts, graph: EdgeGraph, replacement: Tensor | None = None) -> None:
        """Start a forward.

        Args:
            parts: The parts of the model.
            graph: The graph whose writers are kept.
            replacement: õ, [writers, 1 or batch, 1 or pos, width]; None for zero.
        """
        self.parts = parts
        self.graph = graph
        self.whole: dict[int, Tensor] = {}
        self.values = torch.empty(0)
        self._replacement = replacement

    @property
    def put_in_nothing(self) -> bool:
        """Whether nothing replaces what the writers write."""
        return self._replacement is None

    def hook(self, hooks: Hooks) -> None:
        """Hook every writer of the model."""
        parts, by_head = self.parts, self.graph.has_heads
        hooks.observe_input(parts.blocks[0].module, self._start)
        for layer, block in enumerate(parts.blocks):
            if by_head and block.output is not None and block.attention_post_norm is not None:
                hooks.observe_output(block.output, partial(self.whole.__setitem__, layer))
        hook_writers(hooks, parts, self.graph, self._set, before_post_norms=True)

    def _start(self, entry: Tensor) -> None:
        self.values = entry.new_empty(len(self.graph.writers), *entry.shape)
        self._set(one_writer(0, entry))

    def _set(self, writers: AnyOutputs) -> None:
        assert isinstance(writers, WriterOutputs), "edges of experts are not removed"
        slots = slice(writers.indices.start, writers.indices.stop)
        place = self.values[slots]
        place.copy_(writers.outputs(WHOLE_BATCH))
        if self._replacement is not None:
            place.sub_(self._replacement[slots, :, : place.shape[2]])
