"""The parameters of timings that take one shape on each device."""

from __future__ import annotations

import pytest
import torch
from shapes import LARGE, SMALL

SMALL_AND_LARGE = [
    pytest.param(SMALL, "cpu", torch.float32, id="cpu-small"),
    pytest.param(
        LARGE[0],
        "cuda",
        torch.bfloat16,
        id=f"cuda-{LARGE[0].name}",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    ),
]
"""Shape, device and dtype."""
