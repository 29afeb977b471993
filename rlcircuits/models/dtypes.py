"""The dtypes that a model may be loaded in, by name."""

from __future__ import annotations

import torch

from rlcircuits.common.errors import RLCircuitsError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


def torch_dtype(name: str | torch.dtype | None) -> torch.dtype | str:
    """The torch dtype of this name; ``auto`` (as stored) for None. Raises RLCircuitsError for another name."""
    if name is None or name == "auto":
        return "auto"
    if isinstance(name, torch.dtype):
        return name
    if name not in _DTYPES:
        raise RLCircuitsError(f"dtype is {name!r}; it must be auto or one of {', '.join(_DTYPES)}")
    return _DTYPES[name]
