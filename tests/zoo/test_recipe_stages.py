"""Trainings in stages: CF-GRPO, whose first stage moves the unembedding alone, and filtered iterative SFT."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import FIXTURES

sys.path.insert(0, str(FIXTURES))

from helpers.tiny_recipe import FEW, TINY, make_easy, random_parent
from recipe.algorithms import TRAINERS
from recipe.classifier_first import only_head, with_weights_of
from recipe.job import Job
from recipe.online import fit_grpo
from recipe.run import quiet
from recipe.sampling import right_answers
from recipe.settings import CFGRPOSettings
from recipe.stages import run_stage
from recipe.storing import Snapshots
from recipe.supervised import train_rft
from transformers import AutoModelForCausalLM

pytestmark = pytest.mark.slow

STEPS = {"cf-grpo": [2, 10], "f-isft": [2] * 5}
"""The steps of each stage, in the settings FEW."""


@pytest.fixture(autouse=True)
def _few_lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    pytest.importorskip("trl")
    make_easy(monkeypatch)
    with quiet():
        yield


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_parent(tmp_path_factory.mktemp("parent"))


def job_of(algorithm: str, parent: Path, work: Path) -> Job[Any]:
    work.mkdir(parents=True, exist_ok=True)
    return Job(FEW[algorithm], TINY, 3, parent, work)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


@pytest.mark.parametrize(("algorithm", "trainer"), [("cf-grpo", "GRPOTrainer"), ("f-isft", "SFTTrainer")])
def test_an_interrupted_run_repeats_no_finished_stage_and_goes_on_to_the_same_weights(
    algorithm: str, trainer: str, parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, curve = TRAINERS[algorithm](job_of(algorithm, parent, tmp_path / "whole"))
    kind = getattr(importlib.import_module("trl"), trainer)
    begun: list[int] = []
    real = kind.training_step

    def training_step(self: Any, *arguments: Any, **options: Any) -> Any:
        begun.append(self.state.global_step)
        if len(begun) == 6:
            raise KeyboardInterrupt
        return real(self, *arguments, **options)

    monkeypatch.setattr(kind, "training_step", training_step)
    with pytest.raises(KeyboardInterrupt):
        TRAINERS[algorithm](job_of(algorithm, parent, tmp_path / "parts"))
    resumed, resumed_curve = TRAINERS[algorithm](job_of(algorithm, parent, tmp_path / "parts"))
    # A stage of ten steps is stored after every second one, a stage of two after each.
    every = [step for steps in STEPS[algorithm] for step in range(steps)]
    assert begun == [*every[:6], *every[4 if algorithm == "cf-grpo" else 5 :]]
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)
    assert [(entry["step"], entry["loss"]) for entry in resumed_curve] == [(e["step"], e["loss"]) for e in curve]
    assert [entry["step"] for entry in curve] == list(range(1, sum(STEPS[algorithm]) + 1))


def test_the_first_stage_moves_the_unembedding_alone(parent: Path, tmp_path: Path) -> None:
    job = job_of("cf-grpo", parent, tmp_path)
    TRAINERS["cf-grpo"](job)
    start, head, last = (
        weights(folder)
        for folder in (parent, *(tmp_path / f"{job.name}-{stage}" / "finished" for stage in ("head", "all")))
    )
    assert {name for name in start if not torch.equal(start[name], head[name])} == {"lm_head.weight"}
    assert all(not torch.equal(head[name], last[name]) for name in start)


def test_both_stages_are_drawn_back_to_the_base(parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The KL of the second stage is not 0 at its start, where the policy has left the base already."""
    from trl import GRPOTrainer

    references = []
    real = GRPOTrainer.training_step

    def training_step(self: Any, *arguments: Any, **options: Any) -> Any:
        if self.state.global_step == 0:
            references.append({name: value.clone() for name, value in self.ref_model.state_dict().items()})
            assert not self.optimizer.state_dict()["state"]  # a new optimizer
        return real(self, *arguments, **options)

    monkeypatch.setattr(GRPOTrainer, "training_step", training_step)
    _, curve = TRAINERS["cf-grpo"](job_of("cf-grpo", parent, tmp_path))
    assert len(references) == 2
    for reference in references:
        assert all(torch.equal(reference[name], value) for name, value in weights(parent).items())
    assert curve[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert curve[2]["kl"] > 1e-6


def test_without_the_first_stage_it_is_grpo(parent: Path, tmp_path: Path) -> None:
    """GRPO on a model in memory, as the second stage runs it, is GRPO on the folder, to the last bit."""
    job = job_of("grpo", parent, tmp_path / "grpo")
    plain, _ = TRAINERS["grpo"](job)
    rows = job.task.prompts(80, 1000 + job.seed)
    settings = CFGRPOSettings(**FEW["grpo"].model_dump())
    again = replace(job, settings=settings, work=tmp_path / "again")
    found, _ = fit_grpo(again, with_weights_of(parent, parent), rows)
    assert all(torch.equal(found.state_dict()[name], value) for name, value in plain.state_dict().items())


def test_only_the_head_is_trained(parent: Path) -> None:
    model = only_head(parent)
    assert [name for name, weight in model.named_parameters() if weight.requires_grad] == ["lm_head.weight"]


def test_every_round_has_other_questions(parent: Path, tmp_path: Path) -> None:
    rounds = [right_answers(job_of("rft", parent, tmp_path / str(number)), number) for number in range(3)]
    asked = [{row["prompt"] for row in rows} for rows in rounds]
    assert all(len(each) == 12 for each in asked)
    assert len(set.union(*asked)) > 30


def test_a_round_starts_from_the_model_before_it(parent: Path, tmp_path: Path) -> None:
    job = job_of("f-isft", parent, tmp_path)
    model, _ = TRAINERS["f-isft"](job)
    rounds = [weights(tmp_path / f"{job.name}-round-{number}" / "finished") for number in range(1, 6)]
    assert all(torch.equal(rounds[-1][name], value) for name, value in model.state_dict().items())
    again = replace(job, work=tmp_path / "again", parent=tmp_path / f"{job.name}-round-1" / "finished",
                    settings=job.settings.model_copy(update={"steps": 2, "answers": 4}))  # fmt: skip
    again.work.mkdir()
    second, _ = train_rft(again, 1)
    assert all(torch.equal(rounds[1][name], value) for name, value in second.state_dict().items())


def test_snapshots_count_the_steps_of_all_stages(parent: Path, tmp_path: Path) -> None:
    job = replace(job_of("cf-grpo", parent, tmp_path / "work"), snapshots=Snapshots(tmp_path / "kept", TINY, every=4))
    model, _ = TRAINERS["cf-grpo"](job)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["step-0004", "step-0008", "step-0012"]
    last = weights(tmp_path / "kept" / "step-0012")
    assert all(torch.equal(last[name], value) for name, value in model.state_dict().items())


def test_a_finished_stage_is_not_run_again(parent: Path, tmp_path: Path) -> None:
    job = job_of("sft-more", parent, tmp_path)
    folder, curve = run_stage(job, "first", TRAINERS["sft-more"], done=5)
    assert [entry["step"] for entry in curve] == list(range(6, 16))
    again = run_stage(job, "first", lambda _: pytest.fail("it was run again"), done=5)
    assert again == (folder, curve)
