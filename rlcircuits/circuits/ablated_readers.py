"""Hooks that give each reader the stream less the edges that are removed.

Readers that lose no edge keep the model's own computation, so that a full mask gives the model's logits bit for bit.
q, k and v of an attention read through one norm. Each has a stream of its own here, so each is normed by itself, and
projected by its own rows of the projection:

- the MLP and the unembedding: the input of their norm is replaced;
- q, k and v of a sublayer with three projections, and a mixer: the input of each projection or mixer is replaced;
- q, k and v of a fused projection, or of every head: the projection's own computation is replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from rlcircuits.capture.reader_heads import HeadFeatures, one_kv_per_query_head, replace_projected
from rlcircuits.circuits.ablated_latent import hook_ablated_latent, hook_ablated_latent_heads
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.models.feature_index import as_index
from rlcircuits.models.hooks import Hooks, forward_replaced
from rlcircuits.models.norms import Norm
from rlcircuits.models.parts import Block, ModelParts, Projection


class ReadersOwnInputs(Protocol):
    """Computes what each reader reads: ``ReaderInputs`` in the ablated forward."""

    def is_ablated(self, readers: Sequence[int]) -> bool:
        """Return whether any of these readers loses an edge."""

    def of(self, readers: Sequence[int], stream: Tensor) -> Tensor:
        """Return what they read [readers, batch, pos, width], from the model's stream [batch, pos, width]."""


def hook_ablated_readers(hooks: Hooks, parts: ModelParts, graph: EdgeGraph, inputs: ReadersOwnInputs) -> None:
    """Replace the input of every reader that loses an edge.

    Args:
        hooks: Where the hooks are registered, after those of the writers.
        parts: The parts of the model.
        graph: The graph of the readers.
        inputs: Computes what each reader reads.
    """
    place = _readers_by_sublayer(graph)
    for layer, block in enumerate(parts.blocks):
        mixing = dict(place.get(f"attn.{layer}", {}))
        if block.mixer is not None:
            mixing["mixer"] = place[f"mixer.{layer}"][""]
        if block.shares_norm:
            mixing["mlp"] = place[f"mlp.{layer}"][""]
        _hook_mixing(hooks, parts, block, graph, mixing, inputs)
        if block.mlp is not None and not block.shares_norm:
            _hook_whole(hooks, block.mlp_norm, block.mlp, place[f"mlp.{layer}"][""], inputs, block.mlp_also_reads)
    _hook_whole(hooks, parts.final_norm, parts.unembedding, place["logits"][""], inputs)


def _readers_by_sublayer(graph: EdgeGraph) -> dict[str, dict[str, list[int]]]:
    """Return sublayer → kind → the graph's indices of its readers: one a sublayer, or one a head."""
    place: dict[str, dict[str, list[int]]] = {}
    for index, reader in enumerate(graph.readers):
        name = reader.split(".")
        place.setdefault(".".join(name[:2]), {}).setdefault(name[-1] if len(name) > 2 else "", []).append(index)
    return place


def _hook_whole(
    hooks: Hooks,
    norm: Norm | None,
    module: nn.Module,
    reader: list[int],
    inputs: ReadersOwnInputs,
    also_read_by: Sequence[nn.Module] = (),
) -> None:
    """Replace the stream that one reader reads as a whole, and give it to others that read it after ``norm`` has."""
    if not inputs.is_ablated(reader):
        return
    read: list[Tensor] = []

    def first(stream: Tensor) -> Tensor:
        own = inputs.of(reader, stream)[0]
        read[:] = [own] if also_read_by else []
        return own

    hooks.replace_input(module if norm is None else norm.module, first)
    for other in also_read_by:
        hooks.replace_input(other, lambda hidden: read[0].view_as(hidden))


