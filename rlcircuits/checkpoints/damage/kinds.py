"""The kinds of damage: what each does to a model's weights, and which settings it takes.

With s the strength, w a tensor of the checkpoint, and u the update of that tensor, reference − origin:

    scale      the output of a part (or a tensor) times s
    zero       the output of a part times 0: a head, an attention, an MLP
    noise      w + Gaussian noise of the norm s · ‖u‖
    quantise   w rounded to s bits: each row of a weight matrix to the nearest of 2^s − 1 evenly spaced values
    sharpen    w with its singular values to the power s, at the norm that it had: for s > 1 the strong directions are
               stronger, and the weak ones weaker
    swap       the weights of two layers exchanged
    permute    w + s · u with the entries of u in random order
    redirect   w + s · u with the output features of u in random order and with random signs: u's inputs and singular
               values stay, what it writes to does not
    delta      w + s · u: extrapolated for s > 1, negated for s < 0, another checkpoint's update where origin is not
               the checkpoint itself

All arithmetic is in float32 or float64, and the result is rounded to the dtype of the weights. What is random is drawn
on the CPU, seeded by the seed and the tensor's name, so that it is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.damage.targets import block_at, output_pieces, tensor_names, two_layers
from rlcircuits.checkpoints.gaussian_noise import add_noise
from rlcircuits.checkpoints.parameters import seeded_generator
from rlcircuits.common.choices import DamageKind
from rlcircuits.common.errors import RLCircuitsError

__all__ = ["KINDS", "Kind", "Update", "damage_outputs", "damage_update", "quantise", "sharpen", "swap_layers"]

Update = Callable[[str], Tensor]
"""Parameter name → reference − origin: float64 on the CPU, of the parameter's shape. One tensor at a time is made."""


@dataclass(frozen=True)
class Kind:
    """Which settings a kind of damage takes, and what it calls its result.

    Args:
        title: The result in names and messages; ``{s}`` stands for the strength, ``{t}`` for the target and ``{r}``
            for the reference.
        strength: What the strength is; None if the kind takes none.
        default: The strength where none is given; None if it must be given.
        identity: The strength that changes nothing, if there is one.
        needs_target: Whether a target must be given. Without one all tensors are meant.
        needs_update: Whether the kind needs a reference checkpoint, whose update it uses.
        random: Whether the seed matters.
    """

    title: str
    strength: str | None = None
    default: float | None = None
    identity: float | None = None
    needs_target: bool = False
    needs_update: bool = False
    random: bool = False


_FACTOR = "factor of the update"

KINDS: Mapping[DamageKind, Kind] = {
    "scale": Kind("{t} × {s}", "factor", identity=1.0, needs_target=True),
    "zero": Kind("{t} zeroed", needs_target=True),
    "noise": Kind("noise of {s} × the update to {r}", _FACTOR + "'s norm", 1.0, 0.0, needs_update=True, random=True),
    "quantise": Kind("int{s}", "bits, 2 to 8"),
    "sharpen": Kind("singular values to the power {s}", "power", identity=1.0),
    "swap": Kind("layers {t} swapped", needs_target=True),
    "permute": Kind("{s} × the permuted update to {r}", _FACTOR, 1.0, 0.0, needs_update=True, random=True),
    "redirect": Kind("{s} × the redirected update to {r}", _FACTOR, 1.0, 0.0, needs_update=True, random=True),
    "delta": Kind("{s} × the update to {r}", _FACTOR, 1.0, 0.0, needs_update=True),
}


@torch.no_grad()
def damage_outputs(checkpoint: Checkpoint, target: str, factor: float) -> None:
    """Multiply the output of each named part by a factor, in place. A tensor that is named is multiplied itself.

    Raises:
        RLCircuitsError: as :func:`~rlcircuits.checkpoints.damage.targets.output_pieces`.
    """
    for piece in output_pieces(checkpoint, target):
        exact = torch.promote_types(piece.values.dtype, torch.float32)
        # (values + offset) · factor − offset, in a form that is exact for a factor of 1.
        piece.values.copy_(piece.values.to(exact) * factor + piece.offset * (factor - 1))


@torch.no_grad()
def quantise(checkpoint: Checkpoint, target: str, bits: int) -> None:
    """Round each row of the named weight matrices to 2^bits − 1 evenly spaced values around 0, in place.

    A row is what one output feature is computed from, or the embedding of one token. Its largest absolute value stays.
    Vectors (norm weights, biases) stay as they are.

    Raises:
        RLCircuitsError: the target has vectors alone.
    """
    names = _matrices(checkpoint, "quantise", target)
    for name, parameter, module in _parameters_with_modules(checkpoint.model):
        if name in names:
            inputs = 0 if isinstance(module, Conv1D) else -1
            parameter.copy_(round_rows(parameter, bits, inputs))


def round_rows(weight: Tensor, bits: int, inputs: int = -1) -> Tensor:
    """Return ``weight`` rounded to nearest, row by row, in its own dtype.

    Args:
        weight: a matrix, or a stack of matrices.
        bits: the bits of a value; the values are k · max|row| / (2^(bits−1) − 1) for whole k.
        inputs: the dimension of the inputs, over which a row extends.
    """
    values = weight.to(torch.promote_types(weight.dtype, torch.float32))
    top = 2 ** (bits - 1) - 1
    largest = values.abs().amax(inputs, keepdim=True)
    # Divided by the largest value first, so that its own image is exactly itself.
    steps = (values / torch.where(largest > 0, largest, 1) * top).round()
    rounded: Tensor = (steps / top * largest).to(weight.dtype)
    return rounded


