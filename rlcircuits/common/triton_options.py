"""How the Triton kernels multiply, and whether Triton compiles them or runs them in Python."""

from __future__ import annotations

import torch
import triton
from triton.runtime.interpreter import InterpretedFunction


@triton.jit  # type: ignore[untyped-decorator,misc]
def _any_kernel() -> None:
    pass


INTERPRETED = isinstance(_any_kernel, InterpretedFunction)
"""With TRITON_INTERPRET=1 Triton runs kernels in Python, on any device."""


def product_options(dtype: torch.dtype) -> dict[str, str | bool]:
    """How the kernels multiply: float32 as such unless torch was told otherwise."""
    return {
        "PRECISION": "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32",
        # Triton's interpreter has no bfloat16 product.
        "WIDEN": INTERPRETED and dtype == torch.bfloat16,
    }
