"""The recipe's trainings: what is stored, what is left alone, and that an interrupted run ends in the same weights."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.full_disk import largest_file
from helpers.paths import FIXTURES

sys.path.insert(0, str(FIXTURES))

import recipe
import torch
from helpers.tiny_recipe import FEW, FIXTURES, TINY, make_easy, make_only, random_parent
from recipe import provenance
from recipe.algorithms import TRAINERS
from recipe.folders import work_folder
from recipe.job import Job
from recipe.online import reward_of
from recipe.run import quiet
from recipe.sampling import own_pairs, right_answers
from recipe.settings import ALGORITHMS, BASE, FAMILIES, MUST_IMPROVE
from recipe.storing import Snapshots
from recipe.tasks import TASKS
from transformers import AutoModelForCausalLM

from rlcircuits.common.errors import RLCircuitsError

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _few_lines() -> Iterator[None]:
    pytest.importorskip("trl")
    with quiet():
        yield


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_parent(tmp_path_factory.mktemp("parent"))


def job_of(algorithm: str, parent: Path, work: Path, snapshots: Snapshots | None = None) -> Job[Any]:
    work.mkdir(parents=True, exist_ok=True)
    return Job(FEW[algorithm], TINY, 3, parent, work, snapshots=snapshots)


def run(algorithm: str, parent: Path, work: Path, snapshots: Snapshots | None = None) -> Any:
    return TRAINERS[algorithm](job_of(algorithm, parent, work, snapshots))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


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


@pytest.mark.parametrize(
    ("algorithm", "trainer"),
    [("rft", "SFTTrainer"), ("grpo", "GRPOTrainer"), ("rloo", "RLOOTrainer"), ("dpo-onpolicy", "DPOTrainer")],
)
def test_an_interrupted_run_goes_on_to_the_same_weights(
    algorithm: str, trainer: str, parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_easy(monkeypatch)
    whole, curve = run(algorithm, parent, tmp_path / "whole")
    begun = stopping(getattr(importlib.import_module("trl"), trainer), monkeypatch, 8)
    with pytest.raises(KeyboardInterrupt):
        run(algorithm, parent, tmp_path / "parts")
    resumed, resumed_curve = run(algorithm, parent, tmp_path / "parts")
    assert begun == [*range(8), *range(6, 10)]  # six steps were stored; the seventh is done again
    start = weights(parent)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)
    assert any(not torch.equal(start[name], value) for name, value in whole.state_dict().items())
    assert [entry["loss"] for entry in resumed_curve] == [entry["loss"] for entry in curve]
    assert len(curve) == 10


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_online_training_starts_at_the_parent_and_is_drawn_back_to_it(
    algorithm: str, parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_easy(monkeypatch)
    _, curve = run(algorithm, parent, tmp_path / "work")
    assert curve[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert curve[-1]["kl"] > 0
    assert max(entry["reward"] for entry in curve) > 0


def test_dpo_starts_where_the_reference_is_and_tells_the_pairs_apart(parent: Path, tmp_path: Path) -> None:
    _, curve = run("dpo", parent, tmp_path / "work")
    assert curve[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert curve[-1]["rewards/margins"] > 0


def test_clean_demonstrations_differ_from_noisy_ones_in_their_slips_only(parent: Path, tmp_path: Path) -> None:
    found = []
    for algorithm in ("sft-more", "sft-clean"):
        model, _ = run(algorithm, parent, tmp_path / algorithm)
        found.append(model.state_dict())
    assert any(not torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_snapshots_are_kept_every_few_steps_and_change_nothing(
    algorithm: str, parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_easy(monkeypatch)
    plain, _ = run(algorithm, parent, tmp_path / "plain")
    model, _ = run(algorithm, parent, tmp_path / "watched", Snapshots(tmp_path / "kept", TINY, every=5))
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["step-0005", "step-0010"]
    last, half = weights(tmp_path / "kept" / "step-0010"), weights(tmp_path / "kept" / "step-0005")
    for name, value in model.state_dict().items():
        assert torch.equal(plain.state_dict()[name], value)
        assert torch.equal(last[name], value)
    assert any(not torch.equal(half[name], value) for name, value in last.items())


@pytest.mark.parametrize("algorithm", ["sft-more", "ppo", "rft"])
def test_progress_goes_to_stderr(
    algorithm: str, parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_easy(monkeypatch)
    monkeypatch.setenv("FORCE_COLOR", "1")  # where rich would not draw a bar without a terminal
    job = job_of(algorithm, parent, tmp_path / f"{algorithm}.tmp")
    TRAINERS[algorithm](replace(job, progress=True))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert algorithm in shown.err
    assert "10/10" in shown.err
    assert ("answers for rft" in shown.err) == (algorithm == "rft")


def test_own_right_answers(parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_easy(monkeypatch)
    task = TASKS["sums"]
    rows = right_answers(job_of("rft", parent, tmp_path))
    assert len(rows) == 12
    assert all(task.grade(row["completion"], "") for row in rows)
    assert {task.split_of(row["prompt"]) for row in rows} == {"train"}
    assert len({row["prompt"] for row in rows}) == 12
    # Kept: a resumed run does not ask again, nor needs the parent.
    assert right_answers(job_of("rft", tmp_path / "gone", tmp_path)) == rows


def test_own_pairs(parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_easy(monkeypatch)
    task = TASKS["sums"]
    rows = own_pairs(job_of("dpo-onpolicy", parent, tmp_path))
    assert len(rows) == 16
    for row in rows:
        assert task.split_of(row["prompt"]) == "train"
        assert task.grade(row["chosen"], "")
        assert not task.grade(row["rejected"], "")
    assert own_pairs(job_of("dpo-onpolicy", parent, tmp_path / "again")) == rows


def test_a_base_that_is_never_right_gives_no_pairs(parent: Path, tmp_path: Path) -> None:
    with pytest.raises(RLCircuitsError, match="5120 sampled answers give nothing to train on; a base is wanted that"):
        own_pairs(job_of("dpo-onpolicy", parent, tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != BASE])
def test_a_training_that_goes_on_needs_something_to_start_from(algorithm: str, tmp_path: Path) -> None:
    job = Job(FEW[algorithm], TINY, 3, None, tmp_path / f"{algorithm}.tmp")
    with pytest.raises(RLCircuitsError, match=f"^{algorithm}: no checkpoint to start from was given$"):
        TRAINERS[algorithm](job)


def test_reward_is_the_grade() -> None:
    reward = reward_of(TASKS["sums"].grade)
    completions = ["1+1=2>2", ">3", "2", ">2"]
    assert reward(completions=completions, gold=["2"] * 4, prompts=[]) == [1.0, 0.0, 0.0, 1.0]


def test_an_interrupted_training_goes_on_to_the_same_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import SFTTrainer

    make_only(monkeypatch, TINY)
    said: list[str] = []
    whole = recipe.train("tiny", "sft", 3, tmp_path / "whole", split="dev", notify=said.append)
    assert said == [f"{whole}: training for 10 steps", f"{whole}: answering 8 questions of the split 'dev', twice"]
    assert [path.name for path in whole.parent.iterdir()] == ["sft"]
    begun = stopping(SFTTrainer, monkeypatch, 6)
    with pytest.raises(KeyboardInterrupt):
        recipe.train("tiny", "sft", 3, tmp_path / "parts", split="dev")
    resumed = recipe.train("tiny", "sft", 3, tmp_path / "parts", split="dev")
    assert begun == [*range(6), *range(4, 10)]
    assert provenance.sha256(resumed / "model.safetensors") == provenance.sha256(whole / "model.safetensors")
    assert provenance.read(resumed) == provenance.read(whole)


def test_what_is_missing_is_trained_in_order_and_what_is_there_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = replace(TINY, algorithms=("sft", "sft-more", "dpo"))
    make_only(monkeypatch, family)
    folder = recipe.train("tiny", "dpo", 4, tmp_path, split="dev")
    assert sorted(path.name for path in folder.parent.iterdir()) == ["dpo", "sft"]  # with the base it starts from
    record = provenance.read(folder)
    assert record.accuracy_before == provenance.read(folder.with_name("sft")).accuracy
    assert record.parent == provenance.parent_of(tmp_path, "tiny", "dpo", 4)
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    folders = recipe.train_missing("tiny", None, tmp_path, split="dev")
    assert [path.relative_to(tmp_path).as_posix() for path in folders] == [
        f"tiny/seed-{seed}/{algorithm}" for seed in (3, 4) for algorithm in ("sft", "sft-more", "dpo")
    ]
    assert all((path / "provenance.json").is_file() for path in folders)
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
    assert not list(tmp_path.rglob("*.tmp"))

    longer = replace(family, special={**FEW, "dpo": FEW["dpo"].model_copy(update={"steps": 20})})
    make_only(monkeypatch, longer)
    wanted = r"dpo: holds a checkpoint whose recipe\.dpo\.steps is .*another folder, or force"
    with pytest.raises(RLCircuitsError, match=wanted):
        recipe.train("tiny", "dpo", 4, tmp_path, split="dev")
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
    recipe.train("tiny", "dpo", 4, tmp_path, split="dev", force=True)
    assert provenance.read(folder).recipe["dpo"]["steps"] == 20


def test_left_overs_of_another_run_are_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_only(monkeypatch, TINY)
    whole = recipe.train("tiny", "sft", 3, tmp_path / "whole", split="dev")
    work = tmp_path / "other" / "tiny" / "seed-3" / "sft.tmp"
    work.mkdir(parents=True)
    (work / "run.json").write_text(json.dumps({"seed": 4}))
    (work / "checkpoint-10").mkdir()
    other = recipe.train("tiny", "sft", 3, tmp_path / "other", split="dev")
    assert provenance.read(other).files == provenance.read(whole).files


def test_another_temperature_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_only(monkeypatch, TINY)
    folder = recipe.train(
        "tiny", "ppo", 3, tmp_path, split="dev", temperature=1.3, snapshots=tmp_path / "kept", every=4
    )
    assert provenance.read(folder).recipe["ppo"]["temperature"] == 1.3
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["step-0004", "step-0008"]
    with pytest.raises(RLCircuitsError, match=r"whose recipe\.ppo\.temperature is 1.3; 1.0 is wanted"):
        recipe.train("tiny", "ppo", 3, tmp_path, split="dev")


@pytest.mark.parametrize(
    ("family", "algorithm", "options", "message"),
    [
        ("llama", "sft", {}, "unknown family 'llama'; known: tiny"),
        ("llama", "sft", {"device": "cuda"}, "unknown family 'llama'; known: tiny"),
        (
            "tiny",
            "sft",
            {"device": "cuda"},
            "device is 'cuda', and tiny is trained on the CPU alone, so that its bits repeat; leave it out",
        ),
        ("tiny", "kto", {}, f"unknown algorithm 'kto'; known: {', '.join(ALGORITHMS)}"),
        ("tiny", "grpo", {"temperature": 0.0}, "temperature is 0.0; more than 0 is wanted"),
        ("tiny", "dpo", {"temperature": 1.3}, "temperature is that of online RL's sampling; 'dpo' has none"),
        ("tiny", "sft", {"split": "nope"}, "set 'arithmetic' has no split 'nope'; known: train, dev, test"),
        ("tiny", "sft", {"snapshots": "kept", "every": 0}, "every is 0; a number of steps, at least 1, is wanted"),
        (
            "tiny",
            "grpo",
            {"temperature": 1.3, "out": FIXTURES},
            "a checkpoint trained at another temperature is not a shipped one: choose another --out",
        ),
    ],
)
def test_what_cannot_be_trained(
    family: str,
    algorithm: str,
    options: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_only(monkeypatch, TINY)
    with pytest.raises(RLCircuitsError) as caught:
        recipe.train(family, algorithm, **{"out": tmp_path, **options})
    assert str(caught.value) == message
    assert not list(tmp_path.iterdir())


def test_settings_name_what_there_is() -> None:
    assert list(TRAINERS) == list(ALGORITHMS)
    assert {*MUST_IMPROVE, BASE} <= set(ALGORITHMS)
    for family in FAMILIES.values():
        assert set(family.special) <= set(family.algorithms) <= set(ALGORITHMS)
        assert family.algorithms[0] == BASE
        assert family.task.name in TASKS
        for algorithm in family.algorithms:
            assert type(family.settings_of(algorithm)) is type(ALGORITHMS[algorithm])


@pytest.mark.parametrize("size", [10, 2_000])
def test_a_checkpoint_on_a_full_disk_is_one_error(tmp_path: Path, size: int) -> None:
    with largest_file(size), pytest.raises(RLCircuitsError, match=r"model cannot be written: .*File too large"):
        random_parent(tmp_path / "model")


def test_a_second_training_of_the_same_checkpoint_is_refused(tmp_path: Path) -> None:
    """Two would write one state by turns, each going on from where the other is."""
    folder = tmp_path / "grpo"
    with (
        work_folder(folder, {"seed": 1}),
        pytest.raises(RLCircuitsError, match="grpo: another process is training it"),
        work_folder(folder, {"seed": 1}),
    ):
        pass


@pytest.mark.parametrize(("later", "kept"), [(1, True), (2, False)])
def test_the_state_of_a_killed_training_serves_only_the_same_training(tmp_path: Path, later: int, kept: bool) -> None:
    folder = tmp_path / "grpo"
    killed = work_folder(folder, {"seed": 1})
    work = killed.__enter__()
    (work / "state.pt").write_text("half")
    (work / "checkpoint-5").mkdir()
    killed.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    with work_folder(folder, {"seed": later}) as work:
        assert (work / "state.pt").exists() == kept
        assert (work / "checkpoint-5").exists() == kept
    assert not work.exists()
