"""The shipped checkpoints: whole, loadable without a word, and as accurate as recorded."""

from __future__ import annotations

import json
import logging
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

FIXTURES = Path(__file__).parents[1] / "fixtures"
sys.path.insert(0, str(FIXTURES))

import recipe  # noqa: E402
from recipe import provenance  # noqa: E402
from recipe.settings import FAMILIES  # noqa: E402
from recipe.tasks import TASKS  # noqa: E402

from rlcircuits.answers import Sampling, answer_questions  # noqa: E402
from rlcircuits.checkpoint import Checkpoint  # noqa: E402
from rlcircuits.questions import load_questions  # noqa: E402

CHECKPOINTS = [
    (family, seed, algorithm)
    for family, settings in FAMILIES.items()
    for seed in settings.seeds
    for algorithm in settings.algorithms
]
# Loading every one of them would take minutes and tell little more than one of each kind does.
OF_EACH_KIND = [
    (family, settings.seeds[0], algorithm) for family, settings in FAMILIES.items() for algorithm in ("sft", "grpo")
]


def folder_of(family: str, seed: int, algorithm: str) -> Path:
    return provenance.folder_of(FIXTURES, family, algorithm, seed)


def test_shipped_checkpoints_are_whole() -> None:
    assert recipe.verify(FIXTURES, accuracy=False) == []


def test_nothing_else_is_shipped() -> None:
    found = {path.parent.relative_to(FIXTURES).as_posix() for path in FIXTURES.rglob("model.safetensors")}
    assert found == {f"{family}/seed-{seed}/{algorithm}" for family, seed, algorithm in CHECKPOINTS}


def test_zoo_pairs_each_checkpoint_with_its_base() -> None:
    pairs = tomllib.loads((FIXTURES / "zoo.toml").read_text())["pair"]
    assert {pair["after"] for pair in pairs} == {
        f"{family}/seed-{seed}/{algorithm}" for family, seed, algorithm in CHECKPOINTS if algorithm != "sft"
    }
    for pair in pairs:
        after = FIXTURES / pair["after"]
        assert pair["algorithm"] == after.name
        assert FIXTURES / pair["before"] == after.with_name("sft")
        assert pair["questions"] == TASKS[FAMILIES[after.parents[1].name].task.name].questions


@pytest.mark.parametrize(("family", "seed", "algorithm"), CHECKPOINTS)
def test_nothing_stored_points_to_the_machine_that_made_it(family: str, seed: int, algorithm: str) -> None:
    def strings(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            value = [*value, *value.values()]
        if isinstance(value, list):
            for part in value:
                yield from strings(part)
        elif isinstance(value, str):
            yield value

    for path in folder_of(family, seed, algorithm).glob("*.json"):
        found = list(strings(json.loads(path.read_text())))
        assert found
        own = (f"{family}/seed-{seed}/sft", "rewards/accuracies", "rewards/margins")
        assert not [text for text in found if text not in own and ("/" in text or "\\" in text)]


def test_shipped_size_stays_small() -> None:
    assert sum(path.stat().st_size for key in CHECKPOINTS for path in folder_of(*key).iterdir()) < 30e6


@pytest.mark.parametrize(("family", "seed", "algorithm"), OF_EACH_KIND)
def test_loads_with_the_plain_library_and_without_a_word(family: str, seed: int, algorithm: str) -> None:
    said: list[str] = []
    handler = logging.Handler(level=logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    library = logging.getLogger("transformers")
    library.addHandler(handler)
    task = TASKS[FAMILIES[family].task.name]
    (question,) = load_questions(task.questions, split="test", count=1).questions
    folder = folder_of(family, seed, algorithm)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = AutoModelForCausalLM.from_pretrained(folder)
            tokenizer = AutoTokenizer.from_pretrained(folder)
            ids = tokenizer(question.text, return_tensors="pt")
            text = tokenizer.decode(model.generate(**ids, max_new_tokens=32)[0], skip_special_tokens=True)
    finally:
        library.removeHandler(handler)
    assert said == []
    assert text.startswith(question.text)
    assert ">" in text
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_000_000


@pytest.mark.parametrize(("family", "seed", "algorithm"), OF_EACH_KIND)
def test_accuracy_is_as_recorded(family: str, seed: int, algorithm: str) -> None:
    """The first of the recorded questions again: within four standard errors of the recorded accuracy."""
    settings = FAMILIES[family]
    recorded = provenance.read(folder_of(family, seed, algorithm)).accuracy
    assert recorded.split == "test"
    count = 250
    questions = load_questions(
        TASKS[settings.task.name].questions, split="test", count=count, seed=settings.evaluation.question_seed
    )
    sampling = Sampling(settings.evaluation.temperature, max_new_tokens=settings.task.answer_tokens)
    checkpoint = Checkpoint.load(folder_of(family, seed, algorithm), device="cpu")
    found = answer_questions(checkpoint, questions, sampling, batch_size=count).accuracy
    wanted = recorded.sampled.accuracy
    assert abs(found - wanted) <= 4 * (wanted * (1 - wanted) / count) ** 0.5 + 0.004


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_base_knows_the_right_answer_and_slips_when_sampled(family: str) -> None:
    for seed in FAMILIES[family].seeds:
        accuracy = provenance.read(folder_of(family, seed, "sft")).accuracy
        assert accuracy.greedy.accuracy >= 0.97
        assert accuracy.sampled.accuracy <= 0.95
