"""The projection check: that q, k and v of a family that a user added are what their names say.

Where two projections have equal shapes, neither the stream's sum nor its gradient tells which is which. Causal
attention does. With z the heads' outputs, and one projection's output changed by noise at the first position only:

- a change of q leaves z at all later positions, since each position has its own query;
- a change of k leaves the direction of every head's z at the first position, which sees only its own value (an
  attention sink changes the length).

A projection that is really another one breaks one of the two. Only the first block is looked at, since the names are
the same in all blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlcircuits.capture.reader_heads import replace_projected
from rlcircuits.capture.recording import forward_logits
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.sequences import Batch
from rlcircuits.models.hooks import Hooks
from rlcircuits.models.parts import Block, ModelParts, Projection


@torch.no_grad()
def verify_projections(model: nn.Module, parts: ModelParts, batch: Batch, tolerance: float) -> None:
    """Check that q and k of the first block with attention do what q and k do.

    Args:
        model: The causal LM, frozen.
        parts: Its parts.
        batch: A sequence of several tokens, on the model's device.
        tolerance: The largest relative difference that counts as rounding.

    Raises:
        RLCircuitsError: one of them is another projection.
    """
    block = next((block for block in parts.blocks if block.output is not None), None)
    if block is None:
        return  # no layer has attention
    plain = _heads(model, parts, block, batch)
    for projection in block.projections:
        if "q" in projection.features:
            changed = _heads(model, parts, block, batch, projection, "q")
            _agree(changed[:, 1:], plain[:, 1:], tolerance, "q", "later tokens have queries of their own")
        if "k" in projection.features:
            changed = _heads(model, parts, block, batch, projection, "k")
            found, wanted = (torch.nn.functional.normalize(z[:, 0], dim=-1) for z in (changed, plain))
            _agree(found, wanted, tolerance, "k", "the first token sees no value but its own")


def _heads(
    model: nn.Module,
    parts: ModelParts,
    block: Block,
    batch: Batch,
    projection: Projection | None = None,
    kind: str = "",
) -> Tensor:
    """Return a block's z, float64 [batch, pos, heads, head_dim], perhaps with noise on one projection."""
    seen: list[Tensor] = []
    with Hooks() as hooks:
        if projection is not None:
            features = projection.features[kind].flatten()
            replace_projected(hooks, projection, lambda output: _with_noise(output, features))
        hooks.observe_input(block.output, seen.append)  # type: ignore[arg-type]  # a block with attention
        forward_logits(model, batch)
    z: Tensor = seen[0].double()
    return z.reshape(*z.shape[:-1], parts.n_heads, -1)


def _with_noise(output: Tensor, features: Tensor) -> Tensor:
    """Return a projection's output with other values of these features at the first position."""
    noise = torch.randn(len(features), generator=torch.Generator().manual_seed(1)).to(output)
    changed = output.clone()
    changed[:, 0, features.to(output.device)] += noise * output.norm() / output.numel() ** 0.5
    return changed


def _agree(found: Tensor, wanted: Tensor, tolerance: float, kind: str, why: str) -> None:
    """Raise RLCircuitsError unless z is what it was before the projection was changed."""
    error = float((found - wanted).norm() / wanted.norm())
    if not error <= tolerance:
        raise RLCircuitsError(
            f"the projection that is named as {kind} is another one: a change at the first token moves too much, since "
            f"{why} (relative difference {error:.2g}, at most {tolerance:.2g} allowed); name q, k and v in this order"
        )
