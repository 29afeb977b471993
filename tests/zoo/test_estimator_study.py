"""The study of estimators: what it measures of a tiny model, and that its page has the stored numbers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.core_inputs import tiny

from fixtures.study import estimator_directions, estimator_tables, estimators
from rlcircuits import AnswerSequence, Checkpoint, attribute
from rlcircuits.circuits import exact_effects
from rlcircuits.circuits.corruptions import have_others, other_sequences


def sequences(count: int) -> list[AnswerSequence]:
    ids = torch.randint(3, 61, (count, 9), generator=torch.Generator().manual_seed(0)).tolist()
    return [AnswerSequence(tuple(row[:5]), tuple(row[5:])) for row in ids]


def test_the_page_has_the_tables_of_the_numbers() -> None:
    page = (estimator_tables.DOCS / estimator_tables.PAGE).read_text(encoding="utf-8")
    numbers = estimators.load_numbers()
    assert estimator_tables.estimator_table(numbers) in page
    assert estimator_tables.covered_table(numbers) in page
    assert estimator_tables.direction_table(estimator_directions.load_numbers()) in page
    assert set(numbers["zoo"]) == set(estimators.CHECKPOINTS) == set(numbers["sampled"])


def test_agreement() -> None:
    effects = np.array([3.0, -1.0, 0.5, 0.25])
    same = estimators.agreement(2 * effects, effects)
    assert same == pytest.approx({"pearson": 1, "spearman": 1, "sign": 1})
    assert estimators.agreement(np.array([3.0, 0.0, 0.5, -1.0]), effects)["sign"] == 0.5


@pytest.mark.parametrize("name", ["llama", "mixtral"])
def test_what_is_measured_of_a_model(name: str) -> None:
    model, some = Checkpoint.of(tiny(name)), sequences(4)
    found = estimators.measure(model, some, runs=1, curves=name == "llama")
    refused = {"RelP", "GIM"} if name == "mixtral" else set()
    for ablation, expected in (("zero", {"EAP", "RelP", "GIM"}), ("resample", set(estimators.ESTIMATORS))):
        measured = found[ablation]["estimators"]
        assert measured.keys() - {"exact"} == expected - refused
        patch = other_sequences(some, seed=0) if ablation == "resample" else None
        exact = exact_effects(model, some, ablation=ablation, corrupted=patch)
        scores = attribute(model, some, corrupted=patch).values[:, *exact.places].double().mean(0).numpy()
        wanted = estimators.agreement(scores, exact.values.double().mean(0).numpy())
        assert {key: measured["EAP"][key] for key in wanted} == pytest.approx(wanted)
        if name == "llama":
            assert all({"cpr", "cmd"} <= each.keys() for each in measured.values())


def test_answers_are_chosen_that_have_another_one_of_their_lengths() -> None:
    lengths = [3, 4, 5, 3, 6, 4, 3, 7, 4]
    answers: Any = SimpleNamespace(
        items=[
            SimpleNamespace(prompt_ids=(place, 1), answer_ids=tuple(range(length)), correct=place != 3)
            for place, length in enumerate(lengths)
        ]
    )
    chosen = estimators.chosen(answers, 4)
    assert [each.prompt_ids[0] for each in chosen] == [0, 1, 5, 6]
    assert have_others(chosen) == [0, 1, 2, 3]
