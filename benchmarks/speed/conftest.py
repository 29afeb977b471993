"""What several timings share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="module")
def all_cores() -> Iterator[None]:
    """Every core, whatever the environment says: it may hold the tiny pairs beside this folder to one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(before)
