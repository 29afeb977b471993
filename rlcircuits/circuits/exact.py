"""Exact effects of single edges: the loss without the edge, minus the loss.

Edge attribution estimates this to first order. Here each edge is really removed, one at a time. The phases of a batch:

1. One plain forward keeps each block's input and what every writer writes.
2. For each layer, the removed edges into its readers are laid along the batch axis: one row for each edge and sequence.
   These rows share all blocks before the layer, which are not run again: the layer starts from its kept input.

Nothing changes before the reader, so what its writers write is what they write in the plain forward.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from rlcircuits.attribution.edge_attribution import graph_of
from rlcircuits.attribution.memory_budget import is_out_of_memory
from rlcircuits.capture.edge_scales import edge_scales
from rlcircuits.capture.recording import forward_logits, select_scored, sequence_losses
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.circuits.ablated_forward import check_finite
from rlcircuits.circuits.ablated_readers import hook_ablated_readers
from rlcircuits.circuits.edge_mask import check_can_ablate
from rlcircuits.circuits.memory import ablation_budget
from rlcircuits.circuits.replacements import Replacement, make_replacement
from rlcircuits.circuits.writer_differences import WriterDifferences
from rlcircuits.common import defaults
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.progress import advance, progress_bar
from rlcircuits.common.reprs import format_count, short_repr
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.graph.sequences import AnswerSequence, Batch, make_batch
from rlcircuits.models.frozen import frozen
from rlcircuits.models.hooks import Hooks
from rlcircuits.models.parts import ModelParts

Edge = tuple[str, str]
"""A writer and a reader, by name."""


@dataclass(frozen=True, eq=False)
class ExactEffects:
    """The exact effect of removing each of some edges alone."""

    edges: tuple[Edge, ...]
    """The edges, as (writer, reader)."""
    values: Tensor
    """[sequences, edges] on the CPU, in nats: the loss without the edge, minus the loss. Positive where the edge makes
    the answer more likely. float32, or float64 for a float64 model."""
    loss: Tensor
    """[sequences]: the loss with every edge."""
    graph: EdgeGraph
    """The graph of the edges."""

    def __repr__(self) -> str:
        return short_repr(self, format_count(len(self.loss), "sequence"), format_count(len(self.edges), "edge"))

    @cached_property
    def places(self) -> Tensor:
        """int64 [2, edges]: the edges' rows and columns in the graph."""
        return _places(self.graph, self.edges)


