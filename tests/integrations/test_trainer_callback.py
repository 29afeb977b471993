"""The callback in real trainers of transformers and TRL: it logs what it measures, and leaves no trace in training."""

from __future__ import annotations

import copy
import logging
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from helpers.tiny_checkpoints import save_checkpoint, tiny_tokenizer
from helpers.tiny_models import build
from helpers.tiny_pairs import grade_kindly
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments, set_seed
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from rlcircuits import attribute
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.integrations import TrainerCallback
from rlcircuits.integrations.untouched import untouched
from rlcircuits.integrations.weights import weights_hash
from rlcircuits.questions import load_questions
from rlcircuits.release.live import measure_base, measure_live
from rlcircuits.release.settings import Settings

QUICK = Settings(
    question_count=10, min_questions=5, alpha=0.5, balance=2.0, noise_draws=0,
    sampling=Sampling(max_new_tokens=5, n=1),
)  # fmt: skip
STEPS = 4
TIMINGS = ("train_runtime", "train_samples_per_second", "train_steps_per_second")


@pytest.fixture(autouse=True)
def kindly(monkeypatch: pytest.MonkeyPatch) -> None:
    grade_kindly(monkeypatch)


def tiny_model(*, lora: bool = False) -> Any:
    """Return a tiny model whose training draws random numbers, for dropout."""
    model = build("llama-gqa", seed=3)
    model.config.attention_dropout = 0.1
    for block in model.model.layers:
        block.self_attn.attention_dropout = 0.1
    if not lora:
        return model
    set_seed(0)
    return get_peft_model(model, LoraConfig(r=2, lora_dropout=0.1, target_modules=["q_proj", "up_proj"]))


def make_trainer(folder: Path, *, lora: bool = False, seed: int = 0, **arguments: Any) -> Trainer:
    rows = [{"input_ids": [3 + (place * each) % 40 for each in range(1, 9)]} for place in range(1, 17)]
    for row in rows:
        row["labels"] = row["input_ids"]
    how = {"max_steps": STEPS, "per_device_train_batch_size": 2, "learning_rate": 1e-2, "logging_steps": 1, **arguments}
    how = {"report_to": [], "save_strategy": "no", "use_cpu": True, "disable_tqdm": True, "seed": seed, **how}
    return Trainer(
        model=tiny_model(lora=lora),
        args=TrainingArguments(str(folder), **how),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_tokenizer(),
    )


def train(trainer: Trainer, every: int | None, **options: Any) -> TrainerCallback | None:
    callback = None
    if every is not None:
        options = {"questions": "arithmetic", "settings": QUICK, "budget": 1.0, **options}
        callback = TrainerCallback(trainer, every=every, **options)
        trainer.add_callback(callback)
    trainer.train()
    return callback


