"""A release on Ray: the results of a run in one process, bit by bit, whatever is lost on the way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.output_files import result_bytes
from helpers.paths import ROOT
from helpers.ray_pairs import PAIRS, SEED, pair_of

from rlcircuits.answers.types import Sampling
from rlcircuits.cli.main import main
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.failures import StageFailed
from rlcircuits.common.files import STORE, Notify
from rlcircuits.release.pair import Pair
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings
from rlcircuits.release.stages import Stage, plan_stages
from rlcircuits.runners import ray_runner
from rlcircuits.runners.ray_runner import RayRun

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

SETTINGS = Settings(
    question_count=80, min_questions=5, noise_draws=1, sampling=Sampling(n=2), batch_size=40, device="cpu"
)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files that a run in this process writes."""
    output = tmp_path_factory.mktemp("alone")
    for pair in PAIRS:
        run_pair(pair, SETTINGS, output=output)
    return result_bytes(output)


def finish_all(
    output: Path, pairs: tuple[Pair, ...] = PAIRS, settings: Settings = SETTINGS, notify: Notify = lambda _: None
) -> dict[str, str]:
    """Run pairs on Ray, and return why some failed, by their names."""
    output.mkdir(exist_ok=True)
    failed = {}
    with RayRun(pairs, settings, output, notify=notify) as run:
        for pair in pairs:
            try:
                run.finish(pair)
            except StageFailed as error:
                failed[pair.name] = str(error)
    return failed


