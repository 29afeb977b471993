"""What a plan says a run costs: answers and scores for n, each noise draw, each group and the reference."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.planned_pairs import planned
from helpers.tiny_pairs import save_tiny_pair

from rlcircuits.checkpoints.compare_weights import compare_weights
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.release.pair import make_pair
from rlcircuits.release.pairs_file import PairsFile
from rlcircuits.release.plan import Plan, make_plan
from rlcircuits.release.plan_cost_table import show_cost, show_duration
from rlcircuits.release.plan_work import Cost, ModelWork, pair_work
from rlcircuits.release.settings import make_settings

GROUPS: Any = ("norms", "attention", "MLP")


def work_of(prompts: int = 40, **fields: Any) -> list[tuple[str, int, int]]:
    """Return each model's part, answers and scored answers."""
    found = pair_work(planned(asked=40, **fields), [10] * prompts, GROUPS)
    return [(work.part, work.answers, work.scored) for work in found]


def test_every_model_is_counted_with_its_answers_and_scores() -> None:
    assert work_of(n=4, reference="org/release", settings={"noise_draws": 2}) == [
        ("before", 160, 160),
        ("after", 160, 160),
        ("reference", 160, 0),
        *[("noise draw", 160, 160)] * 2,
        *[("noise on a group", 0, 160)] * 3,
    ]
    # The control is a pair with before, which is scored once more; all questions are compared.
    supervised = work_of(n=2, control="org/sft", settings={"noise_draws": 0, "k": 20})
    assert supervised == [("before", 80, 40), ("after", 80, 40), ("supervised control", 80, 160)]
    greedily = work_of(n=4, settings={"noise_draws": 0, "greedy": True})
    assert greedily == [("before", 160, 160), ("after", 160, 160), *[("greedy answers", 40, 0)] * 2]
    on_before = work_of(n=4, settings={"noise_draws": 2, "noise_answers": "before"})
    assert on_before[2:4] == [("noise draw", 0, 160)] * 2
    alone = work_of(settings={"noise_draws": 1, "noise_groups": False, "k": 20})
    assert alone == [("before", 40, 20), ("after", 40, 20), ("noise draw", 40, 20)]
    # Groups explain a control, and there is none.
    assert [part for part, *_ in work_of(settings={"noise_draws": 0})] == ["before", "after"]
    assert work_of(n=4, settings={"noise_draws": 0, "score_on": "gold"})[0] == ("before", 160, 40)
    assert work_of(recorded_after="x.jsonl", settings={"noise_draws": 0}) == [("before", 40, 40), ("after", 0, 40)]


def test_tokens_are_those_of_the_longest_answers() -> None:
    before, *_ = pair_work(planned(asked=40, n=2, settings={"alpha": 0.5}), [10] * 40, GROUPS)
    # The first 3 tokens of an answer are scored, and the last of these is never read.
    assert (before.prompt_tokens, before.answer_tokens, before.scored_tokens) == (800, 480, 80 * 12)
    assert (replace(before, stored=20).tokens_left, replace(before, stored=80).tokens_left) == (360, 0)
    unknown, *_ = pair_work(planned(asked=40), [], GROUPS)
    assert (unknown.prompt_tokens, unknown.scored_tokens) == (None, None)
    assert Cost.of([before, unknown]).scored_tokens is None


def test_shared_answers_count_once_and_scores_each_time() -> None:
    mine = pair_work(planned(asked=40, settings={"noise_draws": 1}), [10] * 40, GROUPS)
    other = pair_work(planned(asked=40, settings={"noise_draws": 1}, after="elsewhere/org/tuned"), [10] * 40, GROUPS)
    both = Cost.of([*mine, *other])
    # The two noise draws have one name, and are of two updates.
    assert mine[2].model == other[2].model
    assert (both.answers, both.scored) == (5 * 40, 2 * Cost.of(mine).scored)
    again = pair_work(planned(asked=30, settings={"noise_draws": 1}), [10] * 30, GROUPS)
    assert Cost.of([*mine, *again]).answers == 3 * 40 + 3 * 30


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    base, tuned = save_tiny_pair(tmp_path_factory.mktemp("models"))
    return str(base), str(tuned)


def plan_with(models: tuple[str, str], pair: dict[str, Any] | None = None, **settings: Any) -> Plan:
    made = make_pair(name="x", before=models[0], after=models[1], algorithm="grpo", **(pair or {}))
    table = {"question_count": 40, "noise_draws": 2, "sampling": {"max_new_tokens": 8, "n": 4}, **settings}
    return make_plan(PairsFile((made,)), make_settings(table))


