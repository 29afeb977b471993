"""Forward hooks that observe or replace a module's input or output, and are removed together; a forward replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

Replace = Callable[[Tensor], Tensor]
Observe = Callable[[Tensor], None]


class Hooks(ExitStack):
    """Forward hooks on modules; leaving the context removes them all.

    A module's "input" is its first positional argument, or ``hidden_states`` if the module is called with keywords.
    A module's "output" is its result, or the first item of a tuple.
    """

    def replace_input(self, module: nn.Module, replace: Replace) -> None:
        """Call ``module`` with ``replace(input)`` in place of its input."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            if args:
                return (replace(args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": replace(kwargs["hidden_states"])}

        self.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)

    def replace_output(self, module: nn.Module, replace: Replace) -> None:
        """Return ``replace(output)`` to the module's caller in place of its output."""

        def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            return (replace(output[0]), *output[1:]) if isinstance(output, tuple) else replace(output)

        self.callback(module.register_forward_hook(hook).remove)

    def observe_input(self, module: nn.Module, observe: Observe) -> None:
        """Call ``observe`` with the module's input, detached from the autograd graph."""
        self.replace_input(module, lambda tensor: _observed(tensor, observe))

    def observe_call(self, module: nn.Module, observe: Callable[..., None]) -> None:
        """Call ``observe`` with all that the module is called with, one argument after another."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            observe(*args, *kwargs.values())

        self.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)

    def observe_output(self, module: nn.Module, observe: Observe) -> None:
        """Call ``observe`` with the module's output, detached from the autograd graph."""
        self.replace_output(module, lambda tensor: _observed(tensor, observe))


@contextmanager
def forward_replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Make ``forward`` the module's forward within the context."""
    own = vars(module).get("forward")  # accelerate puts one there to move inputs between devices
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own


def _observed(tensor: Tensor, observe: Observe) -> Tensor:
    observe(tensor.detach())
    return tensor
