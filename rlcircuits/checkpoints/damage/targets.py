"""What a target of damage names: parts of a model by the edge graph's names, or tensors by their own names.

A target is one name or several with commas between them:

    mlp.2  attn.2  attn.2.h1    the output of layer 2's MLP, of its attention, of head 1 of that attention
    mixer.2                     the output of layer 2's mixer, where it mixes tokens without attention (Mamba)
    mlp  attn  mixer            these outputs in all layers that have them
    embeddings  unembedding     the embeddings (of tokens, and of positions where they are learnt); the output layer
    final-norm  norms           the norm before the unembedding; all norms of the residual stream
    model.layers.*.weight       the parameters that the pattern fits, as they are stored

Two functions read a target. :func:`output_pieces` returns the tensors to multiply so that the *output* of a part is
multiplied, whatever the family stores. :func:`tensor_names` returns all parameters that belong to a part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import reduce
from typing import Any

from torch import Tensor, nn

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.readout import untie
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.models.norms import Norm
from rlcircuits.models.parts import Block

__all__ = ["EVERYTHING", "Piece", "normalise_target", "output_pieces", "tensor_names", "two_layers"]

EVERYTHING = "*"
"""The target that names every tensor."""

_HEAD = re.compile(r"(?:attn\.)?(\d+)\.h?(\d+)")
_SUBLAYER = re.compile(r"(attn|mixer|mlp)(?:\.(\d+))?")
_LAYERS = re.compile(r"\d+,\d+")
_KNOWN = (
    "mlp.LAYER, attn.LAYER, mixer.LAYER, attn.LAYER.hHEAD, mlp, attn, mixer, embeddings, unembedding, final-norm, "
    "norms or a tensor"
)


@dataclass(frozen=True)
class Piece:
    """A tensor to multiply, or a part of one.

    Args:
        parameter: The parameter's name.
        values: The parameter itself, or a view of a part of it.
        offset: What the model adds to the stored values before it uses them (1 for the norms of Gemma).
        part: Which part of the parameter ``values`` is; empty for all of it.
    """

    parameter: str
    values: Tensor
    offset: float = 0.0
    part: str = ""


def normalise_target(target: str) -> str:
    """Return the one way to write a target, so that equal damage has one fingerprint: ``1.2`` becomes ``attn.1.h2``."""
    names = [name.strip() for name in target.split(",")]
    if not all(names):
        raise RLCircuitsError(f"damage: target is {truncated_repr(target)}; a name is empty, wanted are {_KNOWN}")
    if _LAYERS.fullmatch(",".join(names)):
        return ",".join(map(str, sorted(map(int, names))))
    heads = [_HEAD.fullmatch(name) for name in names]
    return ",".join(
        sorted({f"attn.{int(h[1])}.h{int(h[2])}" if h else name for h, name in zip(heads, names, strict=True)})
    )


def two_layers(target: str) -> tuple[int, int]:
    """Return the two different layers that a target names, such as ``0,2``. Raises RLCircuitsError for another one."""
    if _LAYERS.fullmatch(target):
        first, second = map(int, target.split(","))
        if first != second:
            return first, second
    raise RLCircuitsError(f"damage swap: target is {truncated_repr(target)}; two different layers are wanted: 0,2")


def output_pieces(checkpoint: Checkpoint, target: str) -> list[Piece]:
    """Return the tensors that must be multiplied by a factor to multiply the output of each named part by it.

    Where a norm follows a sublayer before its output is added to the stream (Gemma, OLMo 2), the norm's weight is
    multiplied, because the norm would undo a factor before it. A head is multiplied before that norm. Embeddings that
    are tied are untied first.

    Args:
        checkpoint: the checkpoint, whose embeddings may be untied.
        target: what to multiply, as the module's docstring says.

    Raises:
        RLCircuitsError: a name that fits no part and no parameter, a layer or head that the model lacks, a norm of a
            formula that is not known, or names that overlap.
    """
    found: dict[tuple[str, str], Piece] = {}
    for name in target.split(","):
        for piece in _pieces_of(checkpoint, name):
            found[piece.parameter, piece.part] = piece
    for parameter, part in found:
        if part and (parameter, "") in found:
            raise RLCircuitsError(f"damage: target {truncated_repr(target)} names {parameter} twice, {part} and whole")
    return list(found.values())


def tensor_names(checkpoint: Checkpoint, target: str) -> set[str]:
    """Return the names of all parameters of the named parts: an attention's norms of q and k too, for example.

    Raises:
        RLCircuitsError: a name that fits no part and no parameter, a layer that the model lacks, or a head, since a
            head is no tensor.
    """
    names: set[str] = set()
    for name in target.split(","):
        if head := _HEAD.fullmatch(name):
            raise RLCircuitsError(f"damage: target {name} is a head, which is a part of tensors; name attn.{head[1]}")
        modules = _modules_of(checkpoint, name)
        if modules is None:
            names.update(_matching(checkpoint, name))
        else:
            wanted = {id(parameter) for module in modules for parameter in module.parameters()}
            names.update(n for n, parameter in checkpoint.model.named_parameters() if id(parameter) in wanted)
    return names


def _pieces_of(checkpoint: Checkpoint, name: str) -> Iterator[Piece]:
    parts, names = checkpoint.parts, _Names(checkpoint.model)
    if head := _HEAD.fullmatch(name):
        block, number = block_at(checkpoint, int(head[1])), int(head[2])
        if number >= parts.n_heads:
            raise RLCircuitsError(
                f"damage: target {name}, but {checkpoint.name} has the heads 0 to {parts.n_heads - 1} in a layer"
            )
        if block.output is None:
            raise RLCircuitsError(f"damage: target {name}, but layer {head[1]} of {checkpoint.name} has no attention")
        values = block.head_output_weight(parts.n_heads)[number]
        yield Piece(names.of(block.output.weight), values, part=f"head {number}")
    elif sublayer := _SUBLAYER.fullmatch(name):
        for block in _blocks(checkpoint, sublayer[1], sublayer[2]):
            norms = {"attn": block.attention_post_norm, "mlp": block.mlp_post_norm}
            norm = norms.get(sublayer[1])
            if norm is not None:
                yield from _norm_pieces(names, norm)
            else:
                for writer in _outputs(checkpoint, block, sublayer[1]):
                    yield from _all_of(names, writer)
    elif name in ("norms", "final-norm"):
        for norm in _norms(checkpoint) if name == "norms" else (parts.final_norm,):
            yield from _norm_pieces(names, norm)
    elif name in ("embeddings", "unembedding"):
        untie(checkpoint)
        names = _Names(checkpoint.model)
        for module in _modules_of(checkpoint, name) or ():
            yield from _all_of(names, module)
    else:
        parameters = dict(checkpoint.model.named_parameters())
        yield from (Piece(each, parameters[each]) for each in _matching(checkpoint, name))


def _modules_of(checkpoint: Checkpoint, name: str) -> list[nn.Module] | None:
    """Return the modules that a name of the edge graph or a group's name stands for; None for any other name."""
    if sublayer := _SUBLAYER.fullmatch(name):
        blocks = _blocks(checkpoint, sublayer[1], sublayer[2])
        return [module for block in blocks for module in _modules_of_sublayer(block, sublayer[1])]
    if name == "embeddings":
        return [module for module in checkpoint.parts.body.modules() if isinstance(module, nn.Embedding)]
    if name == "unembedding":
        return [checkpoint.parts.unembedding]
    if name == "final-norm":
        return [checkpoint.parts.final_norm.module]
    return [norm.module for norm in _norms(checkpoint)] if name == "norms" else None