def test_the_table_says_what_each_part_costs_and_what_could_be_saved(models: tuple[str, str]) -> None:
    plan = plan_with(models, {"reference": models[0]})
    rows = {line.split("  ")[0]: line.split()[-4:] for line in show_cost(plan)[2].splitlines()}
    # The reference is before itself, whose answers count once: five models' answers in all, by four models.
    assert rows["reference"] == ["25", "%,", "0", "%"]
    assert rows["noise draws"] == ["50", "%,", "25", "%"]
    assert rows["noise on groups"] == ["0", "%,", "50", "%"]
    text = "\n".join(show_cost(plan))
    assert "Each model gives 4 answers to each question. n = 1 would need 1/4 of the sampled answers and of the" in text
    assert "greedy" not in text
    assert "Each noise draw takes 160 new answers and the scoring of 160 answers at most: 25 % of the answer" in text
    assert "Noise on each group of tensors takes the scoring of 160 answers at most: 12 % of the scored" in text
    assert 'noise_answers = "before" would save 320 answers of the noise draws: 50 % of the answer tokens.' in text
    timed = "\n".join(show_cost(replace(plan, answers_per_second=10.0, scores_per_second=100.0)))
    assert "time ≤" in timed
    assert 'noise_answers = "before" would save 320 answers of the noise draws: 5 min.' in timed
    saved = plan_with(models, noise_answers="before", sampling={"max_new_tokens": 8, "temperature": 0})
    text = "\n".join(show_cost(saved))
    assert saved.answer_tokens == 2 * 40 * 8
    assert "the noise draws generate no answers" in text
    assert "would" not in text


def test_what_fewer_answers_would_need_leaves_out_greedy_answers(models: tuple[str, str]) -> None:
    def plan_of(n: int, greedy: bool) -> Plan:
        return plan_with(models, greedy=greedy, sampling={"max_new_tokens": 8, "n": n})

    note = "n = 1 would need 1/4 of the sampled answers and of the scores (greedy answers do not depend on n)."
    assert note in "\n".join(show_cost(plan_of(4, greedy=True)))
    four, one = plan_of(4, greedy=True), plan_of(1, greedy=True)
    greedy = four.answer_tokens - plan_of(4, greedy=False).answer_tokens
    assert greedy == 2 * 40 * 8
    assert 4 * (one.answer_tokens - greedy) == four.answer_tokens - greedy
    assert 4 * (one.scored_tokens or 0) == four.scored_tokens


@pytest.mark.parametrize("architecture", ["llama-gqa", "gpt-neox"])
def test_the_models_own_groups_are_counted(architecture: str, tmp_path: Path) -> None:
    base, tuned = save_tiny_pair(tmp_path, architecture=architecture)
    tied = json.loads((base / "config.json").read_text())["tie_word_embeddings"]
    work = plan_with((str(base), str(tuned)), noise_draws=1).pairs[0].work
    # What the run measures: the groups that the training changed, which here is all.
    changed = compare_weights(CheckpointSource(str(base)), CheckpointSource(str(tuned))).by_group()
    assert [each.model.split(" on ")[1].split(" of ")[0] for each in work[3:]] == list(changed)
    assert ("unembedding" in changed) == (not tied)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.0, "0 s"), (0.2, "1 s"), (90, "90 s"), (91, "2 min"), (7141, "2.0 h"), (9000, "2.5 h")]
)
def test_durations(seconds: float, words: str) -> None:
    assert show_duration(seconds) == words


@pytest.mark.parametrize("key", ["reference", "control"])
def test_another_checkpoint_that_cannot_be_had_is_a_problem(key: str, models: tuple[str, str], tmp_path: Path) -> None:
    plan = plan_with(models, {key: str(tmp_path / "none")})
    assert [model.available for model in plan.models] == [True, True, False]


def test_parts_without_work_are_no_rows(models: tuple[str, str]) -> None:
    rows = show_cost(plan_with(models, noise_draws=0))[2].splitlines()
    assert [row.split()[0] for row in rows[2:]] == ["before", "after", "all"]
    none = replace(plan_with(models, noise_draws=0), pairs=())
    assert show_cost(none) == ["Nothing is left to do: every pair is measured."]


def test_work_has_what_a_cost_adds_up() -> None:
    one = ModelWork("before", "m", ("m",), "transformers", 10, 100, 50, 10, 200, stored=4)
    assert Cost.of([one]) == Cost(1, 10, 4, 30, 10, 200)
