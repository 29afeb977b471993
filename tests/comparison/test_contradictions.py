"""How often two runs of one true effect contradict each other: one holds, and the other does not hold.

Both runs draw their questions afresh, which varies more than two samplings of the same questions.
"""

from __future__ import annotations

import numpy as np
import pytest
from helpers.made_up_effects import Z
from helpers.synthetic_comparisons import answers_of
from scipy import stats

from rlcircuits.answers.answer_file import Answers
from rlcircuits.comparison.accuracy_outcome import judge_accuracy
from rlcircuits.comparison.effects import Effect, compare_accuracy
from rlcircuits.comparison.metric_outcome import judge_direction, judge_metric
from rlcircuits.comparison.paired_statistics import signed_rank
from rlcircuits.comparison.profiles import AccuracyRule, MetricRule

pytestmark = pytest.mark.slow

PAIRS_OF_RUNS = 300
ALLOWED = 0.01
QUESTIONS = 80


def contradict(outcomes: list[str]) -> int:
    """Return how many of the runs 0 and 1, 2 and 3, … contradict each other."""
    both = zip(outcomes[::2], outcomes[1::2], strict=True)
    return sum({"holds", "does not hold"} == set(pair) for pair in both)


def assert_rare(contradictions: int, runs: int = PAIRS_OF_RUNS) -> None:
    assert stats.binomtest(contradictions, runs, ALLOWED, alternative="greater").pvalue > 0.001, contradictions


def one_run(rng: np.random.Generator, mean: float) -> Effect:
    """Return the effect of questions whose differences are heavy-tailed around `mean`, with a standard error near 1."""
    difference = mean + rng.standard_t(5, QUESTIONS) * np.sqrt(QUESTIONS * 3 / 5)
    error = difference.std(ddof=1) / np.sqrt(QUESTIONS)
    found = float(difference.mean())
    return Effect(
        metric="intensity",
        before=100.0,
        after=100.0 + found,
        change=found / 100,
        win_share=0.5,
        interval=(found - Z * error, found + Z * error),
        p_up=signed_rank(difference, "greater"),
        p_down=signed_rank(difference, "less"),
        p_two_sided=1.0,
        questions=QUESTIONS,
        before_values=(),
        after_values=(),
    )


def runs_of(mean: float, minimum: float) -> list[str]:
    rng = np.random.default_rng([int(10 * mean) + 100, int(minimum)])
    rule = MetricRule("up", minimum=minimum / 100)
    return [judge_direction(one_run(rng, mean), "up", rule).outcome for _ in range(2 * PAIRS_OF_RUNS)]


# All in standard errors of the mean difference, which are hundredths of before's mean.
@pytest.mark.parametrize("mean", [-2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0])
@pytest.mark.parametrize("minimum", [0.0, 1.0, 5.0])
def test_runs_of_one_effect_on_a_metric_rarely_contradict_each_other(mean: float, minimum: float) -> None:
    assert_rare(contradict(runs_of(mean, minimum)))


@pytest.mark.parametrize("mean", [1.0, 3.0, 5.0])
def test_runs_near_the_noise_rarely_contradict_each_other(mean: float) -> None:
    rng = np.random.default_rng(int(mean))
    noise = [2.5, 3.0, 3.5]
    outcomes = [
        judge_direction(one_run(rng, mean), "up", MetricRule("up"), noise).outcome for _ in range(2 * PAIRS_OF_RUNS)
    ]
    assert_rare(contradict(outcomes))


@pytest.mark.parametrize("mean", [0.0, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("bound", [3.0, 6.0])
def test_runs_that_may_be_the_same_rarely_contradict_each_other(mean: float, bound: float) -> None:
    rng = np.random.default_rng([int(mean), int(bound)])
    rule = MetricRule("same", bound=bound / 100)
    assert_rare(contradict([judge_metric(one_run(rng, mean), rule).outcome for _ in range(2 * PAIRS_OF_RUNS)]))


def answered(rng: np.random.Generator, questions: int, change: float, discordant: float) -> tuple[Answers, Answers]:
    """Return a run in which `discordant` of the questions change, and accuracy changes by `change` in the mean."""
    before = rng.random(questions) < 0.85
    moved = rng.choice([-1, 0, 1], questions, p=[(discordant - change) / 2, 1 - discordant, (discordant + change) / 2])
    before[moved < 0], before[moved > 0] = True, False
    after = np.where(moved == 0, before, moved > 0)
    return answers_of(before.tolist()), answers_of(after.tolist())


@pytest.mark.parametrize("change", [-0.04, -0.02, 0.0, 0.01, 0.03])
@pytest.mark.parametrize(
    "rule",
    [
        AccuracyRule("rose", minimum=0.01, level=0.01),
        AccuracyRule("not-inferior", margin=0.02),
        AccuracyRule("equivalent", margin=0.04),
    ],
    ids=lambda rule: rule.rule,
)
def test_runs_of_one_accuracy_rarely_contradict_each_other(change: float, rule: AccuracyRule) -> None:
    rng = np.random.default_rng(int(1000 * change) + 100)
    runs = 100
    effects = [compare_accuracy(*answered(rng, 400, change, 0.08)) for _ in range(2 * runs)]
    outcomes = [judge_accuracy(effect, rule).outcome for effect in effects]
    assert_rare(contradict(outcomes), runs)