def _matching(checkpoint: Checkpoint, pattern: str) -> list[str]:
    names = [name for name, _ in checkpoint.model.named_parameters() if fnmatchcase(name, pattern)]
    if not names:
        raise RLCircuitsError(
            f"damage: target {truncated_repr(pattern)} is no part and no tensor of {checkpoint.name}; wanted is one of "
            f"{_KNOWN} such as {next(checkpoint.model.named_parameters())[0]}"
        )
    return names


def _blocks(checkpoint: Checkpoint, sublayer: str, layer: str | None) -> list[Block]:
    """Return the blocks with a sublayer. Raises RLCircuitsError if there is none, or not in the layer that is named."""
    blocks = list(checkpoint.parts.blocks) if layer is None else [block_at(checkpoint, int(layer))]
    found = [block for block in blocks if _modules_of_sublayer(block, sublayer)]
    if not found:
        where = "no layer with one" if layer is None else f"layer {layer} without one"
        raise RLCircuitsError(
            f"damage: target {sublayer}{'' if layer is None else '.' + layer}, but "
            f"{checkpoint.name} has {where}; its sublayers are those of its edge graph"
        )
    return found


def _modules_of_sublayer(block: Block, sublayer: str) -> tuple[nn.Module, ...]:
    """Return the modules that are a block's attention, mixer or MLP; none if it has no such sublayer."""
    if sublayer == "mlp":
        return block.mlp_modules
    module = block.attention if sublayer == "attn" else block.mixer
    return () if module is None else (module,)


