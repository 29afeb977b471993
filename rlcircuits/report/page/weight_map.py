"""The map of how much the weights changed: decoder blocks by modules, the update's norm over the weight's norm."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from rlcircuits.checkpoints.weight_change_lines import weight_change_lines
from rlcircuits.checkpoints.weight_changes import TensorChange
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.report.page.data import Missing
from rlcircuits.report.page.numbers import number

__all__ = ["Cell", "WeightMap", "make_weight_map"]

_BLOCK = re.compile(r"(?:^|.*\.)(?:layers|h)\.\d+\.")
_KIND = re.compile(r"\.(?:weight|bias)$")


@dataclass(frozen=True)
class Cell:
    """One module of one block."""

    text: str
    """The relative update in percent; empty where the block has no such module."""
    strength: float
    """From 0, no change, to 1, the largest on the map."""


@dataclass(frozen=True)
class WeightMap:
    """All blocks, and the modules that are in no block."""

    modules: tuple[str, ...]
    blocks: tuple[tuple[str, tuple[Cell, ...]], ...]
    outside: tuple[tuple[str, Cell], ...]
    lines: tuple[str, ...]
    """What changed, in words."""


def make_weight_map(comparison: Comparison) -> WeightMap | Missing:
    """Return the map of a pair; missing if its weights were not compared."""
    changes = comparison.weights
    if changes is None:
        return Missing(
            "The weights were not compared when this was measured. rlcircuits compare does so: measure the pair again."
        )
    inside: dict[int, dict[str, list[TensorChange]]] = {}
    outside: dict[str, list[TensorChange]] = {}
    for tensor in changes.tensors:
        module = _module(tensor.name)
        if tensor.layer is None:
            outside.setdefault(module, []).append(tensor)
        else:
            inside.setdefault(tensor.layer, {}).setdefault(module, []).append(tensor)
    modules = tuple(dict.fromkeys(module for block in inside.values() for module in block))
    everything = [*outside.values(), *(tensors for block in inside.values() for tensors in block.values())]
    most = max((_relative(tensors) for tensors in everything), default=0.0) or 1.0
    return WeightMap(
        modules=tuple(module.removeprefix("self_attn.") for module in modules),
        blocks=tuple(
            (str(layer), tuple(_cell(inside[layer].get(module), most) for module in modules))
            for layer in sorted(inside)
        ),
        outside=tuple((module, _cell(tensors, most)) for module, tensors in outside.items()),
        lines=tuple(weight_change_lines(changes)),
    )


def _module(name: str) -> str:
    """Return a weight's module: its name without its block, its kind, and the numbers of experts."""
    return re.sub(r"\.\d+(?=\.|$)", ".*", _KIND.sub("", _BLOCK.sub("", name)))


def _relative(tensors: list[TensorChange]) -> float:
    before = math.hypot(*(tensor.before_norm for tensor in tensors))
    update = math.hypot(*(tensor.update_norm for tensor in tensors))
    return update / before if before else 0.0


def _cell(tensors: list[TensorChange] | None, most: float) -> Cell:
    if tensors is None:
        return Cell("", 0.0)
    relative = _relative(tensors)
    return Cell(number(100 * relative, 2), round(relative / most, 3))
