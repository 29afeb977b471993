"""A plan counts as there already what the run would use, and tells now what would stop the run later."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_pairs import save_tiny_pair

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.types import Sampling
from rlcircuits.cli.main import main
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import STORE
from rlcircuits.comparison.storage import load_comparison, save_comparison
from rlcircuits.release.pair import Pair, make_pair
from rlcircuits.release.pairs_file import PairsFile
from rlcircuits.release.plan import Plan, make_plan
from rlcircuits.release.plan_cost_table import show_cost
from rlcircuits.release.plan_store import check_output, stored_answers
from rlcircuits.release.plan_work import GREEDY
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings

SETTINGS = Settings(
    question_count=30, alpha=0.5, balance=2.0, noise_draws=1, sampling=Sampling(max_new_tokens=6), batch_size=16,
    device="cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def all_right() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlcircuits.questions.arithmetic.grade", lambda answer, gold: len(answer) > 0)
        yield


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    base, tuned = map(str, save_tiny_pair(tmp_path_factory.mktemp("models")))
    return make_pair(name="one", before=base, after=tuned, algorithm="grpo", claimed_accuracy=0.9)


@pytest.fixture(scope="module")
def finished(all_right: None, pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output folder of a finished run, which tests must copy before they change it."""
    output = tmp_path_factory.mktemp("finished")
    run_pair(pair, SETTINGS, output=output)
    return output


