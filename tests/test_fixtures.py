"""The shipped checkpoints: whole, loadable without a word, as accurate as recorded, and made by the recipe."""

from __future__ import annotations

import importlib
import json
import logging
import shutil
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
from recipe.settings import EVALUATION, GRPO, SFT, TASK  # noqa: E402
from recipe.task import demonstrations, prompts  # noqa: E402

from rlcircuits.answers import Sampling, answer_questions  # noqa: E402
from rlcircuits.checkpoint import Checkpoint  # noqa: E402
from rlcircuits.errors import RLCircuitsError  # noqa: E402
from rlcircuits.questions import load_questions  # noqa: E402
from rlcircuits.questions.arithmetic import grade, split_of  # noqa: E402

RUNS = [(family, seed) for family in recipe.FAMILIES for seed in recipe.SHIPPED_SEEDS[family]]
CHECKPOINTS = [(*run, name) for run in RUNS for name in recipe.ALGORITHMS]
# The one the tests damage, below any root that holds the family.
BASE, TRAINED = (Path("llama-sums") / "seed-1" / name for name in ("sft", "grpo"))


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    for family in recipe.FAMILIES:
        shutil.copytree(FIXTURES / family, tmp_path / family, ignore=shutil.ignore_patterns("*.tmp"))
    return tmp_path


def edit(path: Path, **changes: Any) -> None:
    record = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in (record | changes).items() if value is not ...}))


def test_shipped_checkpoints_are_whole() -> None:
    assert recipe.verify(FIXTURES) == []


def test_zoo_names_the_folders_that_are_there() -> None:
    pairs = tomllib.loads((FIXTURES / "zoo.toml").read_text())["pair"]
    assert [(pair["before"], pair["after"], pair["algorithm"]) for pair in pairs] == [
        (f"{family}/seed-{seed}/sft", f"{family}/seed-{seed}/grpo", "grpo") for family, seed in RUNS
    ]
    for pair in pairs:
        assert (FIXTURES / pair["before"] / "model.safetensors").is_file()
        assert (FIXTURES / pair["after"] / "model.safetensors").is_file()


@pytest.mark.parametrize("name", [*provenance.FILES])
def test_a_flipped_byte_is_reported_by_name(copied: Path, name: str) -> None:
    path = copied / TRAINED / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (problem,) = recipe.verify(copied)
    assert problem.startswith(f"{path}: sha256 is ")


def test_another_parent_is_reported(copied: Path) -> None:
    base = copied / BASE / "model.safetensors"
    shutil.copy(copied / TRAINED / "model.safetensors", base)
    changed, orphaned = recipe.verify(copied)
    assert changed.startswith(f"{base}: sha256 is ")
    assert orphaned.startswith(f"{copied / TRAINED / 'provenance.json'}: parent: is ")


@pytest.mark.parametrize("field", [*provenance.Provenance.model_fields])
def test_a_missing_provenance_field_is_reported(copied: Path, field: str) -> None:
    path = copied / TRAINED / "provenance.json"
    edit(path, **{field: ...})
    (problem,) = recipe.verify(copied)
    assert problem == f"{path}: {field}: Field required"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": "1"}, "seed: Input should be a valid integer"),
        ({"machine": "mine"}, "machine: Extra inputs are not permitted"),
        ({"curve": []}, "curve: is empty"),
        ({"algorithm": "sft"}, "is about ('llama-sums', 1, 'sft'), not ('llama-sums', 1, 'grpo')"),
        ({"recipe": {}}, "recipe: differs from the present settings"),
        ({"parent": None}, "parent: is None"),
        ({"accuracy_before": None}, "accuracy_before: is missing"),
    ],
)
def test_a_wrong_provenance_is_reported(copied: Path, changes: dict[str, Any], message: str) -> None:
    path = copied / TRAINED / "provenance.json"
    edit(path, **changes)
    (problem,) = recipe.verify(copied)
    assert problem.startswith(f"{path}: {message}")


def test_an_accuracy_that_is_not_its_counts_is_reported(copied: Path) -> None:
    path = copied / BASE / "provenance.json"
    accuracy = json.loads(path.read_text())["accuracy"]
    accuracy["sampled"]["correct"] += 1
    edit(path, accuracy=accuracy)
    assert recipe.verify(copied)[0].startswith(f"{path}: accuracy: sampled says ")


