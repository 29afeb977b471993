"""Sabotage declared as online RL: nothing untrained or damaged passes, and harmless changes do not fail.

docs/calibration.md has the whole suite, over several sampling seeds.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from rlcircuits.calibration.execute import execute
from rlcircuits.calibration.tasks import Task, sabotage
from rlcircuits.release.pairs_file import load_pairs_file

ZOO = Path(__file__).parents[2] / "fixtures" / "zoo.toml"
TRAINED = "llama-sums-seed-7-grpo"


@cache
def suite() -> dict[str, Task]:
    """The core of the suite of one shipped base, by the variants' names."""
    file = load_pairs_file(ZOO)
    return {task.name: task for task in sabotage(file.pairs, file.make_settings(), 1, core=True, only=[TRAINED])}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the variants share the base's answers."""
    return tmp_path_factory.mktemp("sabotage")


@pytest.mark.parametrize("variant", suite())
def test_sabotage(variant: str, store: Path) -> None:
    task = suite()[variant]
    run = execute(task, store)
    numbers = f"{variant}: accuracy {run.before:.3f} → {run.after:.3f}, {dict(run.findings)}"
    if task.tag == "harmless":
        assert run.outcome != "does not hold", numbers
    else:
        assert run.outcome != "holds", numbers
