"""Noise that matches an update: random, but as large and as much of a rescaling as the update, row by row.

The noise control asks what an update of this size does that has learnt nothing. Gaussian noise of each tensor's update
norm is too easy to tell from some updates that have learnt nothing either:

- An update that only rescales a tensor, such as an MLP × 0.9 or a final norm × 1.25, moves the weights along
  themselves, which random directions hardly do.
- An update that only rescales the columns of a matrix (a head × 0.6), or its singular values, which sharpens or
  flattens what it does, is one that random directions hardly make either (:mod:`rlcircuits.checkpoints.rescaling`).
- An update of a few rows, such as a token, is spread over all of them.

So the match is by row, the last dimension of a tensor (a vector is one row). Let a row w have the update u, and let c
and s be the rows of those parts of the tensor's update that only rescale columns and singular directions. Let k be u's
component in the space that w, c and s span. The row gets

    k + ‖u − k‖ · g,

where g is a random direction orthogonal to k and w. So the noise has u's norm, and what rescaling explains of u; all
else is random. An update that only rescales rows, or columns, or singular values, is reproduced exactly, so that its
effect cannot exceed the control's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlcircuits.checkpoints.parameters import describe_first_unlike, seeded_generator
from rlcircuits.checkpoints.rescaling import column_rescaling, spectral_rescaling
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models.tensor_groups import Group, group_of

__all__ = ["RowUpdates", "add_matched_noise", "measure_rows", "measure_updates", "with_matched_noise"]

NORM_TOLERANCE = 1e-3
"""Largest relative difference between a row's noise, after rounding, and its update, in norm, where rounding allows."""

_LEAST = 1e-6
"""What is shorter than this, relative to the row's update, is rounding and has no direction."""

_LARGEST = 2**26
"""Entries of the largest tensor that is measured where it is, and not on the CPU: it takes ten times its memory."""

_BISECTIONS = 20


@dataclass(frozen=True, eq=False)
class RowUpdates:
    """The update of each row of one tensor."""

    along: Tensor
    """Component along the row, as a multiple of the row; float32 [rows], on the CPU."""
    across: Tensor
    """Norm of u − k in the module's docstring; float32 [rows], on the CPU."""
    rescaling: Tensor | None = None
    """k without its component along the row; [rows, columns] in the tensor's dtype, on the CPU. None for 0."""


def measure_updates(
    before: nn.Module,
    after: nn.Module,
    before_name: str = "before",
    after_name: str = "after",
    without: Collection[str] = (),
) -> dict[str, RowUpdates]:
    """Return the update after - before of each row of each parameter tensor that changed, by the tensor's name.

    A tied tensor counts once. The models may be on different devices: after's tensors are moved to those of before one
    at a time, large ones to the CPU, and compared in float32.

    Args:
        before: the model before training.
        after: the model after training.
        before_name: what errors call ``before``.
        after_name: what errors call ``after``.
        without: names of parameters that are not measured.

    Raises:
        RLCircuitsError: naming the first parameter that one model lacks or has in another shape.
    """
    ours, theirs = dict(before.named_parameters()), dict(after.named_parameters())
    unlike = describe_first_unlike(ours, before_name, theirs, after_name)
    if unlike is not None:
        raise RLCircuitsError(
            f"noise that matches the update needs the same parameters before and after: {unlike}; without it "
            f"(noise_draws = 0) only the minimum and p are judged"
        )
    measured = {name: measure_rows(ours[name], theirs[name]) for name in ours if name not in without}
    return {name: update for name, update in measured.items() if update is not None}


@torch.no_grad()
def add_matched_noise(
    model: nn.Module, updates: Mapping[str, RowUpdates], draw: int, groups: Collection[Group] | None = None
) -> None:
    """Add noise that matches the updates to a model's parameters, in place.

    The noise is drawn in float32 on the CPU, seeded by draw and parameter name, so that it depends neither on the
    device nor on the order of the parameters.

    Args:
        model: the model to change.
        updates: what :func:`measure_updates` returned for this model; other parameters stay unchanged.
        draw: the seed.
        groups: the groups of tensors that get noise; None for all.
    """
    for name, parameter in model.named_parameters():
        if name in updates and (groups is None or group_of(name) in groups):
            parameter.copy_(with_matched_noise(name, parameter, updates[name], draw))


