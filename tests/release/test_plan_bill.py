"""Test what a plan says of several workers, on the stages of a pair of tiny checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.tiny_pairs import save_tiny_pair

from rlcircuits.cli.main import main
from rlcircuits.release.pair import make_pair
from rlcircuits.release.pairs_file import PairsFile
from rlcircuits.release.plan import Plan, make_plan
from rlcircuits.release.plan_bill import make_bill, plan_tasks
from rlcircuits.release.plan_bill_lines import show_bill
from rlcircuits.release.settings import make_settings
from rlcircuits.release.throughput import note_throughput


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    before, after = save_tiny_pair(tmp_path)
    pairs = [make_pair(name=name, before=str(before), after=str(after), algorithm="grpo") for name in ("one", "two")]
    settings = make_settings({"question_count": 50, "noise_draws": 2, "sampling": {"max_new_tokens": 6, "n": 2}})
    made = make_plan(PairsFile((pairs[0],)), settings)
    return replace(made, answers_per_second=100.0, scores_per_second=50.0)


def test_the_tasks_are_the_stages_of_a_run(plan: Plan) -> None:
    tasks = plan_tasks(plan)
    assert tasks is not None
    kinds = [task.key[0] for task in tasks]  # type: ignore[index]
    groups = [work for work in plan.left if work.part == "noise on a group"]
    assert len(groups) >= 2
    assert kinds == ["answers"] * 2 + ["scores"] * 2 + ["noise draw"] * 2 + ["noise on a group"] * len(groups)
    answers = {task.key for task in tasks if not task.waits_for}
    assert len(answers) == 2
    assert all(set(task.waits_for) == answers for task in tasks[2:])
    assert tasks[0].seconds == 50 * 2 * 6 / 100
    assert sum(task.seconds for task in tasks) == pytest.approx(plan.seconds, rel=1e-12)


def test_more_workers_take_no_more_hours_and_not_less_than_the_longest_chain(plan: Plan) -> None:
    bills = [make_bill(plan, workers) for workers in (1, 2, 4, 100)]
    assert all(bill is not None for bill in bills)
    assert len({bill.seconds for bill in bills}) == 1  # type: ignore[union-attr]
    walls = [bill.wall_seconds for bill in bills]  # type: ignore[union-attr]
    assert walls == sorted(walls, reverse=True)
    assert walls[0] == pytest.approx(plan.seconds)
    assert walls[-1] == bills[-1].longest_path  # type: ignore[union-attr]


def test_answers_that_pairs_share_are_one_task(plan: Plan) -> None:
    twice = replace(plan, pairs=(plan.pairs[0], replace(plan.pairs[0], name="two")))
    tasks = plan_tasks(twice)
    assert tasks is not None
    assert sum(task.key[0] == "answers" for task in tasks) == 2  # type: ignore[index]
    assert sum(task.key[0] == "scores" for task in tasks) == 4  # type: ignore[index]


def test_lines(plan: Plan) -> None:
    first, second = show_bill(plan, 3)
    assert first.startswith("On 3 workers: at most ")
    assert "worker-hours, done after" in first
    assert "for the noise control after's weights once more on the CPU" in second
    unknown = replace(plan, answers_per_second=None)
    assert show_bill(unknown, 3)[0].startswith("On 3 workers: unknown until the store of --output has a throughput")
    done = replace(plan, pairs=(replace(plan.pairs[0], measured=True),))
    assert show_bill(done, 1) == ["On 1 worker: nothing is left to do."]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = save_tiny_pair(tmp_path)
    file = tmp_path / "release.toml"
    file.write_text(f'[[pair]]\nname = "p"\nbefore = "{before}"\nafter = "{after}"\nalgorithm = "grpo"\n')
    for work in ("answers", "scores"):
        note_throughput(tmp_path / "out" / "store", work, 1000, 2.0)  # type: ignore[arg-type]
    assert main(["plan", str(file), "--output", str(tmp_path / "out"), "--workers", "4"]) == 0
    assert "On 4 workers: at most" in capsys.readouterr().out
    assert main(["plan", str(file), "--workers", "0"]) == 2
    assert "--workers is 0; a whole number from 1 to 100,000 is wanted" in capsys.readouterr().err
