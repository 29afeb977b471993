"""The modules of a model by their paths, and the norms among them by their formulas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models.norms import Norm, epsilon_of, recognise

__all__ = ["NamedModule", "Norms"]


@dataclass(frozen=True)
class NamedModule:
    """A module of a model, with its path and the model's family for error messages."""

    module: nn.Module
    path: str
    family: str

    def child(self, path: str) -> NamedModule:
        """Return the module at a dotted path below this one. Raises RLCircuitsError if there is none."""
        module: object = self.module
        for name in path.split("."):
            module = getattr(module, name, None)
        full = f"{self.path}.{path}".lstrip(".")
        if not isinstance(module, nn.Module):
            raise RLCircuitsError(
                f"a {self.family} model should have a module {full}, but {type(self.module).__name__} has none"
            )
        return NamedModule(module, full, self.family)

    def child_if_there(self, name: str | None) -> nn.Module | None:
        """Return the module of this name, or None."""
        module = None if name is None else getattr(self.module, name, None)
        return module if isinstance(module, nn.Module) else None

    def tensor(self, name: str) -> Tensor:
        """Return the parameter or buffer of this name. Raises RLCircuitsError if it is no tensor of one number."""
        found = getattr(self.module, name, None)
        if not isinstance(found, Tensor) or found.numel() != 1:
            raise RLCircuitsError(f"a {self.family} model should have a tensor {self.path}.{name} of one number")
        return found

    def items(self) -> Iterator[NamedModule]:
        """Yield the items of this module, which is a list of modules."""
        for index, module in enumerate(self.module):  # type: ignore[arg-type, var-annotated]
            yield NamedModule(module, f"{self.path}.{index}", self.family)

    def linear(self, name: str, inputs: int, outputs: int) -> nn.Module:
        """Return the linear layer of this name. Raises RLCircuitsError if it is of another class or shape."""
        found = self.child(name)
        module = found.module
        if not isinstance(module, nn.Linear | Conv1D):
            raise RLCircuitsError(
                f"{found.path} is a {type(module).__name__}; attribution needs a plain nn.Linear or Conv1D there "
                "(merge adapters and load unquantised weights)"
            )
        shape = tuple(module.weight.shape) if isinstance(module, Conv1D) else tuple(module.weight.shape)[::-1]
        if shape != (inputs, outputs):
            raise RLCircuitsError(
                f"{found.path} maps {shape[0]} to {shape[1]} features; the config says {inputs} to {outputs}"
            )
        return module


class Norms:
    """Recognises the norms of one model, whose formulas are compared once for each class and epsilon."""

    def __init__(self) -> None:
        self._known: dict[tuple[type, float | None, int], Norm] = {}

    def of(self, named: NamedModule, width: int) -> Norm:
        """Return the norm of a module that normalises so many features."""
        key = (type(named.module), epsilon_of(named.module), width)
        if key not in self._known:
            found = recognise(named.module, width)
            if found.kind == "other":  # a weight of zero hides the formula, and another module's weight may not be zero
                return found
            self._known[key] = found
        return replace(self._known[key], module=named.module)
