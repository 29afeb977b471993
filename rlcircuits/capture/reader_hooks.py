"""Hooks that deliver ∂ℓ/∂x_v of every reader v while the backward runs.

Each reader's module gets its input from a :class:`~rlcircuits.capture.reader_input.ReaderInput`, whose node in the
autograd graph computes the gradient. The readers are:

- the MLP, the mixer and the unembedding, which read the norm's whole output (``_hook_input``);
- q, k and v of a sublayer, each of which reads through some output features of a projection (``_hook_projection``);
- k and v that are projected through one latent (``rlcircuits.capture.reader_latent``);
- q, k and v of every head (``rlcircuits.capture.reader_heads``);
- an MLP that reads the stream at several places (``rlcircuits.capture.joint_reader``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from rlcircuits.capture.joint_reader import hook_joint_reader
from rlcircuits.capture.reader_grads import OnReaderGrads, from_tensor
from rlcircuits.capture.reader_heads import hook_heads, one_kv_per_query_head, replace_projected, with_shares
from rlcircuits.capture.reader_input import OnStream, ReaderBackward, ReaderInput
from rlcircuits.capture.reader_latent import hook_latent, hook_latent_heads
from rlcircuits.common.linear_product import linear_product
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.models.backward_rules import NO_RULES, BackwardRules
from rlcircuits.models.feature_index import as_index
from rlcircuits.models.hooks import Hooks
from rlcircuits.models.norms import Norm, NormVJP
from rlcircuits.models.parts import ModelParts, Projection


def hook_readers(
    hooks: Hooks,
    parts: ModelParts,
    graph: EdgeGraph,
    on_reader_grads: OnReaderGrads,
    on_stream: OnStream,
    select_scored: Callable[[Tensor], Tensor],
    rules: BackwardRules = NO_RULES,
) -> None:
    """Hook every reader of the graph.

    Args:
        hooks: Where the hooks are registered. They must stay until the backward has ended.
        parts: The parts of the model.
        graph: The graph whose readers are hooked.
        on_reader_grads: Called in the backward with the gradients of some readers, until each had its turn.
        on_stream: Called in the forward with each sublayer's name (``logits`` for the unembedding) and the stream
            that the sublayer reads.
        select_scored: From the unembedding's input [batch, pos, width] to its rows at the scored positions.
        rules: What replaces parts of the backward.
    """
    first_reader: dict[tuple[str, str], int] = {}  # (sublayer, kind) → index in the graph; heads follow one another
    for index, (sublayer, kind) in enumerate(map(_sublayer_and_kind, graph.readers)):
        first_reader.setdefault((sublayer, kind), index)
    for layer, block in enumerate(parts.blocks):
        copies = parts.n_heads // block.n_kv_heads if graph.granularity == "head" else 1
        nodes = len(block.projections) + (block.latent is not None) + (block.mixer is not None) + block.shares_norm
        if nodes:
            # Attention and mixer of one layer are behind one norm, and read one stream. So may the MLP.
            behind = (f"attn.{layer}", f"mixer.{layer}", *([f"mlp.{layer}"] if block.shares_norm else []))
            sublayers = [name for name, _ in first_reader if name in behind]
            mixing = ReaderInput(hooks, rules.of_norm(block.attention_norm), sublayers, on_stream, nodes)
        if copies > 1 and block.attention is not None:
            hooks.enter_context(one_kv_per_query_head(block, parts.n_heads))
        for projection in block.projections:
            first = {kind: first_reader[f"attn.{layer}", kind] for kind in projection.features}
            if graph.has_heads and block.latent_q is not None and block.attention is not None:
                hook_latent_heads(hooks, mixing, block.attention, block.latent_q, first, on_reader_grads)
            elif not graph.has_heads:
                _hook_projection(hooks, mixing, projection, first, on_reader_grads, rules.kind_shares)
            else:
                hook_heads(hooks, mixing, projection, copies, first, on_reader_grads, rules.kind_shares)
        if block.latent is not None:
            first = {kind: first_reader[f"attn.{layer}", kind] for kind in "kv"}
            if not graph.has_heads or block.attention is None:
                hook_latent(hooks, mixing, block.latent, first, on_reader_grads)
            else:
                hook_latent_heads(hooks, mixing, block.attention, block.latent, first, on_reader_grads)
        if block.mixer is not None:
            _hook_input(hooks, block.mixer, mixing, first_reader[f"mixer.{layer}", ""], on_reader_grads)
        if block.mlp is not None:
            reader = first_reader[f"mlp.{layer}", ""]
            if block.mlp_also_reads and block.mlp_norm is not None:
                read_by = (block.mlp_norm.module, *block.mlp_also_reads)
                hook_joint_reader(hooks, read_by, f"mlp.{layer}", reader, on_reader_grads, on_stream)
                continue
            own = None if block.shares_norm else rules.of_norm(block.mlp_norm)
            mlp = mixing if block.shares_norm else ReaderInput(hooks, own, [f"mlp.{layer}"], on_stream)
            if block.mlp_beside is not None and block.mlp_norm is not None:
                _hook_norm(hooks, block.mlp_norm, mlp, reader, on_reader_grads)
            else:
                share = rules.mlp_share(block.mlp)
                _hook_input(hooks, block.mlp, mlp, reader, on_reader_grads, share=share)
    final = ReaderInput(hooks, rules.of_norm(parts.final_norm), ["logits"], on_stream)
    _hook_input(hooks, parts.unembedding, final, first_reader["logits", ""], on_reader_grads, then=select_scored)


def _hook_input(
    hooks: Hooks,
    module: nn.Module,
    reader_input: ReaderInput,
    reader: int,
    on_reader_grads: OnReaderGrads,
    then: Callable[[Tensor], Tensor] = lambda joined: joined,
    share: float = 1.0,
) -> None:
    """Make the whole input of a module one reader, which gets ``share`` of its gradient.

    The module is called with ``then(input)``.
    """
    backward = _whole_backward(reader, on_reader_grads, share)
    hooks.replace_input(module, lambda hidden: then(reader_input.join(reader_input.detached(hidden), backward)))


def _hook_norm(
    hooks: Hooks, norm: Norm, reader_input: ReaderInput, reader: int, on_reader_grads: OnReaderGrads
) -> None:
    """Make all that reads a norm's output one reader: several modules whose outputs are added to one another."""
    backward = _whole_backward(reader, on_reader_grads)
    hooks.replace_output(norm.module, lambda normed: reader_input.join(normed, backward))