@pytest.fixture
def output(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


def plan_of(pair: Pair, output: Path | None = None, **changes: Any) -> Plan:
    return make_plan(PairsFile((pair,)), replace(SETTINGS, **changes), output)


def damage(file: Path) -> None:
    """Change a value in the middle of a file of answers so that its line cannot be read."""
    lines = file.read_bytes().split(b"\n")
    lines[9] = lines[9].replace(b'"correct":true', b'"correct":7')
    file.write_bytes(b"\n".join(lines))


def answers_of_after(pair: Pair, output: Path) -> Path:
    (file,) = (each.path for each in stored_answers(output / STORE) if each.header.model == pair.after)
    return file


def test_a_finished_pair_is_measured_and_nothing_is_to_do(pair: Pair, output: Path) -> None:
    plan = plan_of(pair, output)
    assert (plan.pairs[0].measured, plan.answer_tokens, plan.scored_tokens, plan.problems) == (True, 0, 0, ())
    # Without its store too: the pair's folder is all that the run reads.
    shutil.rmtree(output / STORE)
    plan = plan_of(pair, output)
    assert (plan.pairs[0].measured, plan.answer_tokens, plan.scored_tokens) == (True, 0, 0)
    assert run_pair(pair, SETTINGS, output=output).name == "one"
    assert not (output / STORE).exists()


@pytest.mark.parametrize(
    "change",
    [
        {"k": 25}, {"k": 30, "question_count": 40}, {"alpha": 0.3}, {"balance": 1.9}, {"score_on": "after"},
        {"noise_draws": 2}, {"noise_answers": "before"}, {"noise_groups": False}, {"greedy": True},
        {"engine": "vllm"},
        {"sampling": Sampling(max_new_tokens=5)}, {"question_count": 29}, {"granularity": "head"},
    ],
    ids=str,
)  # fmt: skip
def test_with_another_setting_it_is_not_measured(change: dict[str, Any], pair: Pair, finished: Path) -> None:
    assert plan_of(pair, finished).pairs[0].measured
    assert not plan_of(pair, finished, **change).pairs[0].measured


@pytest.mark.parametrize(
    "change",
    [{"claimed_accuracy": 0.8}, {"claimed_accuracy": None}, {"margin": 0.05}, {"accuracy": "not-inferior"},
     {"algorithm": "sft"}, {"profile": "same-as"}, {"control": "org/sft"}, {"reference": "org/release"}],
    ids=str,
)  # fmt: skip
def test_with_another_claim_or_rule_it_is_not_measured(change: dict[str, Any], pair: Pair, finished: Path) -> None:
    assert not plan_of(pair.model_copy(update=change), finished).pairs[0].measured


def test_a_k_that_was_asked_for_is_measured(all_right: None, pair: Pair, tmp_path: Path) -> None:
    few = replace(SETTINGS, k=20, noise_draws=0)
    run_pair(pair, few, output=tmp_path)
    for k, measured in ((20, True), (21, False), (None, False)):
        assert make_plan(PairsFile((pair,)), replace(few, k=k), tmp_path).pairs[0].measured == measured
    # More than pass the protocol: all of them are compared, and the comparison says what was wanted.
    many = replace(few, k=500)
    assert "500 questions were wanted" in (run_pair(pair, many, output=tmp_path).note or "")
    for k, measured in ((500, True), (501, False), (None, False), (30, False)):
        assert make_plan(PairsFile((pair,)), replace(few, k=k), tmp_path).pairs[0].measured == measured


def test_a_pair_with_too_few_questions_is_measured_for_its_k_and_draws(
    all_right: None, pair: Pair, tmp_path: Path
) -> None:
    few = replace(SETTINGS, k=40, min_questions=31, noise_draws=2, stop_early=False)

    def is_measured(**changes: Any) -> bool:
        return make_plan(PairsFile((pair,)), replace(few, **changes), tmp_path).pairs[0].measured

    found = run_pair(pair, few, output=tmp_path)
    assert not found.is_measured
    assert is_measured()
    assert not is_measured(min_questions=20)
    for other in ({"k": None}, {"k": 41}, {"noise_draws": 1}):
        assert not is_measured(**other), other
    # A file of an earlier version does not say what was asked for.
    save_comparison(replace(found, requested=None), tmp_path / pair.name)
    assert is_measured(k=41)


def test_greedy_answers_that_are_there_already_are_counted(all_right: None, pair: Pair, tmp_path: Path) -> None:
    greedy = replace(SETTINGS, greedy=True, noise_draws=0)
    run_pair(pair, greedy, output=tmp_path)
    (tmp_path / pair.name / "comparison.json").unlink()

    def plan_with(settings: Settings) -> Plan:
        return make_plan(PairsFile((pair,)), settings, tmp_path)

    def there(plan: Plan) -> list[tuple[str, int]]:
        return [(work.part, work.stored) for work in plan.pairs[0].answering]

    sides = [("before", 30), ("after", 30)]
    assert there(plan_with(greedy)) == [*sides, (GREEDY, 30), (GREEDY, 30)]
    assert "greedy answers" not in "\n".join(show_cost(plan_with(greedy)))  # nothing is left of them
    # Neither sampled answers nor shorter ones count as greedy ones.
    for answers in stored_answers(tmp_path / STORE):
        if answers.header.sampling.temperature == 0 and answers.header.model == pair.after:
            answers.path.unlink()
    plan = plan_with(greedy)
    assert there(plan) == [*sides, (GREEDY, 30), (GREEDY, 0)]
    (row,) = (line for line in "\n".join(show_cost(plan)).splitlines() if line.startswith("greedy answers"))
    # Of the part that is left: one model's 30 answers of 6 tokens.
    assert row.split()[2:6] == ["1", "30", "0", "180"]
    longer = replace(greedy, sampling=replace(SETTINGS.sampling, max_new_tokens=7))
    assert there(plan_with(longer)) == [("before", 0), ("after", 0), (GREEDY, 0), (GREEDY, 0)]


def test_a_result_file_that_is_damaged_is_not_measured(pair: Pair, output: Path) -> None:
    answers = output / "one" / "after.answers.jsonl"
    answers.write_bytes(answers.read_bytes()[:-40])
    plan = plan_of(pair, output)
    assert not plan.pairs[0].measured
    assert (plan.answer_tokens, plan.problems) == (0, ())
    assert plan.scored_tokens == plan.pairs[0].scored_tokens


def test_a_damaged_answer_file_is_a_problem_as_in_the_run(pair: Pair, output: Path) -> None:
    file = answers_of_after(pair, output)
    damage(file)
    shutil.rmtree(output / "one")
    plan = plan_of(pair, output)
    assert [work.stored for work in plan.pairs[0].answering] == [30, 0, 30]
    (problem,) = plan.problems
    assert problem.startswith(f"one: {file}:10: field 'correct': must be true or false, not 7; ")
    assert problem.endswith("move the file away, and these answers are generated again")
    with pytest.raises(RLCircuitsError, match=r":10: field 'correct': must be true or false"):
        run_pair(pair, SETTINGS, output=output)
    file.unlink()
    assert plan_of(pair, output).problems == ()


def test_a_file_with_too_many_answers_is_a_problem(pair: Pair, output: Path) -> None:
    file = answers_of_after(pair, output)
    file.write_bytes(file.read_bytes() + file.read_bytes().splitlines(keepends=True)[-1])
    assert plan_of(pair, output).problems[0].startswith(f"one: {file}: holds 31 answers; its header promises 30;")


def test_what_is_no_file_of_answers_is_passed_over(pair: Pair, output: Path) -> None:
    (output / STORE / "folder.jsonl").mkdir()
    (output / STORE / "empty.jsonl").touch()
    (output / STORE / "other.jsonl").write_text("{}\n")
    assert len(stored_answers(output / STORE)) == 3
    assert plan_of(pair, output).pairs[0].answering[0].stored == 30


@pytest.mark.parametrize("below", ["", "below", "far/below"])
def test_an_output_that_is_a_file_is_told(
    below: str, pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out"
    file.touch()
    pairs = tmp_path / "pairs.toml"
    pairs.write_text(f'[[pair]]\nname = "x"\nbefore = "{pair.before}"\nafter = "{pair.after}"\nalgorithm = "sft"\n')
    capsys.readouterr()
    assert main(["plan", str(pairs), "--output", str(file / below)]) == 2
    shown = capsys.readouterr()
    assert shown.err == f"rlcircuits: output: {file} is a file; the folder of a run's results is wanted\n"
    assert shown.out == ""


def test_an_output_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    assert check_output(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert check_output(None) is None
    assert list(tmp_path.iterdir()) == []


def record(answers: Path, file: Path, change: Callable[[list[dict[str, Any]]], None] = lambda _lines: None) -> Path:
    """Write stored answers as a file of recorded ones, and change it."""
    lines = [
        {"id": item.question_id, "prompt_ids": item.prompt_ids, "answer_ids": item.answer_ids}
        for item in Answers.load(answers).items
    ]
    change(lines)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_recorded_answers_are_read_and_need_no_generation(pair: Pair, finished: Path, tmp_path: Path) -> None:
    files = {
        f"recorded_{side}": record(finished / "one" / f"{side}.answers.jsonl", tmp_path / f"{side}.jsonl")
        for side in ("before", "after")
    }
    plan = plan_of(pair.model_copy(update=files), noise_draws=0)
    known = plan.pairs[0].detectable.known
    assert (plan.pairs[0].answering, plan.answer_tokens, plan.problems) == ((), 0, ())
    assert known.rate.origin == "before's recorded answers"
    assert [known.discordant.origin, known.passing.origin] == ["both models' answers"] * 2
    assert plan.pairs[0].detectable.compared == load_comparison(finished / "one").k
    # The other model's answers are in the store.
    one = pair.model_copy(update={"recorded_before": files["recorded_before"]})
    plan = plan_of(one, finished, noise_draws=0)
    assert [(work.part, work.stored) for work in plan.pairs[0].answering] == [("after", 30)]
    assert not plan.pairs[0].measured


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[4].pop("answer_ids"), "wrong.jsonl:5: has none of the fields "),
        (lambda lines: lines.pop(), "wrong.jsonl: leaves out 1 of the 30 questions asked"),
        (lambda lines: lines.append(lines[0]), "wrong.jsonl:31: question "),
        (lambda lines: lines[2].update(prompt_ids=[10**6]), "wrong.jsonl:3: field 'prompt_ids' has token id 1000000"),
    ],
)
def test_a_wrong_file_of_recorded_answers_is_told_now(
    change: Callable[[list[dict[str, Any]]], None],
    words: str,
    pair: Pair,
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record(finished / "one" / "after.answers.jsonl", tmp_path / "wrong.jsonl", change)
    pairs = tmp_path / "pairs.toml"
    pairs.write_text(
        f"[settings]\nquestion_count = 30\nsampling.n = 1\nsampling.max_new_tokens = 6\n"
        f'[[pair]]\nname = "x"\nbefore = "{pair.before}"\nafter = "{pair.after}"\nalgorithm = "sft"\n'
        f'recorded_after = "wrong.jsonl"\n'
    )
    capsys.readouterr()
    assert main(["plan", str(pairs)]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("rlcircuits: x: ")
    assert words in shown.err
    assert "The smallest change" in shown.out


def test_what_would_stop_the_run_is_told_for_every_pair(pair: Pair) -> None:
    same = pair.model_copy(update={"name": "same", "after": pair.before})
    plan = make_plan(PairsFile((pair, same)), replace(SETTINGS, question_count=10))
    few = "10 questions are asked, and min_questions is 20, so that the pair cannot be compared; ask more"
    assert plan.problems[0].startswith(f"one: {few}")
    assert plan.problems[1].startswith("same: before and after are one checkpoint")
    assert plan.problems[2].startswith(f"same: {few}")
    unchanged = make_plan(PairsFile((same,)), replace(SETTINGS, measure_unchanged=True))
    assert unchanged.problems == ()