def _hook_mixing(
    hooks: Hooks,
    parts: ModelParts,
    block: Block,
    graph: EdgeGraph,
    readers: dict[str, list[int]],
    inputs: ReadersOwnInputs,
) -> None:
    """Replace what q, k and v of an attention and a mixer read, which are behind one norm, if one loses an edge.

    So does an MLP that shares their norm.
    """
    if not inputs.is_ablated([index for indices in readers.values() for index in indices]):
        return
    by_head = graph.has_heads
    normed = _NormedInputs(hooks, block.attention_norm, readers, inputs, together=not by_head)
    copies = parts.n_heads // block.n_kv_heads if graph.granularity == "head" else 1
    if copies > 1 and block.attention is not None:
        hooks.enter_context(one_kv_per_query_head(block, parts.n_heads))
    for kind, module in (("mixer", block.mixer), ("mlp", block.mlp)):
        if module is not None and kind in readers:
            hooks.replace_input(module, partial(_first, normed, kind, 1.0))
    if by_head and block.latent is not None and block.attention is not None:
        for latent in filter(None, (block.latent, block.latent_q)):
            hook_ablated_latent_heads(hooks, block.attention, latent, normed.of)
    elif block.latent is not None:
        hook_ablated_latent(hooks, block.latent, lambda kind, hidden: normed.of(kind, hidden)[0])
    for projection in block.projections:
        if by_head and block.latent_q is not None:
            continue
        if projection.split_at is not None:
            project = _ProjectByReader(projection, copies, by_head, normed)
            replace_projected(hooks, projection, project)
        elif len(projection.features) == 1 and not by_head:
            (kind,) = projection.features
            hooks.replace_input(projection.module, partial(_first, normed, kind, projection.multiplier))
        else:
            project = _ProjectByReader(projection, copies, by_head, normed)
            hooks.enter_context(forward_replaced(projection.module, project))


def _first(normed: _NormedInputs, kind: str, multiplier: float, hidden: Tensor) -> Tensor:
    found = normed.of(kind, hidden)[0]
    return found if multiplier == 1 else found * multiplier


class _NormedInputs:
    """The streams of the readers behind one norm, of an attention and a mixer (and perhaps an MLP), after the norm.

    Args:
        hooks: Where the hook on the norm is registered.
        norm: The norm before them, or None.
        readers: kind → the graph's indices of its readers.
        inputs: Computes what each reader reads.
        together: Whether the streams of all kinds are computed at once, which reads the writers once. Heads have so
            many readers that their streams are computed kind by kind.
    """

    def __init__(
        self,
        hooks: Hooks,
        norm: Norm | None,
        readers: dict[str, list[int]],
        inputs: ReadersOwnInputs,
        *,
        together: bool,
    ) -> None:
        self._norm = norm
        self._readers = readers
        self._inputs = inputs
        self._together = together
        self._stream: Tensor | None = None
        self._ready: dict[str, Tensor] = {}
        if norm is not None:
            hooks.observe_input(norm.module, self._keep)

    def of(self, kind: str, hidden: Tensor) -> Tensor:
        """Return what the readers of a kind give to their projection, [readers, batch, pos, width].

        Args:
            kind: q, k, v, mixer, or mlp where it shares the norm.
            hidden: What the model gives to the projection, which is the stream itself if there is no norm.
        """
        if kind not in self._ready:
            kinds = list(self._readers) if self._together else [kind]
            stream = hidden if self._norm is None else self._stream
            assert stream is not None, "an attention ran before its norm"
            found = self._inputs.of([i for each in kinds for i in self._readers[each]], stream)
            if self._norm is not None:
                # forward() rather than a call, which would run the hooks of this forward.
                found = self._norm.module.forward(found.to(hidden.device))
            self._ready = dict(zip(kinds, found.split([len(self._readers[each]) for each in kinds]), strict=True))
        return self._ready.pop(kind)

    def _keep(self, stream: Tensor) -> None:
        self._stream = stream


class _ProjectByReader:
    """Computes a projection with a separate input for each reader."""

    def __init__(self, projection: Projection, copies: int, by_head: bool, normed: _NormedInputs) -> None:
        self._projection = projection
        self._normed = normed
        features = HeadFeatures.of(projection, copies)
        self._n_places = features.n_features if features.feature_at is None else len(features.feature_at)
        self._source, self._place = (
            {kind: each if by_head else each.reshape(1, -1) for kind, each in indices.items()}
            for indices in (features.source, features.place)
        )

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return the projection's output [batch, pos, features].

        ``hidden`` is the input that the model gives it. Only its batch, positions and device are used behind a norm.
        """
        output = hidden.new_empty(*hidden.shape[:-1], self._n_places)
        bias: Tensor | None = getattr(self._projection.module, "bias", None)
        for kind, source in self._source.items():
            weight = self._projection.rows(source).unflatten(0, source.shape)
            streams = self._normed.of(kind, hidden)
            projected = torch.bmm(streams.flatten(1, -2), weight.transpose(1, 2))  # [readers, tokens, features]
            if bias is not None:
                index = as_index(source, bias.device)
                projected = projected + bias[index].view(len(source), 1, -1)
            by_token = projected.transpose(0, 1).reshape(*hidden.shape[:-1], -1)
            output[..., as_index(self._place[kind], output.device)] = by_token
        return output
