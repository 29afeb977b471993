"""Options that all Triton kernels share: the precision of products, and whether Triton interprets the kernels."""

from __future__ import annotations

import torch
import triton
from triton.runtime.interpreter import InterpretedFunction


@triton.jit  # type: ignore[untyped-decorator,misc]
def _any_kernel() -> None:
    pass


INTERPRETED = isinstance(_any_kernel, InterpretedFunction)
"""Whether Triton runs kernels in Python on any device, as TRITON_INTERPRET=1 makes it do."""


def product_options(dtype: torch.dtype) -> dict[str, str | bool]:
    """Return the kernels' options for products; TF32 follows ``torch.set_float32_matmul_precision``."""
    return {
        "PRECISION": "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32",
        # Triton's interpreter cannot multiply bfloat16.
        "WIDEN": INTERPRETED and dtype == torch.bfloat16,
    }
