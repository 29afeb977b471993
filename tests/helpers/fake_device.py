"""A second device made of the CPU's memory: no tensor on it meets one that was left on the CPU.

It computes what the CPU computes and refuses what an accelerator refuses, so what was put on the wrong device shows
without one. It also notes each time that the CPU would have to wait for an accelerator.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import rlcircuits

_LIBRARY = str(Path(rlcircuits.__file__).parent)
_COPIES = {"_to_copy", "copy_"}
# An accelerator takes the places to read or write from the CPU, too: it copies them first.
_INDEXING = {"index", "index_put", "index_put_", "_unsafe_index"}
# What an accelerator can only answer once it has done all that was asked of it before. Copies wait as well.
_ANSWERS = {"_local_scalar_dense", "nonzero", "bincount", "equal", "masked_select", "unique_consecutive", "_unique2"}

waits: Counter[str] = Counter()
"""How often the CPU had to wait, by the line of the library or of transformers that made it."""


class _Module(backend_registration._DummyBackendModule):  # type: ignore[misc]
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


backend_registration._setup_privateuseone_for_python_backend("elsewhere", _Module())
DEVICE = torch.device("elsewhere", 0)


class Elsewhere(torch.Tensor):
    """A tensor on the device; ``inner`` is where its numbers are."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    inner: Tensor

    def __new__(cls, inner: Tensor) -> Elsewhere:
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=DEVICE
        )
        made.inner = inner
        return made  # type: ignore[no-any-return]

    def data_ptr(self) -> int:
        """Where the numbers are, for the kernels."""
        return self.inner.data_ptr()

    def tolist(self) -> Any:
        """As numbers, which torch refuses for a class of tensors that is not its own."""
        return self.inner.tolist()

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"Elsewhere({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Everything(TorchDispatchMode):
    """Also sees what is made without any tensor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def inner(value: Any) -> Any:
    """The tensor on the CPU of one on the device; anything else as it is."""
    return value.inner if isinstance(value, Elsewhere) else value


@contextmanager
def elsewhere(*modules: nn.Module) -> Iterator[None]:
    """The device is there inside; the modules' weights and buffers are on it, and stay."""
    waits.clear()
    with _Everything():
        for module in (part for whole in modules for part in whole.modules()):
            for name, weight in module._parameters.items():
                if weight is not None:
                    module._parameters[name] = nn.Parameter(Elsewhere(weight.detach()), requires_grad=False)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = Elsewhere(buffer)
        yield


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func._overloadpacket.__name__
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    away = [tensor for tensor in given if isinstance(tensor, Elsewhere)]
    wanted = kwargs.get("device")
    there = bool(away) if wanted is None else torch.device(wanted).type == DEVICE.type
    if away and name not in _COPIES:
        # A number on the CPU is an argument like any other.
        left = [t for t in given if not isinstance(t, Elsewhere) and t.ndim and not _is_index(t, name, args)]
        if left:
            raise RuntimeError(f"{name}: a tensor on the CPU, {tuple(left[0].shape)}, meets one on {DEVICE}")
    crosses = name in _COPIES and (there != bool(away) or 0 < len(away) < len(given))
    if (away and name in _ANSWERS) or crosses:
        waits[_line()] += 1
    options = {key: torch.device("cpu") if key == "device" and value is not None else tree_map(inner, value)
               for key, value in kwargs.items()}  # fmt: skip
    made = func(*tree_map(inner, args), **options)
    if name.endswith("_") and isinstance(args[0], Tensor):
        return args[0]
    if "out" in kwargs:
        return kwargs["out"]
    return tree_map(lambda x: Elsewhere(x) if there and type(x) is Tensor else x, made)


def _is_index(tensor: Tensor, name: str, args: Any) -> bool:
    return name in _INDEXING and any(tensor is index for index in args[1])


def _line() -> str:
    """The line that is nearest to the operation, of those that may wait for the device knowingly or not."""
    frame = sys._getframe()
    while frame.f_back is not None:
        path = frame.f_code.co_filename
        if path.startswith(_LIBRARY) or "/transformers/" in path:
            return f"{Path(path).name}:{frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"


def _empty_strided(size: Any, stride: Any, **options: Any) -> Tensor:
    return Elsewhere(torch.empty_strided(size, stride, dtype=options.get("dtype")))


def _empty(size: Any, **options: Any) -> Tensor:
    return Elsewhere(torch.empty(size, dtype=options.get("dtype")))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    inner(target).copy_(inner(source))
    return target


# What torch itself asks of a device where no Python sees it.
_library = torch.library.Library("aten", "IMPL")
_library.impl("empty_strided", _empty_strided, "PrivateUse1")
_library.impl("empty.memory_format", _empty, "PrivateUse1")
_library.impl("_copy_from", _copy_from, "PrivateUse1")