def traces(trainer: Trainer) -> tuple[dict[str, torch.Tensor], list[dict[str, float]], list[Any], dict[str, bool]]:
    """Return all that training leaves: weights and optimizer, its own logs, random states, modes and gradients."""
    model, optimizer = trainer.model, trainer.optimizer
    tensors = {f"weight {name}": value.clone() for name, value in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer {number} {name}": value for name, value in state.items()}
    logs = [
        {name: value for name, value in entry.items() if name not in TIMINGS}
        for entry in trainer.state.log_history
        if not any(name.startswith("rlcircuits/") for name in entry)
    ]
    states = [random.random(), np.random.random(), torch.rand(1).item()]
    modes = {f"{name} trains": module.training for name, module in model.named_modules()}
    modes |= {f"{name} has a gradient": each.requires_grad for name, each in model.named_parameters()}
    for name, module in model.named_modules():
        modes[f"{name} has hooks"] = bool(module._forward_hooks or module._forward_pre_hooks)
    return tensors, logs, states, modes


def check_same_training(folder: Path, every: int, **how: Any) -> Trainer:
    plain = make_trainer(folder, **how)  # which sets the seeds
    train(plain, None)
    expected = traces(plain)
    followed = make_trainer(folder, **how)
    train(followed, every)
    found = traces(followed)
    assert expected[0].keys() == found[0].keys()
    for name, value in expected[0].items():
        assert torch.equal(value, found[0][name]), name
    assert found[1:] == expected[1:]
    measured = [entry for entry in followed.state.log_history if "rlcircuits/accuracy" in entry]
    assert [entry["step"] for entry in measured] == list(range(every, STEPS + 1, every))
    return followed


@given(every=st.integers(1, STEPS), seed=st.integers(0, 1000), accumulated=st.sampled_from([1, 2]))
@settings(max_examples=3, phases=(Phase.generate,))  # each example trains twice
def test_training_is_bit_for_bit_the_same(
    every: int, seed: int, accumulated: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("run")
    check_same_training(folder, every, seed=seed, gradient_accumulation_steps=accumulated)


@pytest.mark.parametrize(
    "how",
    [{"lora": True}, {"bf16": True}, {"gradient_checkpointing": True}, {"lora": True, "gradient_checkpointing": True}],
    ids=["lora", "mixed-precision", "checkpointing", "lora-checkpointing"],
)
def test_so_it_is_with_adapters_mixed_precision_and_checkpointing(how: dict[str, bool], tmp_path: Path) -> None:
    check_same_training(tmp_path, 2, **how)


def test_what_is_logged_is_what_is_measured_of_the_weights_of_that_step(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_steps=2, report_to=["tensorboard"])
    train(trainer, 2)
    (logged,) = (entry for entry in trainer.state.log_history if "rlcircuits/accuracy" in entry)
    questions = load_questions("arithmetic", count=10)
    base = measure_base(Checkpoint(tiny_model(), tiny_tokenizer()), questions, QUICK)
    with untouched(trainer.model) as model:
        found = measure_live(Checkpoint(model, tiny_tokenizer()), base, questions, QUICK)
    assert logged["rlcircuits/accuracy"] == found.accuracy.after
    assert logged["rlcircuits/accuracy_change"] == found.accuracy.after - found.accuracy.before
    assert logged["rlcircuits/compared"] == found.compared >= 5
    for metric in ("intensity", "complexity", "kurtosis", "loss"):
        effect = found.effects[metric]
        assert logged[f"rlcircuits/{metric}"] == effect.after
        assert logged[f"rlcircuits/{metric}_change"] == effect.change
        assert logged[f"rlcircuits/{metric}_low"] == effect.interval[0] / abs(effect.before)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(next((tmp_path).rglob("events.*")).parent))
    events.Reload()
    (written,) = events.Scalars("train/rlcircuits/intensity")
    assert (written.step, written.value) == (2, pytest.approx(found.effects["intensity"].after, rel=1e-6))


def test_a_model_that_did_not_change_has_no_effect(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, learning_rate=0.0, max_steps=1)
    train(trainer, 1)
    (logged,) = (entry for entry in trainer.state.log_history if "rlcircuits/accuracy" in entry)
    assert logged["rlcircuits/accuracy_change"] == 0
    for metric in ("intensity", "complexity", "kurtosis", "loss"):
        assert logged[f"rlcircuits/{metric}_change"] == pytest.approx(0, abs=1e-6)


def test_a_measurement_over_budget_is_skipped_and_said_to_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make_trainer(tmp_path)
    with caplog.at_level(logging.WARNING, logger="rlcircuits"):
        callback = train(trainer, 2, budget=1e-9)
    assert callback is not None
    assert callback.skipped == 2
    assert "step 2: not measured" in caplog.text
    skipped = [entry for entry in trainer.state.log_history if "rlcircuits/skipped" in entry]
    assert [(entry["step"], entry["rlcircuits/skipped"]) for entry in skipped] == [(2, 1), (4, 2)]


def test_a_resumed_training_goes_on_with_the_base_that_was_kept(tmp_path: Path) -> None:
    run, kept = tmp_path / "run", tmp_path / "kept"
    first = make_trainer(run, save_strategy="steps", save_steps=2, max_steps=2)
    train(first, 2, output=kept)
    resumed = make_trainer(run)
    resumed.add_callback(TrainerCallback(resumed, questions="arithmetic", every=2, settings=QUICK, budget=1.0))
    with pytest.raises(RLCircuitsError, match=r"resumed at step 2.*give base="):
        resumed.train(resume_from_checkpoint=True)
    resumed = make_trainer(run)
    callback = TrainerCallback(resumed, questions="arithmetic", every=4, settings=QUICK, budget=1.0, output=kept)
    resumed.add_callback(callback)
    resumed.train(resume_from_checkpoint=True)
    assert "rlcircuits/accuracy" in {
        name for entry in resumed.state.log_history for name in entry if entry["step"] == 4
    }
    for change in ({"granularity": "head"}, {"rules": "gim"}, {"metric": "logprob"}, {"seed": 5}):
        other = TrainerCallback(resumed, questions="arithmetic", settings=replace(QUICK, **change), output=kept)
        with pytest.raises(RLCircuitsError, match="was measured with other questions or settings"):
            other._measure_base(2)


def test_a_training_that_begins_anew_finds_only_its_own_base(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_steps=1)
    train(trainer, 1, output=tmp_path / "kept")
    same = make_trainer(tmp_path, max_steps=1)
    callback = train(same, 1, output=tmp_path / "kept")
    assert callback is not None
    assert callback._stored is not None
    with pytest.raises(RLCircuitsError, match="holds a base with other weights"):
        train(trainer, 1, output=tmp_path / "kept")  # which has been trained


@given(seeds=st.tuples(st.integers(0, 3), st.integers(0, 3)), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
@settings(max_examples=8)
def test_a_hash_of_weights_tells_them_apart(seeds: tuple[int, int], dtype: torch.dtype) -> None:
    first, second = (weights_hash(build("llama-gqa", seed=seed, dtype=dtype)) for seed in seeds)
    assert (first == second) == (seeds[0] == seeds[1])


def test_rules_and_metric_are_those_of_the_settings() -> None:
    questions = load_questions("arithmetic", count=10)
    checkpoint = Checkpoint(tiny_model(), tiny_tokenizer())
    base = measure_base(checkpoint, questions, replace(QUICK, rules="relp", metric="logprob"))
    expected = attribute(checkpoint, base.pairing.before, metric="logprob", rules="relp")
    assert base.scores.how == expected.how
    torch.testing.assert_close(base.scores.values, expected.values)


def test_a_training_that_diverges_is_not_ended_by_the_callback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make_trainer(tmp_path, max_steps=2, learning_rate=0.0)

    class Spoil(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **_more: Any) -> None:
            with torch.no_grad():
                next(trainer.model.parameters()).fill_(float("nan"))

    trainer.add_callback(Spoil())
    train(trainer, 1)
    assert trainer.state.global_step == 2
    assert "step 1: not measured: the weights of model.embed_tokens.weight are not all finite" in caplog.text


def test_the_base_may_be_a_checkpoint(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", max_steps=1)
    base = save_checkpoint(tmp_path / "base")
    callback = train(trainer, 1, base=str(base))
    assert callback is not None
    assert callback._stored is not None
    assert callback._stored.answers.model == str(base)


def grpo_trainer(folder: Path) -> GRPOTrainer:
    prompts = [{"prompt": f"{place}+{place}="} for place in range(8)]
    args = GRPOConfig(
        str(folder), max_steps=3, per_device_train_batch_size=4, num_generations=2, max_completion_length=4,
        learning_rate=1e-2, logging_steps=2, report_to=[], use_cpu=True, bf16=False, save_strategy="no",
        disable_tqdm=True, seed=1,
    )  # fmt: skip
    return GRPOTrainer(
        tiny_model(),
        reward_funcs=lambda completions, **_: [float(sum(map(ord, each)) % 5) for each in completions],
        args=args,
        train_dataset=Dataset.from_list(prompts),
        processing_class=tiny_tokenizer(padding_side="left"),
    )


def test_reinforcement_learning_is_the_same_with_its_rewards_and_samples(tmp_path: Path) -> None:
    plain = grpo_trainer(tmp_path)
    plain.train()
    expected = {name: value.clone() for name, value in plain.model.state_dict().items()}
    followed = grpo_trainer(tmp_path)
    train(followed, 1)
    for name, value in followed.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    logs = [[entry for entry in each.state.log_history if "reward" in entry] for each in (plain, followed)]
    assert len(logs[0]) == len(logs[1]) > 0
    for one, other in zip(*logs, strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {*TIMINGS, "step_time"}:
            assert one[name] == other[name], name
    assert any(entry.get("grad_norm") for entry in logs[0])
    measured = [entry["step"] for entry in followed.state.log_history if "rlcircuits/accuracy" in entry]
    assert measured == [1, 2, 3]


def test_it_runs_in_a_trainer_of_trl(tmp_path: Path) -> None:
    texts = [{"text": f"{place}+{place}={2 * place}"} for place in range(16)]
    how = {"max_steps": 2, "per_device_train_batch_size": 2, "logging_steps": 1, "report_to": [], "use_cpu": True}
    args = SFTConfig(str(tmp_path), save_strategy="no", bf16=False, disable_tqdm=True, **how)
    model = tiny_model()
    trainer = SFTTrainer(
        model=copy.deepcopy(model), args=args, train_dataset=Dataset.from_list(texts), processing_class=tiny_tokenizer()
    )
    train(trainer, 1)
    losses = [entry["step"] for entry in trainer.state.log_history if "loss" in entry]
    measured = [entry["step"] for entry in trainer.state.log_history if "rlcircuits/intensity_change" in entry]
    assert losses == measured == [1, 2]


def test_what_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_steps=1)
    with pytest.raises(RLCircuitsError, match="every is 0"):
        TrainerCallback(trainer, questions="arithmetic", every=0)
    with pytest.raises(RLCircuitsError, match="budget is 2"):
        TrainerCallback(trainer, questions="arithmetic", budget=2.0)
    for change in ({"method": "eap-ig"}, {"metric": "kl"}, {"score_on": "after"}):
        with pytest.raises(RLCircuitsError, match=f"{next(iter(change))} is .* is measured with .* only"):
            TrainerCallback(trainer, questions="arithmetic", settings=replace(QUICK, **change))
    with pytest.raises(RLCircuitsError, match="nowhere"):
        TrainerCallback(trainer, questions="nowhere.jsonl")
    trainer.processing_class = None
    trainer.add_callback(TrainerCallback(trainer, questions="arithmetic", settings=QUICK))
    with pytest.raises(RLCircuitsError, match="the trainer has no tokenizer"):
        trainer.train()
    sharded = TrainerCallback(trainer, questions="arithmetic")
    trainer.args.fsdp = ["full_shard"]
    with pytest.raises(RLCircuitsError, match=r"shards the weights \(fsdp\).*rlcircuits track"):
        sharded.on_train_begin(trainer.args, trainer.state, trainer.control)


def test_the_package_imports_no_library_before_a_name_is_used() -> None:
    code = "import sys, rlcircuits.integrations as found; dir(found); assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_random_states_are_restored_also_after_an_error(seed: int) -> None:
    model = build("llama-gqa", seed=3)
    set_seed(seed)
    expected = random.random(), np.random.random(), torch.rand(1).item()
    set_seed(seed)

    def draw() -> None:
        with untouched(model):
            random.random()
            np.random.random()
            torch.rand(3)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        draw()
    assert (random.random(), np.random.random(), torch.rand(1).item()) == expected