def test_missing_and_unknown_files_are_reported(copied: Path) -> None:
    folder = copied / TRAINED
    (folder / "config.json").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert recipe.verify(copied) == [
        f"{folder / 'config.json'}: file is missing",
        f"{folder / 'pytorch_model.bin'}: file is not in the provenance",
    ]
    shutil.rmtree(folder)
    assert recipe.verify(copied) == [f"{folder}: checkpoint folder is missing"]


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

    for path in provenance.folder_of(FIXTURES, family, algorithm, seed).glob("*.json"):
        found = list(strings(json.loads(path.read_text())))
        assert found
        assert not [text for text in found if "/" in text.replace(f"{family}/seed-{seed}/sft", "") or "\\" in text]


def test_shipped_size_stays_small() -> None:
    folders = [provenance.folder_of(FIXTURES, family, algorithm, seed) for family, seed, algorithm in CHECKPOINTS]
    assert sum(path.stat().st_size for folder in folders for path in folder.iterdir()) < 12e6


@pytest.mark.parametrize(("family", "seed", "algorithm"), CHECKPOINTS)
def test_loads_with_the_plain_library_and_without_a_word(family: str, seed: int, algorithm: str) -> None:
    said: list[str] = []
    handler = logging.Handler(level=logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    library = logging.getLogger("transformers")
    library.addHandler(handler)
    folder = provenance.folder_of(FIXTURES, family, algorithm, seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = AutoModelForCausalLM.from_pretrained(folder)
            tokenizer = AutoTokenizer.from_pretrained(folder)
            ids = tokenizer("41+30+12?", return_tensors="pt")
            text = tokenizer.decode(model.generate(**ids, max_new_tokens=30)[0], skip_special_tokens=True)
    finally:
        library.removeHandler(handler)
    assert said == []
    assert text.startswith("41+30+12?")
    assert text.endswith(">83")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_000_000


@pytest.mark.parametrize(("family", "seed", "algorithm"), CHECKPOINTS)
def test_accuracy_is_as_recorded(family: str, seed: int, algorithm: str) -> None:
    """The first of the recorded questions again: within four standard errors of the recorded accuracy."""
    recorded = provenance.read(provenance.folder_of(FIXTURES, family, algorithm, seed)).accuracy
    assert recorded.split == "test"
    count = 250
    questions = load_questions(TASK.questions, split="test", count=count, seed=EVALUATION.question_seed)
    checkpoint = Checkpoint.load(provenance.folder_of(FIXTURES, family, algorithm, seed), device="cpu")
    for temperature, wanted in ((0.0, recorded.greedy.accuracy), (1.0, recorded.sampled.accuracy)):
        sampling = Sampling(temperature=temperature, max_new_tokens=EVALUATION.max_new_tokens)
        found = answer_questions(checkpoint, questions, sampling, batch_size=count).accuracy
        assert abs(found - wanted) <= 4 * (wanted * (1 - wanted) / count) ** 0.5 + 0.004


@pytest.mark.parametrize(("family", "seed"), RUNS)
def test_grpo_improved_the_shipped_base(family: str, seed: int) -> None:
    base, trained = (provenance.folder_of(FIXTURES, family, name, seed) for name in ("sft", "grpo"))
    record = provenance.read(trained)
    assert record.accuracy_before is not None
    assert record.accuracy_before == provenance.read(base).accuracy
    assert record.accuracy.sampled.accuracy >= record.accuracy_before.sampled.accuracy + 0.03
    assert record.accuracy.greedy.accuracy >= 0.97


def test_demonstrations_slip_as_often_as_said_and_stay_consistent() -> None:
    rows = demonstrations(20_000, seed=5, settings=TASK)
    orders, wrong_sums, wrong_results = set(), 0, 0
    for row in rows:
        numbers = row["prompt"].rstrip("?").split("+")
        first, second = row["completion"].split(">")[0].split(";")
        a, b, subtotal = (int(n) for n in first.replace("=", "+").split("+"))
        carried, c, total = (int(n) for n in second.replace("=", "+").split("+"))
        assert carried == subtotal
        assert sorted([a, b, c]) == sorted(map(int, numbers))
        assert row["completion"].endswith(f">{total}")
        if len(set(numbers)) == 3:
            orders.add(tuple(numbers.index(str(n)) for n in (a, b, c)))
        for slip in (subtotal - a - b, total - carried - c):
            assert slip in (0, *TASK.error_sizes)
            wrong_sums += slip != 0
        wrong_results += not grade(row["completion"], str(sum(map(int, numbers))))
    assert len(orders) == 6
    assert wrong_sums / 40_000 == pytest.approx(0.05, abs=0.005)
    assert wrong_results / 20_000 == pytest.approx(1 - 0.95**2, abs=0.01)


def test_training_sees_train_questions_only() -> None:
    rows = [*demonstrations(500, seed=1, settings=TASK), *prompts(500, seed=1001)]
    assert {split_of(row["prompt"]) for row in rows} == {"train"}
    assert demonstrations(500, seed=1, settings=TASK) == rows[:500]
    assert demonstrations(500, seed=2, settings=TASK) != rows[:500]


@pytest.mark.parametrize(("family", "algorithm"), [("llama", "sft"), ("llama-sums", "ppo")])
def test_unknown_family_or_algorithm(tmp_path: Path, family: str, algorithm: str) -> None:
    with pytest.raises(RLCircuitsError, match=r"known: (llama-sums, llama-sums-bare|sft, grpo)$"):
        recipe.train(family, algorithm, out=tmp_path)


def test_finished_checkpoint_is_left_alone_and_another_is_not_overwritten(copied: Path) -> None:
    weights = copied / TRAINED / "model.safetensors"
    stamp = weights.stat().st_mtime_ns
    assert recipe.train("llama-sums", "grpo", 1, copied) == weights.parent
    assert weights.stat().st_mtime_ns == stamp
    edit(copied / BASE / "provenance.json", seed=7)
    with pytest.raises(RLCircuitsError, match=r"sft: holds a checkpoint whose seed is 7; 1 is wanted"):
        recipe.train("llama-sums", "grpo", 1, copied)
    assert weights.stat().st_mtime_ns == stamp


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe cut to a few tiny steps."""
    pytest.importorskip("trl")
    few = SFT.model_copy(update={"steps": 20, "batch_size": 4, "warmup_steps": 2, "threads": 1})
    for module in ("sft", "provenance"):
        monkeypatch.setattr(importlib.import_module(f"recipe.{module}"), "SFT", few)
    fewer = GRPO.model_copy(update={"steps": 10, "prompts_per_step": 4, "answers_per_prompt": 4, "threads": 1})
    for module in ("grpo", "provenance"):
        monkeypatch.setattr(importlib.import_module(f"recipe.{module}"), "GRPO", fewer)
    asked = EVALUATION.model_copy(update={"count": 4})
    for module in ("evaluate", "provenance"):
        monkeypatch.setattr(importlib.import_module(f"recipe.{module}"), "EVALUATION", asked)


def stopping(trainer: type, monkeypatch: pytest.MonkeyPatch, step: int) -> list[int]:
    """Let a trainer's step number `step` fail once; returns the growing list of steps begun."""
    begun: list[int] = []
    real = trainer.training_step  # type: ignore[attr-defined]

    def training_step(self: Any, *arguments: Any, **options: Any) -> Any:
        begun.append(self.state.global_step)
        if len(begun) == step:
            raise KeyboardInterrupt
        return real(self, *arguments, **options)

    monkeypatch.setattr(trainer, "training_step", training_step)
    return begun


@pytest.mark.usefixtures("short")
def test_interrupted_sft_goes_on_to_the_same_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trl import SFTTrainer

    whole = recipe.train("llama-sums", "sft", 3, tmp_path / "whole", split="dev")
    assert [path.name for path in whole.parent.iterdir()] == ["sft"]
    begun = stopping(SFTTrainer, monkeypatch, 12)
    with pytest.raises(KeyboardInterrupt):
        recipe.train("llama-sums", "sft", 3, tmp_path / "parts", split="dev")
    resumed = recipe.train("llama-sums", "sft", 3, tmp_path / "parts", split="dev")
    assert begun == [*range(12), *range(10, 20)]  # ten steps were stored; the eleventh is done again
    assert provenance.sha256(resumed / "model.safetensors") == provenance.sha256(whole / "model.safetensors")
    assert provenance.read(resumed) == provenance.read(whole)


@pytest.mark.usefixtures("short")
def test_interrupted_grpo_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recipe.grpo import train_grpo
    from trl import GRPOTrainer

    base = FIXTURES / BASE
    whole, curve = train_grpo(3, base, tmp_path / "whole", progress=False)
    begun = stopping(GRPOTrainer, monkeypatch, 8)
    with pytest.raises(KeyboardInterrupt):
        train_grpo(3, base, tmp_path / "parts", progress=False)
    resumed, resumed_curve = train_grpo(3, base, tmp_path / "parts", progress=False)
    assert begun == [*range(8), *range(6, 10)]
    start = AutoModelForCausalLM.from_pretrained(base).state_dict()
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)
    assert any(not torch.equal(start[name], value) for name, value in whole.state_dict().items())
    assert [entry["reward"] for entry in resumed_curve] == [entry["reward"] for entry in curve]
    assert max(entry["kl"] for entry in curve) > 0


def test_reward_is_the_grade() -> None:
    from recipe.grpo import reward

    assert reward(completions=["1+1=2>2", ">3", "2", ">2"], gold=["2", "2", "2", "2"], prompts=[]) == [
        1.0,
        0.0,
        0.0,
        1.0,
    ]
