"""The shipped checkpoints: whole, loadable without a word, and as accurate as recorded."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import FIXTURES
from helpers.slow_cases import slow_unless
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(FIXTURES))

import recipe
from recipe import provenance
from recipe.lora.questions import question_file, question_lines
from recipe.lora.settings import ADAPTER_FAMILIES
from recipe.settings import FAMILIES
from recipe.tasks import TASKS

from rlcircuits.answers.generate import answer_questions
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.comparison.profiles import ACCURACY, GATE_METRICS
from rlcircuits.comparison.verdict import NOT_ONLINE_RL
from rlcircuits.questions import load_questions
from rlcircuits.release.pair import Pair
from rlcircuits.release.pairs_file import load_pairs, load_pairs_file

CHECKPOINTS = [
    (family, seed, algorithm)
    for family, settings in FAMILIES.items()
    for seed in settings.seeds
    for algorithm in settings.algorithms
]
ADAPTERS = [
    (family, seed, algorithm)
    for family, settings in ADAPTER_FAMILIES.items()
    for seed, algorithms in settings.shipped.items()
    for algorithm in algorithms
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
    found = {path.parent.relative_to(FIXTURES).as_posix() for path in FIXTURES.rglob("*model.safetensors")}
    tiny = {f"{family}/seed-{seed}/{algorithm}" for family, seed, algorithm in CHECKPOINTS}
    adapters = {f"{family}/seed-{seed}/{algorithm}" for family, seed, algorithm in ADAPTERS}
    assert found - {"smollm2/base"} == tiny | adapters  # the base is there once it was fetched, and never shipped


def test_the_adapters_take_few_bytes() -> None:
    assert sum(path.stat().st_size for path in FIXTURES.rglob("adapter_model.safetensors")) < 30e6


def test_pretrained_pairs_are_the_adapters_with_their_bases() -> None:
    pairs = tomllib.loads((FIXTURES / "smollm2" / "pairs.toml").read_text())["pair"]
    assert {pair["after"] for pair in pairs} == {
        f"{family}/seed-{seed}/{algorithm}".removeprefix("smollm2/")
        for family, seed, algorithm in ADAPTERS
        if algorithm != "sft"
    }
    for pair in pairs:
        assert pair["algorithm"] == Path(pair["after"]).name
        assert Path(pair["before"]) == Path(pair["after"]).with_name("sft")
        assert pair["recorded_before"] == f"{pair['before']}/answers.jsonl"
        assert pair["recorded_after"] == f"{pair['after']}/answers.jsonl"


@pytest.mark.parametrize("family", [family for family, settings in ADAPTER_FAMILIES.items() if settings.shipped])
def test_the_questions_of_the_adapters_are_those_of_the_recipe(family: str) -> None:
    settings = ADAPTER_FAMILIES[family]
    assert question_file(FIXTURES, settings).read_text(encoding="utf-8") == question_lines(settings)


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


def test_the_zoo_has_every_kind_of_training_on_several_architectures_tasks_and_seeds() -> None:
    """Named here and not taken from the settings, from which nothing may go missing."""
    trained = {"sft", "sft-more", "sft-clean", "rft", "grpo", "ppo", "rloo", "dpo", "dpo-onpolicy"}
    studied = {"grpo-kl0.01", "cf-grpo", "nft", "es", "f-isft"}
    for family, settings in FAMILIES.items():
        wanted = trained | studied if family == "llama-sums" else trained
        for seed in settings.seeds:
            assert {path.name for path in (FIXTURES / family / f"seed-{seed}").iterdir()} == wanted
    bases = [folder_of(family, settings.seeds[0], "sft") for family, settings in FAMILIES.items()]
    assert len({json.loads((base / "config.json").read_text())["model_type"] for base in bases}) >= 3
    assert len({settings.task.name for settings in FAMILIES.values()}) >= 2
    assert max(len(settings.seeds) for settings in FAMILIES.values()) >= 3


def test_the_gate_asks_test_questions_of_seeds_that_did_not_serve_development() -> None:
    assert not {seed for settings in FAMILIES.values() for seed in settings.seeds} & set(range(7))
    zoo = load_pairs_file(FIXTURES / "zoo.toml")
    assert {pair.questions.split or zoo.make_settings().split for pair in zoo.pairs} == {"test"}


def test_the_gate_draws_noise_several_times() -> None:
    assert load_pairs_file(FIXTURES / "zoo.toml").make_settings().noise_draws >= 2


@pytest.mark.parametrize(("family", "seed", "algorithm"), CHECKPOINTS)
def test_what_is_stored_improves_its_base_unless_it_is_trained_on_more_of_the_same(
    family: str, seed: int, algorithm: str
) -> None:
    record = provenance.read(folder_of(family, seed, algorithm))
    assert record.accuracy.split == "test"
    assert record.recipe["evaluation"]["temperature"] == 1.0
    if algorithm == "sft-clean":
        assert record.recipe["sft-clean"]["error_rate"] == 0
    if algorithm not in ("sft", "sft-more"):
        assert record.accuracy_before is not None
        assert record.accuracy_before.split == "test"
        assert record.accuracy.sampled.accuracy > record.accuracy_before.sampled.accuracy


@pytest.mark.parametrize(("family", "seed", "algorithm"), CHECKPOINTS)
def test_stored_models_are_small(family: str, seed: int, algorithm: str) -> None:
    folder = folder_of(family, seed, algorithm)
    with safe_open(folder / provenance.WEIGHTS, "pt") as file:
        count = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    assert count == provenance.read(folder).parameters < 1_000_000


def test_grpo_and_ppo_are_expected_to_pass_unaided_in_two_families() -> None:
    """Otherwise the gate would stay green with every direction an expected failure."""
    unaided = {pair.name for pair in load_pairs(FIXTURES / "zoo.toml") if not pair.does_not_hold}
    families = {
        family
        for family, settings in FAMILIES.items()
        for seed in settings.seeds
        if {f"{family}-seed-{seed}-grpo", f"{family}-seed-{seed}-ppo"} <= unaided
    }
    assert len(families) >= 2


@pytest.mark.parametrize(
    "pair", [pair for pair in load_pairs(FIXTURES / "zoo.toml") if pair.does_not_hold], ids=lambda pair: pair.name
)
def test_what_does_not_hold_states_its_numbers(pair: Pair) -> None:
    """From what to what each metric went, p, the interval and what noise did."""
    number = r"[-+]?\d[\d.e+-]*"
    effect = rf"{number} to {number}, rose on \d+%, p = {number}, difference {number} to {number}, noise {number}"
    for measure, reason in pair.does_not_hold.items():
        if measure == ACCURACY:
            assert re.fullmatch(rf"{number} to {number}, p of a fall {number}", reason)
            continue
        wanted = len(GATE_METRICS) if measure == NOT_ONLINE_RL else 1
        assert len(re.findall(effect, reason)) == wanted


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


@pytest.mark.parametrize(
    ("family", "seed", "algorithm"),
    slow_unless(lambda family, seed, algorithm: algorithm == "grpo", OF_EACH_KIND),
)
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