@validate_arguments
def exact_effects(
    checkpoint: Any,
    sequences: Sequence[AnswerSequence],
    edges: Sequence[Edge] | None = None,
    ablation: str = "zero",
    *,
    granularity: str = defaults.GRANULARITY,
    corrupted: Sequence[AnswerSequence] | None = None,
    reference: Sequence[AnswerSequence] | None = None,
    batch_tokens: int | None = None,
    progress: bool = False,
) -> ExactEffects:
    """Return the change of the loss when each edge alone is removed.

    ``attribute`` with the same ``corrupted`` (none for ``zero``) gives the first-order estimate of the same number.

    Args:
        checkpoint: a Hugging Face causal LM, ``Checkpoint`` or ``TransformerBridge``.
        sequences: what to run.
        edges: (writer, reader) by name; by default all edges of the graph.
        ablation: what replaces the edge, see ``ablated``.
        granularity: ``sublayer``, ``head`` or ``kv-head``.
        corrupted: for ``resample``, one for each sequence, of the same prompt and answer lengths.
        reference: for the means, the sequences over which is averaged; by default ``sequences``.
        batch_tokens: most tokens in a batch, where an edge and sequence count as a row; by default as many as fit.
        progress: show a progress bar on stderr.

    Raises:
        RLCircuitsError: an edge that the graph does not have, or what ``ablated`` refuses.
    """
    checkpoint = Checkpoint.of(checkpoint)
    sequences = list(sequences)
    check_can_ablate(granularity)
    graph = graph_of(checkpoint, granularity)
    if edges is None:
        edges = [(graph.writers[u], graph.readers[v]) for u, v in graph.mask.nonzero().tolist()]
    places = _places(graph, edges)
    work = torch.float64 if checkpoint.model.dtype == torch.float64 else torch.float32
    values, losses = torch.zeros(len(sequences), len(edges), dtype=work), torch.zeros(len(sequences), dtype=work)
    with frozen(checkpoint.model), torch.no_grad(), progress_bar(progress) as bar:
        task = bar.add_task("exact effects", total=len(sequences))
        replacement = make_replacement(
            checkpoint,
            graph,
            ablation,
            sequences,
            corrupted=corrupted,
            reference=reference,
            batch_tokens=batch_tokens,
        )
        budget = ablation_budget(checkpoint, graph, sequences, batch_tokens)
        remaining, tokens = budget.plan(), budget.tokens
        while remaining:
            indices = remaining[0]
            batch = make_batch(sequences, indices).to(checkpoint.device)
            # A forward has a row for each edge and sequence, and as many tokens as any batch.
            at_a_time = max(1, tokens // batch.input_ids.numel())
            try:
                plain = _PlainForward(checkpoint, graph, batch, replacement)
                found = plain.effects(places, at_a_time)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if at_a_time > 1:
                    tokens //= 2
                else:
                    budget.halve(indices, error)
                    remaining = budget.plan(i for each in remaining for i in each)
                error.__traceback__ = None  # it keeps the failed batch's activations alive
                continue
            # Some models (Nemotron-H) return float32 logits whatever their weights are.
            values[list(indices)], losses[list(indices)] = found.to("cpu", work), plain.loss.to("cpu", work)
            remaining.pop(0)
            advance(bar, task, len(indices), sum(sequences[index].input_length for index in indices))
    return ExactEffects(tuple(edges), values, losses, graph)


def _places(graph: EdgeGraph, edges: Sequence[Edge]) -> Tensor:
    """Return the edges' rows and columns, int64 [2, edges]. Raises RLCircuitsError for what is no edge."""
    writers, readers = ({name: i for i, name in enumerate(names)} for names in (graph.writers, graph.readers))
    found = []
    for edge in edges:
        if len(edge) != 2:
            raise RLCircuitsError(f"edges has {edge!r}; a writer and a reader are wanted")
        writer, reader = edge
        if writer not in writers or reader not in readers or not graph.mask[writers[writer], readers[reader]]:
            raise RLCircuitsError(f"edges has {writer} → {reader}, which the {graph.granularity} graph does not have")
        found.append((writers[writer], readers[reader]))
    return torch.tensor(found, dtype=torch.int64).reshape(-1, 2).T


class _PlainForward:
    """One forward with every edge, from which each edge's removal starts."""

    def __init__(self, checkpoint: Checkpoint, graph: EdgeGraph, batch: Batch, replacement: Replacement) -> None:
        self._checkpoint = checkpoint
        self._graph = graph
        self._batch = batch
        self._streams: list[Tensor] = []
        self._is_tuple = False
        parts = checkpoint.parts
        self._differences = WriterDifferences(parts, graph, replacement.of(checkpoint, graph, batch.indices))
        with Hooks() as hooks:
            self._differences.hook(hooks)
            for block in parts.blocks:
                hooks.observe_input(block.module, self._streams.append)
            hooks.callback(parts.blocks[-1].module.register_forward_hook(self._keep_last).remove)
            hooks.replace_input(parts.unembedding, partial(select_scored, batch))
            self.loss = sequence_losses(forward_logits(checkpoint.model, batch)[0], batch)
        check_finite(checkpoint, batch, self.loss)

    def _keep_last(self, _module: nn.Module, _inputs: object, output: Any) -> None:
        self._is_tuple = isinstance(output, tuple)
        self._streams.append((output[0] if self._is_tuple else output).detach())

    def effects(self, places: Tensor, at_a_time: int) -> Tensor:
        """Return the change of the loss for each edge, [batch, edges], with so many edges in one forward."""
        result = self.loss.new_zeros(len(self.loss), places.shape[1])
        layer_of = _layers_of_readers(self._graph)
        layers = torch.tensor([layer_of[v] for v in places[1].tolist()])
        for layer in layers.unique().tolist():
            for some in (layers == layer).nonzero().flatten().split(at_a_time):
                result[:, some] = self._losses_without(layer, places[:, some]).T - self.loss[:, None]
        return result

    def _losses_without(self, layer: int, places: Tensor) -> Tensor:
        """Return the losses without each of some edges into one layer's readers, [edges, batch]."""
        count, model = places.shape[1], self._checkpoint.model
        batch = _repeated(self._batch, count)
        parts = self._checkpoint.parts
        stream = self._streams[layer].repeat(count, 1, 1)
        with Hooks() as hooks:
            for place, block in enumerate(parts.blocks[:layer]):
                skipped = stream if place == layer - 1 else None
                hooks.enter_context(_skipped(block.module, skipped, as_tuple=self._is_tuple))
            hook_ablated_readers(hooks, parts, self._graph, _OneEdgeEach(parts, self._graph, self._differences, places))
            hooks.replace_input(parts.unembedding, partial(select_scored, batch))
            losses = sequence_losses(forward_logits(model, batch)[0], batch)
        check_finite(self._checkpoint, batch, losses)
        return losses.view(count, -1)


class _OneEdgeEach:
    """The readers' inputs where each of several copies of a batch has one edge removed.

    Args:
        parts: The parts of the model.
        graph: The graph of the edges.
        differences: What the writers wrote in the plain forward.
        places: int64 [2, copies], the edge of each copy.
    """

    def __init__(self, parts: ModelParts, graph: EdgeGraph, differences: WriterDifferences, places: Tensor) -> None:
        self._readers = places[1]
        self._lost = torch.stack([_lost(parts, graph, differences, u) for u in places[0].tolist()])
        if (scales := edge_scales(parts, graph)) is not None:
            self._lost *= scales[places[0], places[1]].to(self._lost).view(-1, *[1] * (self._lost.ndim - 1))

    def is_ablated(self, readers: Sequence[int]) -> bool:
        return bool(torch.isin(self._readers, torch.tensor(readers)).any())

    def of(self, readers: Sequence[int], stream: Tensor) -> Tensor:
        """Return the readers' streams [readers, copies · batch, pos, width], as ``ReaderInputs.of`` does."""
        copies = len(self._readers)
        result = stream.expand(len(readers), *stream.shape).clone()
        by_copy = result.unflatten(1, (copies, -1))
        for place, reader in enumerate(readers):
            for copy in (self._readers == reader).nonzero().flatten().tolist():
                by_copy[place, copy] -= self._lost[copy].to(result.device)
        return result


def _lost(parts: ModelParts, graph: EdgeGraph, differences: WriterDifferences, writer: int) -> Tensor:
    """Return what a reader's stream loses without this writer, [batch, pos, width]."""
    lost = differences.values[writer]
    layer = int(graph.writers[writer].split(".")[1]) if "." in graph.writers[writer] else 0
    if layer not in differences.whole or ".h" not in graph.writers[writer]:
        return lost
    norm, whole = parts.blocks[layer].attention_post_norm, differences.whole[layer]
    assert norm is not None, "heads are kept before a post-norm only where there is one"
    lost = lost.to(whole.device)
    behind: Tensor = norm.module.forward(whole) - norm.module.forward(whole - lost)
    return (behind * parts.residual_multiplier).to(differences.values.device)


def _layers_of_readers(graph: EdgeGraph) -> list[int]:
    """Return the layer of each reader; that of ``logits`` is the number of layers."""
    layers = 1 + max(int(name.split(".")[1]) for name in graph.readers if name != "logits")
    return [layers if name == "logits" else int(name.split(".")[1]) for name in graph.readers]


def _repeated(batch: Batch, count: int) -> Batch:
    """Return a batch of ``count`` copies of a batch's sequences, copy after copy."""
    size = len(batch.indices)
    shift = torch.arange(count, device=batch.rows.device).repeat_interleave(len(batch.rows)) * size
    return Batch(
        batch.indices * count,
        batch.input_ids.repeat(count, 1),
        None if batch.attention_mask is None else batch.attention_mask.repeat(count, 1),
        batch.rows.repeat(count) + shift,
        batch.columns.repeat(count),
        batch.targets.repeat(count),
        {name: tensor.repeat(count, *[1] * (tensor.ndim - 1)) for name, tensor in batch.images.items()},
    )


@contextmanager
def _skipped(block: nn.Module, output: Tensor | None, *, as_tuple: bool) -> Iterator[None]:
    """Make a block return ``output`` without computing it, or its input if that is None."""

    def forward(hidden_states: Tensor, *args: object, **kwargs: object) -> Any:
        hidden = hidden_states if output is None else output
        return (hidden,) if as_tuple else hidden

    own = vars(block).get("forward")
    block.forward = forward
    try:
        yield
    finally:
        del block.forward
        if own is not None:
            block.forward = own