def end_when_storing(stage: Stage, process: Any, shared: bool, *waited: Any) -> Any:
    """Do a stage as any other, but end its worker as it stores a result: of the stages and as often as the test says.

    A worker is not killed from outside, since on a busy machine the test may not see one at work at all.
    """
    titles_end, times = os.environ["RLCIRCUITS_TEST_KILLS"].rsplit(" ", 1)
    title = ray.get_runtime_context().get_task_name() or ""

    def end(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "os.rename" or STORE not in Path(os.fsdecode(arguments[1])).parts:
            return
        if ray.get_runtime_context().get_task_name() != title:  # the hook stays when the stage ends
            return
        for number in range(int(times)):
            try:
                (process.output / f"killed-{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)

    if title.endswith(titles_end):
        sys.addaudithook(end)
    from rlcircuits.runners.ray_runner import _do

    return _do(stage, process, shared, *waited)


def finish_with_kills(
    output: Path, titles_end: str, times: int, monkeypatch: pytest.MonkeyPatch, **how: Any
) -> dict[str, str]:
    """Run pairs on Ray as `finish_all` does, with workers killed in stages whose titles end so, this many times."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setenv("RLCIRCUITS_TEST_KILLS", f"{titles_end} {times}")
    monkeypatch.setattr(ray_runner, "_do", end_when_storing)
    failed = finish_all(output, **how)
    marks = list(output.glob("killed-*"))
    assert len(marks) == times
    for mark in marks:
        mark.unlink()
    return failed


def test_the_results_are_those_of_one_process(tmp_path: Path, alone: dict[str, bytes]) -> None:
    assert finish_all(tmp_path) == {}
    assert result_bytes(tmp_path) == alone
    assert "default_worker" not in (tmp_path / "grpo" / "run.json").read_text()


def test_workers_that_are_killed_change_nothing(
    tmp_path: Path, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stage is tried again, and goes on from what the store has."""
    assert finish_with_kills(tmp_path, "", ray_runner.RETRIES, monkeypatch) == {}
    assert result_bytes(tmp_path, after_kills=True) == alone


def test_a_driver_that_is_killed_is_followed_by_another(tmp_path: Path, alone: dict[str, bytes]) -> None:
    code = (
        "import torch; torch.set_num_threads(1); import sys; sys.path.insert(0, 'tests/runners'); "
        f"from pathlib import Path; import test_ray_runner as t; t.finish_all(Path({str(tmp_path)!r}))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["tests", os.environ.get("PYTHONPATH", "")])}
    driver = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment)
    try:
        deadline = time.monotonic() + 240
        while not any(path.is_dir() for path in (tmp_path / STORE).glob("*")):  # scores are being made
            assert driver.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, "the run did not begin"
            time.sleep(0.01)
    finally:
        driver.kill()
    assert driver.wait() == -signal.SIGKILL
    assert finish_all(tmp_path) == {}
    assert result_bytes(tmp_path, after_kills=True) == alone


def die_of_poison(stage: Stage, process: Any, shared: bool, *waited: Any) -> Any:
    """Do a stage as any other, but end its worker if its pair is poisoned, as running out of memory does."""
    if stage.pair.name == "poisoned":
        os.kill(os.getpid(), signal.SIGKILL)
    from rlcircuits.runners.ray_runner import _do

    return _do(stage, process, shared, *waited)


def test_a_poisoned_pair_fails_alone(tmp_path: Path, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(ray_runner, "_do", die_of_poison)
    # Of other questions, so that it shares no stage with the pair that lives.
    poisoned = pair_of("ppo", name="poisoned", questions={"name": "arithmetic", "count": 60})
    nowhere = pair_of("ppo", name="nowhere", before=str(tmp_path / "no" / "such" / "folder"))
    failed = finish_all(tmp_path / "out", (poisoned, nowhere, PAIRS[0]))
    assert list(failed) == ["poisoned", "nowhere"]
    assert failed["poisoned"] == (
        "poisoned: answers of before: its worker was lost 4 times, as when memory runs out (WorkerCrashedError); what "
        "was computed is in the store"
    )
    assert "is no folder" in failed["nowhere"]
    assert not any("\n" in message for message in failed.values())
    found = {
        name: content
        for name, content in result_bytes(tmp_path / "out", after_kills=True).items()
        if name.startswith("grpo/")
    }
    assert found == {name: content for name, content in alone.items() if name.startswith("grpo/")}


def test_one_models_work_is_shared_by_several_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines and one pair, whose stages have many batches; a worker that holds some of them is killed."""
    many = replace(SETTINGS, batch_size=5, batch_tokens=200)
    run_pair(PAIRS[0], many, output=tmp_path / "alone")
    monkeypatch.setattr(ray_runner, "TASKS_PER_SLOT", 100)  # every stage is shared
    assert finish_with_kills(tmp_path / "ray", "of 2)", 1, monkeypatch, pairs=PAIRS[:1], settings=many) == {}
    assert result_bytes(tmp_path / "ray", after_kills=True) == result_bytes(tmp_path / "alone")


def fail_as_one_of_two(stage: Stage, process: Any, shared: bool, *waited: Any) -> Any:
    """Do a stage as any other, but lose or fail the first of two tasks that share it, once and for all tries."""
    how = os.environ["RLCIRCUITS_TEST_FAILURE"]
    mark = process.output / f"first-of-{stage.key[:12]}"
    if shared:
        title = ray.get_runtime_context().get_task_name()
        if title and title.endswith("(1 of 2)"):
            mark.touch()
            if how == "lost":
                os.kill(os.getpid(), signal.SIGKILL)
            return ray_runner._Ended(stage.key, ray_runner.Failure("a fault of one machine"))
    from rlcircuits.runners.ray_runner import _do

    return _do(stage, process, shared, *waited)


@pytest.mark.parametrize("how", ["lost", "failed"])
def test_a_stage_is_done_if_one_of_its_tasks_has_seen_all_its_results(
    how: str, tmp_path: Path, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setenv("RLCIRCUITS_TEST_FAILURE", how)
    monkeypatch.setattr(ray_runner, "_do", fail_as_one_of_two)
    monkeypatch.setattr(ray_runner, "_parts", lambda stage, *_: 1 if stage.kind == "pair" else 2)
    lines: list[str] = []
    with RayRun(PAIRS[:1], SETTINGS, tmp_path, notify=lines.append) as run:
        assert run.finish(PAIRS[0])
        assert not run.finish(pair_of("grpo", name="another"))
    assert list(tmp_path.glob("first-of-*")), "tasks failed"
    done = [line for line in lines if "done in" in line]
    assert len(done) == len(plan_stages(PAIRS[0], SETTINGS))
    found = result_bytes(tmp_path, after_kills=True)
    wanted = {name: content for name, content in alone.items() if name.startswith("grpo/")}
    assert {name: content for name, content in found.items() if name.startswith("grpo/")} == wanted


def test_a_pair_as_one_task(tmp_path: Path, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside parted pairs, with a control that has stages too, and killed workers, it has the same results."""
    monkeypatch.setattr(ray_runner, "PAIRS_PER_SLOT", 0)  # so that of three pairs the third is, on two cores
    pair = pair_of("dpo", control=str(SEED / "sft-more"), reference=str(SEED / "sft"))
    run_pair(pair, SETTINGS, output=tmp_path / "alone")
    lines: list[str] = []
    how = {"pairs": (*PAIRS, pair), "notify": lines.append}
    assert finish_with_kills(tmp_path / "ray", "the whole pair", ray_runner.RETRIES, monkeypatch, **how) == {}
    found, wanted = result_bytes(tmp_path / "ray", after_kills=True), result_bytes(tmp_path / "alone")
    assert found == {**alone, **wanted}
    assert [line.split(": done")[0] for line in lines if line.startswith("dpo")] == ["dpo: the whole pair"]


@pytest.mark.parametrize(
    ("pairs", "parted"), [(4, "0 1 2 3"), (5, "0 1 2 3 4"), (7, "0 1 3 4 5 6"), (9, "0 1 5 6 7 8")]
)
def test_the_first_and_last_pairs_are_parted_and_the_first_are_submitted_at_once(
    pairs: int, parted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two slots."""
    done: list[str] = []
    stages = plan_stages(PAIRS[0], SETTINGS)

    def plan(_: RayRun, pair: Pair, *__: Any) -> tuple[Stage, ...]:
        done.append(f"plan {pair.name}")
        return tuple(replace(stage, pair=pair, key=f"{stage.key} {pair.name}", waits_for=()) for stage in stages)

    def submit(_: RayRun, submitted: tuple[Stage, ...], *__: Any) -> None:
        how = "whole" if submitted[-1].kind == "whole pair" else "parted"
        done.append(f"{how} {submitted[-1].pair.name}")

    monkeypatch.setattr(RayRun, "_plan", plan)
    monkeypatch.setattr(RayRun, "_submit", submit)
    run = object.__new__(RayRun)
    run._mirror = None
    run._submit_pairs([pair_of("grpo", name=str(number)) for number in range(pairs)], SETTINGS, slots=2)
    assert [each.split()[1] for each in done if each.startswith("parted")] == parted.split()
    assert done[:4] == ["plan 0", "parted 0", "plan 1", "parted 1"]
    assert len([each for each in done if not each.startswith("plan")]) == pairs


def test_how_many_tasks_share_a_stage() -> None:
    stage = replace(plan_stages(PAIRS[0], SETTINGS)[0], batches=100)
    assert ray_runner._parts(stage, slots=2, at_once=8) == 1
    assert ray_runner._parts(stage, slots=2, at_once=2) == 2
    assert ray_runner._parts(stage, slots=64, at_once=10) == 13
    assert ray_runner._parts(stage, slots=64, at_once=2) == 25
    assert ray_runner._parts(replace(stage, batches=7), slots=64, at_once=2) == 1


def test_gpus_that_cores_leave_idle() -> None:
    machine = {"CPU": 64, "GPU": 8}
    assert ray_runner._idle_gpus([machine, {"CPU": 4}], threads=64, gpus=1) == 7
    assert ray_runner._idle_gpus([machine, machine], threads=32, gpus=2) == 8
    assert ray_runner._idle_gpus([machine], threads=8, gpus=1) == 0
    assert ray_runner._idle_gpus([machine], threads=64, gpus=0) == 0


def test_too_many_threads_for_any_machine(tmp_path: Path) -> None:
    torch.set_num_threads(1000)
    try:
        with pytest.raises(RLCircuitsError, match="a stage needs 1000 cores, as many as torch has threads here"):
            finish_all(tmp_path)
    finally:
        torch.set_num_threads(1)


def test_no_machine_has_both_the_cores_and_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machines = [{"Alive": True, "Resources": each} for each in ({"CPU": 2}, {"CPU": 1, "GPU": 1})]
    there = SimpleNamespace(nodes=lambda: machines, remote=lambda **_: lambda _: None, shutdown=lambda: None)
    monkeypatch.setattr(ray_runner, "connect", lambda _: there)
    torch.set_num_threads(2)
    try:
        with pytest.raises(RLCircuitsError, match=r"no machine has 2 cores, .* and also 1 GPUs, as a stage needs"):
            RayRun(PAIRS, SETTINGS, tmp_path, gpus=1, notify=print)
    finally:
        torch.set_num_threads(1)


def test_there_is_no_cluster(tmp_path: Path) -> None:
    with pytest.raises(RLCircuitsError, match=r"Ray: no cluster at '127\.0\.0\.1:1'"):
        RayRun(PAIRS, SETTINGS, tmp_path, address="127.0.0.1:1", notify=lambda _: None)


def test_ray_that_does_not_start_in_time_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(**_: Any) -> None:
        raise Exception("The current node timed out during startup.")  # as Ray raises it, of no narrower class

    monkeypatch.setattr(ray, "init", late)
    with pytest.raises(RLCircuitsError, match=r"it did not start on this machine: .* timed out .* leave --ray out"):
        RayRun(PAIRS, SETTINGS, tmp_path, notify=print)


def test_a_training_run_is_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step, after in ((10, "grpo"), (20, "ppo")):
        shutil.copytree(SEED / after, tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-30").mkdir()  # not written yet
    questions = ["--question-count", "40", "--min-questions", "5", "--noise-draws", "1", "--device", "cpu"]
    arguments = ["track", str(tmp_path), "--base", str(SEED / "sft"), "--algorithm", "grpo", "--no-signs", *questions]
    printed = []
    for name, more in (("alone", []), ("ray", ["--ray", "local"])):
        assert main([*arguments, "--output", str(tmp_path / "out" / name), *more]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert "20" in printed[0]
    assert result_bytes(tmp_path / "out" / "ray") == result_bytes(tmp_path / "out" / "alone")


def test_from_the_command_line(tmp_path: Path, alone: dict[str, bytes], capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "release.toml"
    rows = [
        f'[[pair]]\nname = "{p.name}"\nbefore = "{p.before}"\nafter = "{p.after}"\nalgorithm = "grpo"\n' for p in PAIRS
    ]
    table = '[settings]\nquestion_count = 80\nmin_questions = 5\nnoise_draws = 1\nbatch_size = 40\ndevice = "cpu"\n'
    file.write_text(f"{table}[settings.sampling]\nn = 2\n\n{''.join(rows)}")
    assert main(["compare", "--pairs", str(file), "--output", str(tmp_path / "out"), "--ray", "local"]) in (0, 1, 3)
    said = capsys.readouterr().err
    assert "(21 of 21 stages)" in said
    assert "measured before" not in said
    assert result_bytes(tmp_path / "out") == alone
