"""What all tests share: no network, steady numbers of threads, Hypothesis without deadlines, the campaign's counts."""

from __future__ import annotations

import gc
import os
import signal

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from helpers.fault_counts import pytest_terminal_summary
from hypothesis import HealthCheck, settings

__all__ = ["pytest_terminal_summary"]

gc.disable()  # until all is collected; see pytest_collection_finish

# Tiny tensors gain nothing from threads, which only wait for one another on a busy machine.
torch.set_num_threads(1)

# A forward of a tiny model takes milliseconds on one machine and a tenth of a second on another.
# A gate must repeat: .ci/run has the same examples drawn each time. Everywhere else they are others.
settings.register_profile(
    "rlcircuits",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="SAME_EXAMPLES" in os.environ,
)
settings.load_profile("rlcircuits")

# Workers of pytest-xdist ignore Ctrl-C, and so would every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Exclude what imports made from garbage collections: with torch's million objects, each takes half a second."""
    gc.freeze()
    gc.enable()
    # With so few objects left, Python would look at all of them thousands of times.
    gc.set_threshold(20_000, 10, 10)