def _outputs(checkpoint: Checkpoint, block: Block, sublayer: str) -> list[nn.Module | nn.Parameter]:
    """Return what writes a sublayer's output: layers, or the stacked weights of experts."""
    if sublayer == "mlp":
        return [output for module in block.mlp_modules for output in _mlp_outputs(checkpoint, module)]
    output = block.output if sublayer == "attn" else block.mixer_output
    return [] if output is None else [output]


def block_at(checkpoint: Checkpoint, layer: int) -> Block:
    """Return a layer's block. Raises RLCircuitsError for a layer that the model lacks."""
    blocks = checkpoint.parts.blocks
    if layer >= len(blocks):
        raise RLCircuitsError(f"damage: layer {layer}, but {checkpoint.name} has the layers 0 to {len(blocks) - 1}")
    return blocks[layer]


def _norms(checkpoint: Checkpoint) -> list[Norm]:
    kinds = ("attention_norm", "attention_post_norm", "mlp_norm", "mlp_post_norm")  # a mixer has the attention's
    of_blocks = [getattr(block, kind) for block in checkpoint.parts.blocks for kind in kinds]
    return [*(norm for norm in of_blocks if norm is not None), checkpoint.parts.final_norm]


def _norm_pieces(names: _Names, norm: Norm) -> Iterator[Piece]:
    weight = getattr(norm.module, "weight", None)
    if norm.kind == "other" or weight is None:
        raise RLCircuitsError(
            f"damage: the norm {names.of_module(norm.module)} is no RMSNorm or LayerNorm with a weight, so what "
            f"multiplies its output is not known; name the tensor itself"
        )
    yield Piece(names.of(weight), weight, norm.offset)
    bias = getattr(norm.module, "bias", None)
    if bias is not None:
        yield Piece(names.of(bias), bias)


def _mlp_outputs(checkpoint: Checkpoint, mlp: nn.Module) -> list[nn.Module | nn.Parameter]:
    """Return the layers that write an MLP's output, and the stacked weights of the experts that do."""
    written: list[nn.Module | nn.Parameter] = []
    paths = checkpoint.parts.names.mlp_outputs
    wanted = [(path,) if isinstance(path, str) else path for path in paths]
    for one_of in wanted:
        # A path that leads nowhere gives None, of which every further name is None too.
        found: list[Any] = [reduce(_attribute, each.split("."), mlp) for each in one_of]
        written += [each for each in found if isinstance(each, nn.Parameter) or _has_weights(each)][:1]
    if written:
        return written
    known = " or ".join(path for one_of in wanted for path in one_of)
    raise RLCircuitsError(f"damage: {checkpoint.name} has an MLP {type(mlp).__name__} without {known}; name the tensor")


def _all_of(names: _Names, writer: nn.Module | nn.Parameter) -> Iterator[Piece]:
    for parameter in writer.parameters() if isinstance(writer, nn.Module) else (writer,):
        yield Piece(names.of(parameter), parameter)


def _has_weights(module: Any) -> bool:
    return isinstance(module, nn.Module) and next(module.parameters(), None) is not None


def _attribute(owner: Any, name: str) -> Any:
    return getattr(owner, name, None)


class _Names:
    """The names of a model's parameters and modules."""

    def __init__(self, model: nn.Module) -> None:
        self._parameters: dict[int, str] = {id(parameter): name for name, parameter in model.named_parameters()}
        self._modules: dict[int, str] = {id(module): name for name, module in model.named_modules()}

    def of(self, parameter: Any) -> str:
        return self._parameters[id(parameter)]

    def of_module(self, module: nn.Module) -> str:
        return self._modules[id(module)]
