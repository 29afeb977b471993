"""Forward hooks that see or replace what goes into and out of a module, removed together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

Replace = Callable[[Tensor], Tensor]
See = Callable[[Tensor], None]


class Hooks:
    """Registers hooks whose removal is left to an ExitStack.

    "Input" is a module's first positional argument, or ``hidden_states`` where it is called by
    keyword; "output" its result, or the first of several.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def replace_input(self, module: nn.Module, replace: Replace) -> None:
        """Give the module ``replace(input)`` instead of its input."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            if args:
                return (replace(args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": replace(kwargs["hidden_states"])}

        self._stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)

    def replace_output(self, module: nn.Module, replace: Replace) -> None:
        """Give the module's caller ``replace(output)`` instead of its output."""

        def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            return (replace(output[0]), *output[1:]) if isinstance(output, tuple) else replace(output)

        self._stack.callback(module.register_forward_hook(hook).remove)

    def see_input(self, module: nn.Module, see: See) -> None:
        """Show the module's input, out of the graph."""
        self.replace_input(module, lambda tensor: _shown(tensor, see))

    def see_output(self, module: nn.Module, see: See) -> None:
        """Show the module's output, out of the graph."""
        self.replace_output(module, lambda tensor: _shown(tensor, see))


def _shown(tensor: Tensor, see: See) -> Tensor:
    see(tensor.detach())
    return tensor
