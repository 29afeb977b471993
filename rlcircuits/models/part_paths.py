"""Say which module of a model is which part: the path of each part that ``locate_parts`` found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from torch import nn

from rlcircuits.models.norms import Norm
from rlcircuits.models.parts import Block, ModelParts, Projection

__all__ = ["part_paths"]

_KINDS = {"rms": "RMSNorm", "layer": "LayerNorm", "other": "a norm of another formula, differentiated by autograd"}
_ROLES = {
    "module": "block",
    "output": "output projection",
    "mixer_output": "mixer's output projection",
    "mlp_beside": "experts beside the MLP",
}


def part_paths(model: Any, parts: ModelParts) -> dict[str, str]:
    """Return the path of each part in the model, by the part's name.

    Paths that differ by the layer's number alone are one, with the numbers as ``{0–31}``. What is recognised of a norm
    stands behind its path.

    Args:
        model: The causal LM.
        parts: Its parts.
    """
    paths = {id(module): name for name, module in model.named_modules()}

    def words(part: Norm | nn.Module) -> str:
        module = part.module if isinstance(part, Norm) else part
        path = paths.get(id(module)) or type(module).__name__
        return f"{path} ({_describe(part)})" if isinstance(part, Norm) else path

    found = {"embedding": words(model.get_input_embeddings())}
    by_role: dict[str, dict[int, str]] = {}
    for layer, block in enumerate(parts.blocks):
        for role, part in _parts_of(block):
            by_role.setdefault(role, {})[layer] = words(part).replace(f".{layer}", ".{}", 1)
    for role, by_layer in by_role.items():
        found[role] = "; ".join(_collapse(by_layer))
    found["final norm"] = words(parts.final_norm)
    found["unembedding"] = words(parts.unembedding)
    return found


def _parts_of(block: Block) -> Iterator[tuple[str, Norm | nn.Module]]:
    """Yield the name and module of each part of a block that it has."""
    for field in fields(block):
        part = getattr(block, field.name)
        name = _ROLES.get(field.name) or field.name.replace("_", " ").replace("mlp", "MLP")
        if isinstance(part, Norm | nn.Module):
            yield name, part
        elif isinstance(part, tuple):
            for one in part:
                if isinstance(one, Projection):
                    yield f"projection to {', '.join(one.features)}", one.module
                elif isinstance(one, nn.Module):
                    yield f"beside the MLP's norm: {type(one).__name__}", one


def _describe(norm: Norm) -> str:
    return f"{_KINDS[norm.kind]}, weight + {norm.offset:g}" if norm.offset else _KINDS[norm.kind]


def _collapse(by_layer: dict[int, str]) -> Iterator[str]:
    """Yield each different path of a part once, with the layers that have it in place of the number."""
    layers: dict[str, list[int]] = {}
    for layer, path in by_layer.items():
        layers.setdefault(path, []).append(layer)
    for path, numbers in layers.items():
        yield path.replace("{}", _ranges(numbers), 1)


def _ranges(numbers: list[int]) -> str:
    """Return ascending numbers as ``{0–3, 5}``, or a single one as it is."""
    if len(numbers) == 1:
        return str(numbers[0])
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return "{" + ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs) + "}"
