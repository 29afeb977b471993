"""A pair whose stages were done one by one, in any order, has the comparison of a run in one piece."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.output_files import result_bytes
from helpers.tiny_pairs import save_tiny_pair
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import STORE
from rlcircuits.comparison.verdict import judge
from rlcircuits.release.circuit_rules import CircuitRules
from rlcircuits.release.loaded_once import keep_last_model
from rlcircuits.release.pair import Pair, make_pair
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings
from rlcircuits.release.stage_memory import StageMemory
from rlcircuits.release.stages import Stage, in_one, plan_stages, run_stage
from rlcircuits.release.throughput import FILE_NAME, read_throughput
from rlcircuits.report.terminal import detail

pytestmark = pytest.mark.usefixtures("kind_grader")

SETTINGS = Settings(
    question_count=40,
    min_questions=4,
    alpha=0.5,
    balance=2.0,
    noise_draws=2,
    greedy=True,
    sampling=Sampling(max_new_tokens=6),
    device="cpu",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    base, tuned = save_tiny_pair(tmp_path_factory.mktemp("models"))
    _, other = save_tiny_pair(tmp_path_factory.mktemp("other"), update=0.05)
    return {"before": str(base), "after": str(tuned), "control": str(other), "reference": str(other)}


def pair_of(models: dict[str, str], **fields: Any) -> Pair:
    return make_pair(**{"name": "mine", "algorithm": "grpo", **models, **fields})


@pytest.fixture(scope="module")
def alone(models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run in one piece."""
    output = tmp_path_factory.mktemp("alone")
    run_pair(pair_of(models), SETTINGS, output=output)
    return output


def in_some_order(stages: tuple[Stage, ...], data: st.DataObject) -> list[Stage]:
    """The stages in an order in which each follows those that it waits for."""
    left, order = list(stages), list[Stage]()
    while left:
        done = {stage.key for stage in order}
        free = [stage for stage in left if done.issuperset(stage.waits_for)]
        order.append(data.draw(st.sampled_from(free)))
        left.remove(order[-1])
    return order


