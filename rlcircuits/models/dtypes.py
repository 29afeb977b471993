"""The dtypes that a model may be loaded in, by name."""

from __future__ import annotations

import torch

from rlcircuits.common.errors import RLCircuitsError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
"""By name, every dtype that a model may be loaded in."""


def torch_dtype(name: str | torch.dtype | None) -> torch.dtype | str:
    """Return the torch dtype of a name.

    Args:
        name: ``float32``, ``bfloat16``, ``float16`` or ``float64``; a torch dtype, which is returned as it is; or
            ``auto`` or None for the dtype in which the weights are stored.

    Returns:
        The dtype, or ``auto``.

    Raises:
        RLCircuitsError: for any other name.
    """
    if name is None or name == "auto":
        return "auto"
    if isinstance(name, torch.dtype):
        return name
    if name not in DTYPES:
        raise RLCircuitsError(f"dtype is {name!r}; it must be auto or one of {', '.join(DTYPES)}")
    return DTYPES[name]