def _whole_backward(reader: int, on_reader_grads: OnReaderGrads, share: float = 1.0) -> ReaderBackward:
    """Return the backward of a reader that reads the norm's whole output, with ``share`` of its gradient."""

    def backward(grad: Tensor, norm: NormVJP) -> Tensor:
        reader_grad = norm.vjp(grad if share == 1 else grad * share)
        on_reader_grads(from_tensor(reader, reader_grad[None]))
        return reader_grad

    return backward


def _hook_projection(
    hooks: Hooks,
    reader_input: ReaderInput,
    projection: Projection,
    first: dict[str, int],
    on_reader_grads: OnReaderGrads,
    kind_shares: Mapping[str, float],
) -> None:
    """Make q, k and v of a sublayer one reader each, as far as the projection computes them.

    The reader's gradient is the VJP of the norm and of the projection's rows that compute its features.
    """

    def backward(grad: Tensor, norm: NormVJP) -> Tensor:
        grad = with_shares(grad, projection.features, kind_shares)
        total: Tensor | None = None
        for kind, features in projection.features.items():
            by_feature = grad[..., as_index(features, grad.device)]
            reader_grad = norm.vjp(linear_product(by_feature, projection.rows(features).T))
            on_reader_grads(from_tensor(first[kind], reader_grad[None]))
            total = reader_grad if total is None else total + reader_grad
        assert total is not None
        return total

    hooks.replace_input(projection.module, reader_input.detached)
    replace_projected(hooks, projection, lambda output: reader_input.join(output, backward))


def _sublayer_and_kind(reader: str) -> tuple[str, str]:
    """``attn.0.h3.q`` → (``attn.0``, ``q``); ``mlp.0`` → (``mlp.0``, empty)."""
    name = reader.split(".")
    return ".".join(name[:2]), name[-1] if len(name) > 2 else ""