@torch.no_grad()
def with_matched_noise(name: str, weight: Tensor, update: RowUpdates, draw: int) -> Tensor:
    """Return one weight with noise that matches its update, as :func:`add_matched_noise` makes it.

    Args:
        name: the weight's name, from which the noise follows together with the draw.
        weight: the weight, of any shape and floating dtype.
        update: what :func:`measure_rows` returned for it.
        draw: the seed.

    Returns:
        A new tensor of the weight's shape, dtype and device.
    """
    noise = torch.randn(weight.shape, generator=seeded_generator(f"{draw}\n{name}"), dtype=torch.float32)
    return _moved(weight, noise.to(weight.device), update)


def measure_rows(before: Tensor, after: Tensor) -> RowUpdates | None:
    """Return the update after - before of each row of one weight; None if nothing changed.

    Args:
        before: the weight before training, of any shape and floating dtype.
        after: the same after it.
    """
    device = before.device if before.numel() <= _LARGEST else torch.device("cpu")
    ours, theirs = (each.detach().to(device, torch.float32) for each in (before, after))
    whole = theirs - ours
    if not whole.any():
        return None
    rows, update = _rows(ours), _rows(whole)
    along = (update * rows).sum(-1) / _not_zero((rows * rows).sum(-1))
    rest = update - along[:, None] * rows
    parts = (spectral_rescaling(ours, whole), column_rescaling(ours, whole))
    least = _LEAST * torch.linalg.vector_norm(update, dim=-1)
    found = _component(rest, [_across(_rows(part), rows) for part in parts], least)
    across = torch.linalg.vector_norm(rest - found, dim=-1)
    return RowUpdates(along.cpu(), across.cpu(), found.to("cpu", before.dtype) if found.any() else None)


def _component(rest: Tensor, directions: Sequence[Tensor], least: Tensor) -> Tensor:
    """Return the component of each row of `rest` in the space that the same rows of the directions span.

    Args:
        rest: [rows, columns].
        directions: each [rows, columns].
        least: norm below which a row of what a direction adds to the others counts as 0; [rows].
    """
    found = torch.zeros_like(rest)
    before: list[Tensor] = []
    for direction in directions:
        for other in before:
            direction = _across(direction, other)
        long = torch.linalg.vector_norm(direction, dim=-1) > least
        direction = torch.where(long[:, None], direction, torch.zeros_like(direction))
        found = found + rest - _across(rest, direction)
        before.append(direction)
    return found


def _across(vectors: Tensor, directions: Tensor) -> Tensor:
    """Return each row of vectors without its component along the same row of directions."""
    squares = (directions * directions).sum(-1, keepdim=True)
    return vectors - (vectors * directions).sum(-1, keepdim=True) / _not_zero(squares) * directions


def _moved(parameter: Tensor, noise: Tensor, updates: RowUpdates) -> Tensor:
    """Return the parameter with its noise, in its dtype.

    In bfloat16, rounding removes most of a small update, of the real one as of the noise, so the norms are compared
    after rounding. A row's norm grows with the scale of its noise, so bisection finds the scale of each row; in float32
    the first guess is right.
    """
    exact = torch.promote_types(parameter.dtype, torch.float32)
    rows = _rows(parameter.to(exact))
    along, across = (each.to(rows.device, exact)[:, None] for each in (updates.along, updates.across))
    direction, known = _across(_rows(noise.to(exact)), rows), along * rows
    if updates.rescaling is not None:
        rescaling = _across(updates.rescaling.to(rows.device, exact), rows)
        direction, known = _across(direction, rescaling), known + rescaling
    direction = direction / _not_zero(torch.linalg.vector_norm(direction, dim=-1))[:, None]
    wanted_move = known + across * direction
    wanted = torch.linalg.vector_norm(wanted_move, dim=-1)
    low, scale = torch.zeros_like(wanted), torch.ones_like(wanted)
    high = torch.full_like(wanted, torch.inf)
    for _ in range(_BISECTIONS):
        moved = (rows + scale[:, None] * wanted_move).to(parameter.dtype)
        found = torch.linalg.vector_norm(moved.to(exact) - rows, dim=-1)
        off = (found - wanted).abs() > NORM_TOLERANCE * wanted
        if not off.any():
            break
        short = off & (found < wanted)
        low, high = torch.where(short, scale, low), torch.where(off & ~short, scale, high)
        between = torch.where(torch.isinf(high), 2 * scale, (low + high) / 2)
        scale = torch.where(off, between, scale)
    return moved.view_as(parameter)


def _rows(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, tensor.shape[-1]) if tensor.dim() else tensor.reshape(1, 1)


def _not_zero(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, torch.ones_like(values))