@torch.no_grad()
def sharpen(checkpoint: Checkpoint, target: str, power: float) -> None:
    """Raise the singular values of the named weight matrices to a power, in place; each keeps its Frobenius norm.

    Vectors (norm weights, biases) stay as they are.

    Raises:
        RLCircuitsError: the target has vectors alone.
    """
    names = _matrices(checkpoint, "sharpen", target)
    for name, parameter in checkpoint.model.named_parameters():
        if name in names:
            left, values, right = torch.linalg.svd(parameter.to("cpu", torch.float64), full_matrices=False)
            largest = values.amax(-1, keepdim=True)
            raised = torch.where(largest > 0, values / largest, 0.0).pow(power)  # no power of it overflows
            norms = [torch.linalg.vector_norm(each, dim=-1, keepdim=True) for each in (values, raised)]
            # Divided by its own norm; a matrix of zeros stays one.
            raised = raised * torch.where(norms[0] > 0, norms[0] / norms[1], 0.0)
            parameter.copy_((left * raised.unsqueeze(-2)) @ right)


def _matrices(checkpoint: Checkpoint, kind: DamageKind, target: str) -> set[str]:
    """Return the target's weight matrices. Raises RLCircuitsError if it has vectors alone."""
    names = tensor_names(checkpoint, target)
    found = {name for name, each in checkpoint.model.named_parameters() if name in names and each.ndim > 1}
    if not found:
        raise RLCircuitsError(
            f"damage {kind}: {target} has no weight matrix in {checkpoint.name}, only vectors such as {min(names)}, "
            f"which it leaves as they are; name a target with matrices, such as mlp.0"
        )
    return found


@torch.no_grad()
def swap_layers(checkpoint: Checkpoint, target: str) -> None:
    """Exchange all weights of two layers, in place.

    Raises:
        RLCircuitsError: a layer that the model lacks, or two layers whose tensors differ in names or shapes.
    """
    pair = two_layers(target)
    first, second = (dict(block_at(checkpoint, layer).module.named_parameters()) for layer in pair)
    shapes = [{name: tuple(tensor.shape) for name, tensor in side.items()} for side in (first, second)]
    if shapes[0] != shapes[1]:
        name = min(dict(shapes[0].items() ^ shapes[1].items()))
        raise RLCircuitsError(
            f"damage swap: layers {pair[0]} and {pair[1]} of {checkpoint.name} differ in {name}, so that they cannot "
            f"be swapped"
        )
    for name, tensor in first.items():
        held = tensor.detach().clone()
        tensor.copy_(second[name])
        second[name].copy_(held)


@torch.no_grad()
def damage_update(
    checkpoint: Checkpoint, kind: DamageKind, target: str, strength: float, update: Update, seed: int
) -> None:
    """Add an update to the named tensors, in place: as it is (``delta``), disordered, or as noise of its norm.

    Args:
        checkpoint: the checkpoint to change.
        kind: ``delta``, ``permute``, ``redirect`` or ``noise``.
        target: the tensors that get the update.
        strength: the factor of the update, or of its norm.
        update: returns the update of a parameter.
        seed: the seed of what is random.
    """
    names = tensor_names(checkpoint, target)
    if kind == "noise":
        every = [name for name, _ in checkpoint.model.named_parameters()]
        norms = {name: float(torch.linalg.vector_norm(update(name))) if name in names else 0.0 for name in every}
        add_noise(checkpoint.model, {name: strength * norm for name, norm in norms.items()}, seed)
        return
    for name, parameter, module in _parameters_with_modules(checkpoint.model):
        if name not in names:
            continue
        moved, generator = update(name), seeded_generator(f"damage\n{seed}\n{name}")
        if kind == "permute":
            moved = moved.flatten()[torch.randperm(moved.numel(), generator=generator)].view(moved.shape)
        elif kind == "redirect":
            moved = _redirected(moved, _output_dimension(module, parameter), generator)
        parameter.copy_((parameter.to("cpu", torch.float64) + strength * moved).to(parameter.dtype))


def _redirected(update: Tensor, outputs: int, generator: torch.Generator) -> Tensor:
    """Return the update with its output features in random order and with random signs, an orthogonal map."""
    size = update.shape[outputs]
    order = torch.randperm(size, generator=generator)
    signs = torch.randint(2, (size,), generator=generator).to(update.dtype) * 2 - 1
    shape = [1] * update.ndim
    shape[outputs] = size
    return update.index_select(outputs, order) * signs.view(shape)


def _output_dimension(module: nn.Module, parameter: Tensor) -> int:
    if parameter.ndim < 2:
        return 0
    # An embedding's output is the stream; an expert's weights are stacked matrices [outputs, inputs].
    return parameter.ndim - 1 if isinstance(module, nn.Embedding | Conv1D) else parameter.ndim - 2


def _parameters_with_modules(model: nn.Module) -> list[tuple[str, nn.Parameter, nn.Module]]:
    """Return each parameter with its name and the first module that holds it; a tied one is there once."""
    holders: dict[int, nn.Module] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(id(parameter), module)
    return [(name, parameter, holders[id(parameter)]) for name, parameter in model.named_parameters()]
