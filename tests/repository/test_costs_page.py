"""The page of the costs: its table is what the command prints, and the model behind it keeps to its bounds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks" / "scaling"))

import bill  # noqa: E402

PAGE = (ROOT / "docs" / "costs.md").read_text(encoding="utf-8")


def test_the_table_is_what_the_command_prints() -> None:
    assert bill.table(bill.assumed()) in PAGE
    for name, (value, _) in bill.NUMBERS.items():
        assert f"| `{name}` | {value:g} |" in PAGE


@pytest.mark.parametrize("name", bill.SHAPES)
def test_weights_are_those_of_the_models(name: str) -> None:
    model = bill.Model(bill.SHAPES[name], bill.assumed())
    published = {"7B": 7.6e9, "32B": 32.8e9, "70B": 70.6e9}
    assert model.weights == pytest.approx(published[name], rel=0.01)


@pytest.mark.parametrize("name", bill.SHAPES)
def test_scores_take_no_less_than_their_multiplications(name: str) -> None:
    given = bill.assumed()
    model = bill.Model(bill.SHAPES[name], given)
    tokens = 400 * 8 * (150 + 90 - 1)
    least = 4 * model.shape.block_weights * tokens / (model.gpus * 989e12 * 0.4)
    assert least < model.scoring < 1.5 * least


@pytest.mark.parametrize("name", bill.SHAPES)
def test_answers_take_no_less_than_reading_the_weights_at_every_step(name: str) -> None:
    model = bill.Model(bill.SHAPES[name], bill.assumed())
    steps = 13 * 300  # 3,200 answers in batches of 256
    assert model.answering > steps * 2 * model.shape.block_weights / (model.gpus * 3.35e12 * 0.6)
    assert bill.Model(model.shape, bill.assumed(batch=3200)).answering < model.answering


def test_better_gpus_cost_no_more_hours() -> None:
    def hours(**changes: float) -> list[float]:
        given = bill.assumed(**changes)
        return [sum(task.seconds for task in bill.Model(shape, given).tasks()) for shape in bill.SHAPES.values()]

    plain = hours()
    for better in ({"utilisation": 0.6}, {"loading": 10.0}, {"slowdown": 0.5}):
        assert all(one < other for one, other in zip(hours(**better), plain, strict=True))
    # With large batches the products take longer than the reading, at any bandwidth.
    assert all(one <= other for one, other in zip(hours(bandwidth=4.8), plain, strict=True))
    small = hours(batch=16)
    assert all(one < other for one, other in zip(hours(batch=16, bandwidth=4.8), small, strict=True))