@pytest.mark.slow
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_gives_the_same_files(
    models: dict[str, str], alone: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever the process keeps from one stage to the next."""
    output = tmp_path_factory.mktemp("stages")
    memory = data.draw(st.sampled_from([None, StageMemory()]), "memory")
    keep_last_model(memory is not None)
    stages = plan_stages(pair_of(models), SETTINGS)
    if data.draw(st.booleans(), "in one"):
        free = [stage.key for stage in stages if not stage.waits_for]
        stages = in_one(stages, data.draw(st.sets(st.sampled_from(free)), "apart"))
    for stage in in_some_order(stages, data):
        run_stage(stage, output, lambda _: None, memory, shared=data.draw(st.booleans(), "shared"))
    keep_last_model(False)
    if memory is not None:
        memory.close()
    assert result_bytes(output) == result_bytes(alone)


def test_the_last_stage_finds_everything(
    models: dict[str, str], alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *stages, whole = plan_stages(pair_of(models), SETTINGS)
    assert [stage.kind for stage in stages].count("noise draw") == SETTINGS.noise_draws
    assert whole.kind == "pair"
    assert {stage.key for stage in stages} == set(whole.waits_for)
    for stage in stages:
        run_stage(stage, tmp_path, lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == [STORE]

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(Checkpoint, "load", fail)
    run_stage(whole, tmp_path, lambda _: None)
    assert result_bytes(tmp_path) == result_bytes(alone)


def test_a_pair_in_one_stage(models: dict[str, str]) -> None:
    stages = plan_stages(pair_of(models), SETTINGS)
    (whole,) = in_one(stages, ())
    assert (whole.kind, whole.waits_for, whole.key) == ("whole pair", (), stages[-1].key)
    apart = in_one(stages, {stages[0].key, "another pair's"})
    assert [stage.key for stage in stages].count(stages[0].key) == 2, "the control's answers of before"
    assert apart == (stages[0], replace(whole, waits_for=(stages[0].key,)))


def test_a_finished_pair_has_no_stages(models: dict[str, str], alone: Path, tmp_path: Path) -> None:
    """Even without the store, which a finished comparison does not need."""
    assert plan_stages(pair_of(models), SETTINGS, alone) == ()
    shutil.copytree(alone / "mine", tmp_path / "mine")
    assert plan_stages(pair_of(models), SETTINGS, tmp_path) == ()
    assert plan_stages(pair_of(models), replace(SETTINGS, alpha=0.4), tmp_path) != ()


def test_stages_that_pairs_share_have_one_key(models: dict[str, str]) -> None:
    one = plan_stages(pair_of(models), SETTINGS)
    other = plan_stages(pair_of(models, name="other", after=models["control"], control=None), SETTINGS)
    shared = {stage.key for stage in one} & {stage.key for stage in other}
    # Before's answers, those of the reference, which is other's after, and before's greedy ones.
    assert {(stage.kind, stage.of) for stage in one if stage.key in shared} == {
        ("answers", "before"),
        ("answers", "reference"),
        ("greedy answers", "before"),
        ("answers", "after"),  # of the control, which is other's after too
    }


@pytest.mark.parametrize(
    "changed", [{"question_count": 41}, {"batch_size": 8}, {"sampling": Sampling(max_new_tokens=5)}]
)
def test_other_answers_have_another_key(models: dict[str, str], changed: dict[str, Any]) -> None:
    pair = pair_of(models)
    one, other = plan_stages(pair, SETTINGS), plan_stages(pair, replace(SETTINGS, **changed))
    assert not {stage.key for stage in one} & {stage.key for stage in other}


def test_too_few_questions_leave_accuracy(models: dict[str, str], tmp_path: Path) -> None:
    pair, few = pair_of(models, control=None), replace(SETTINGS, min_questions=40)
    for stage in plan_stages(pair, few):
        run_stage(stage, tmp_path / "stages", lambda _: None)
    run_pair(pair, few, output=tmp_path / "alone")
    assert result_bytes(tmp_path / "stages") == result_bytes(tmp_path / "alone")


@pytest.mark.parametrize("algorithm", ["grpo", "es"])
def test_noise_that_is_not_needed(models: dict[str, str], tmp_path: Path, algorithm: str) -> None:
    """Stages and a run in one piece leave out the same noise, and both leave the verdict as it is."""
    pair = pair_of(models, control=None, algorithm=algorithm)
    how = replace(SETTINGS, greedy=False, noise_if_needed=True)
    *stages, whole = plan_stages(pair, how)
    places = {stage.key: place for place, stage in enumerate(stages)}
    kinds = {stage.kind: {stages[places[key]].kind for key in stage.waits_for} for stage in stages}
    assert kinds["noise draw"] == {"answers", "scores"}
    assert kinds["noise on"] == {"answers", "scores", "noise draw"}
    with closing(StageMemory()) as memory:
        for stage in (*stages, whole):
            run_stage(stage, tmp_path / "stages", lambda _: None, memory)
    found = run_pair(pair, how, output=tmp_path / "alone")
    assert result_bytes(tmp_path / "stages") == result_bytes(tmp_path / "alone")
    left_out = found.noise_not_needed
    assert left_out is not None
    assert len(found.controls) + left_out.draws == how.noise_draws
    assert left_out.words in detail(found)
    every = run_pair(pair, replace(how, noise_if_needed=False), store=tmp_path / "alone" / STORE)
    assert every.noise_not_needed is None
    assert every.effects == found.effects
    assert every.controls[: len(found.controls)] == found.controls
    assert [each.outcome for each in judge(every).all_findings.values()] == [
        each.outcome for each in judge(found).all_findings.values()
    ]


def test_a_pair_that_asks_for_its_circuits_gets_all_of_its_noise(models: dict[str, str], tmp_path: Path) -> None:
    pair = pair_of(models, control=None, reference=None, algorithm="es", circuits=CircuitRules())
    how = replace(SETTINGS, greedy=False, noise_if_needed=True, noise_groups=False)
    found = run_pair(pair, how)
    assert found.noise_not_needed is None
    assert len(found.controls) == how.noise_draws


def test_bad_checkpoints_are_refused_before_any_stage(models: dict[str, str], tmp_path: Path) -> None:
    _, neox = save_tiny_pair(tmp_path, architecture="gpt-neox")
    with pytest.raises(RLCircuitsError, match="architecture"):
        plan_stages(pair_of(models, after=str(neox)), SETTINGS)
    with pytest.raises(RLCircuitsError, match="is no folder"):
        plan_stages(pair_of(models, after=str(tmp_path / "a" / "b" / "c")), SETTINGS)


def test_a_task_notes_what_it_did_itself_of_a_shared_stage(models: dict[str, str], tmp_path: Path) -> None:
    """Some batches are there, as from another task; the throughput is of the others alone."""
    small = replace(SETTINGS, batch_size=10, batch_tokens=60, greedy=False, noise_draws=0)
    pair, store = pair_of(models, control=None, reference=None), tmp_path / STORE
    by_work = {(stage.kind, stage.of): stage for stage in plan_stages(pair, small)}
    answers, scores = by_work["answers", "before"], by_work["scores", "before"]

    def do(stage: Stage) -> list[int]:
        before = len(read_throughput(store))
        run_stage(stage, tmp_path, lambda _: None, shared=True)
        return [each.tokens for each in read_throughput(store)[before:]]

    whole = do(answers)
    (file,) = (each for each in store.glob("*.jsonl") if each.name != FILE_NAME)
    header, *lines = file.read_bytes().splitlines(keepends=True)
    tokens = [len(json.loads(line)["answer_ids"]) for line in lines]
    assert whole == [sum(tokens)]
    assert do(answers) == []
    file.write_bytes(b"".join([header, *lines[:20]]))
    assert do(answers) == [sum(tokens[20:])]

    do(by_work["answers", "after"])
    (all_scored,) = do(scores)
    batches = sorted(store.glob("*/batch-*.safetensors"))
    assert len(batches) > 2
    found = []
    for batch in batches:
        batch.unlink()
        found += do(scores)
    assert sum(found) == all_scored
    assert len(found) == len(batches)
