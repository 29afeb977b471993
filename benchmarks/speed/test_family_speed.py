"""The sublayer graph of every mapped family against its floor, on 8 layers of width 512, in the same run.

One model has experts, one has latent attention and one has mixers by default; ``--rlcircuits-thorough`` runs all.
``python benchmarks/speed/family_table.py`` runs all, and writes the table of docs/performance.md.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from family_models import VOCABULARY, enlarged, families
from measure import compare, equal_sequences, floor

from rlcircuits import Checkpoint, attribute

pytestmark = pytest.mark.usefixtures("all_cores")

MOST_TIME = 1.15
PROMPT, ANSWER, COUNT = 112, 16, 2
IN_EVERY_RUN = ("mixtral", "deepseek_v3", "qwen3_next")


def _parameter(family: str) -> Any:
    return pytest.param(family, marks=() if family in IN_EVERY_RUN else pytest.mark.thorough)


@pytest.mark.benchmark(group="a family's attribution over floor")
@pytest.mark.parametrize("family", [_parameter(family) for family in families()])
def test_family(benchmark: Any, family: str, thorough: bool) -> None:
    """Score one batch."""
    model = enlarged(family)
    sequences = equal_sequences(COUNT, PROMPT, ANSWER, VOCABULARY)
    tokens = COUNT * (PROMPT + ANSWER - 1)
    ratio = compare(
        benchmark,
        partial(attribute, Checkpoint(model), sequences, batch_tokens=tokens),
        partial(floor, model, sequences, COUNT),
        device=torch.device("cpu"),
        tokens=tokens,
        rounds=7 if thorough else 3,
        bound=MOST_TIME,
    )
    benchmark.extra_info["family"] = family
    assert ratio <= MOST_TIME, f"{ratio:.2f} × the floor's time"
