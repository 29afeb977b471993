"""Paired effects and accuracy; a comparison as JSON, as tables and as a plot."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from helpers.synthetic_comparisons import answers_of, made_up_comparison, noise, random_scores, rows_of, scores_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rlcircuits.answers.types import Sampling
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison import paired_statistics
from rlcircuits.comparison.comparison import CONTROL_METRICS, LABELS
from rlcircuits.comparison.effects import compare_accuracy, control_effects, paired_effect
from rlcircuits.comparison.from_scores import compare
from rlcircuits.comparison.paired_statistics import mean_intervals, signed_rank
from rlcircuits.comparison.pairing import pair
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.comparison.storage import find_comparisons, load_comparison, load_finished, save_comparison, to_json
from rlcircuits.graph import metrics
from rlcircuits.report.plots import plot_comparison
from rlcircuits.report.terminal import detail, summary_table, variants_table

ANSWERS = answers_of([True] * 30)
PAIRING = pair(ANSWERS, ANSWERS, k=30)


def test_every_metric_is_compared_question_by_question() -> None:
    before, after = random_scores(30, seed=0), random_scores(30, seed=1, scale=2.0)
    result = compare(before, after, PAIRING, ANSWERS, ANSWERS, name="pair", algorithm="grpo")
    assert list(result.effects) == list(LABELS)
    assert result.k == 30
    assert result.granularity == "sublayer"
    effect = result.effects["intensity"]
    first, second = metrics.activation_intensity(before), metrics.activation_intensity(after)
    assert effect.before_values == tuple(first)
    assert effect.after_values == tuple(second)
    assert effect.before == pytest.approx(first.mean())
    assert effect.change == pytest.approx(second.mean() / first.mean() - 1)
    assert effect.win_share == pytest.approx(np.mean(second > first))
    assert effect.p_up == pytest.approx(stats.wilcoxon(second, first, alternative="greater").pvalue)
    low, high = effect.interval
    assert low < (second - first).mean() < high
    # One range for both of a question, so that the larger scores spread over more bins than the smaller.
    shared = result.effects["complexity_shared"]
    assert shared.after_values[0] != shared.before_values[0]
    top = np.maximum(metrics.largest(before), metrics.largest(after))
    expected = metrics.information_complexity(before, "histogram-shared", value_range=(0, top))
    assert shared.before_values == tuple(expected)
    kinds = metrics.intensity_by_reader_kind(after)
    assert {kind: group.after for kind, group in result.by_reader_kind.items()} == pytest.approx(
        {kind: values.mean() for kind, values in kinds.items()}
    )


@given(st.lists(st.floats(-100, 100), min_size=20, max_size=60))
@settings(max_examples=25)
def test_swapping_before_and_after_mirrors_an_effect(values: list[float]) -> None:
    before = np.array(values)
    after = before[::-1] + 0.5
    one, other = paired_effect("m", before, after), paired_effect("m", after, before)
    assert one.p_up == pytest.approx(other.p_down)
    assert one.p_two_sided == pytest.approx(other.p_two_sided)
    assert one.win_share + other.win_share == pytest.approx(1)
    low, high = one.interval
    assert low <= high


def test_no_difference_anywhere() -> None:
    values = np.arange(20.0)
    effect = paired_effect("m", values, values)
    assert (effect.p_up, effect.p_down, effect.p_two_sided) == (1, 1, 1)
    assert effect.interval == (0, 0)
    assert effect.win_share == 0.5
    assert effect.change == 0


def test_the_same_difference_everywhere() -> None:
    effect = paired_effect("m", np.zeros(20), np.ones(20))
    assert effect.interval == (1, 1)
    assert effect.p_up < 1e-4
    assert math.isnan(effect.change)


def test_undefined_values_are_left_out_and_counted() -> None:
    before, after = np.arange(30.0), np.arange(30.0) + 1
    before[3] = after[5] = math.nan
    effect = paired_effect("m", before, after)
    assert effect.questions == 28
    assert effect.before == np.delete(np.arange(30.0), [3, 5]).mean()
    assert len(effect.before_values) == 30


def test_a_metric_defined_nowhere() -> None:
    effect = paired_effect("m", np.full(20, math.nan), np.zeros(20))
    assert effect.questions == 0
    assert effect.p_up == effect.p_two_sided == 1
    assert math.isnan(effect.before)


@pytest.mark.parametrize("questions", [25, 200])
def test_p_values_are_uniform_where_nothing_changed(questions: int) -> None:
    rng = np.random.default_rng(0)
    # Skewed values with the same law before and after: their differences are symmetric around 0.
    p = np.array([signed_rank(np.subtract(*rng.lognormal(size=(2, questions))), "greater") for _ in range(1000)])
    assert stats.kstest(p, "uniform").pvalue > 0.01
    for level in (0.01, 0.05):
        assert stats.binomtest(int((p < level).sum()), p.size, level).pvalue > 0.01


def test_intervals_are_scipys_whatever_else_is_asked_for() -> None:
    rng = np.random.default_rng(3)
    values = {"a": rng.exponential(size=60), "b": rng.normal(size=60), "short": rng.normal(size=45), "one": np.ones(9)}
    found = mean_intervals(values)
    for name in ("a", "b", "short"):
        wanted = stats.bootstrap(
            (values[name],),
            np.mean,
            n_resamples=paired_statistics.RESAMPLES,
            rng=np.random.default_rng(paired_statistics.BOOTSTRAP_SEED),
        ).confidence_interval
        assert found[name] == pytest.approx((wanted.low, wanted.high), rel=1e-9)
        assert mean_intervals({name: values[name]})[name] == pytest.approx(found[name], rel=1e-9)
    assert found["one"] == (1, 1)


def test_the_interval_covers_the_mean() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(40):
        difference = rng.standard_exponential(100) - 1
        low, high = paired_effect("m", np.zeros(100), difference).interval
        covered += low <= 0 <= high
    assert covered >= 34  # 38 expected; fewer than 34 of 40 has a chance of 1 % at 95 %


def test_a_control_is_compared_on_the_questions_it_answered_right() -> None:
    before, after, noised = (random_scores(30, seed) for seed in range(3))
    right = [place % 3 > 0 for place in range(30)]
    chosen = [place for place in range(30) if right[place]]
    control = noise(PAIRING, ANSWERS, answers_of(right), noised, draw=7)
    result = compare(before, after, PAIRING, ANSWERS, ANSWERS, name="p", algorithm="grpo", controls=[control])
    (drawn,) = result.controls
    assert (drawn.draw, drawn.k, drawn.accuracy) == (7, 20, pytest.approx(2 / 3))
    assert tuple(drawn.shifts) == CONTROL_METRICS
    for metric in CONTROL_METRICS:
        alone = compare(
            rows_of(before, chosen), rows_of(noised, chosen), pair(*[answers_of([True] * 20)] * 2, k=20),
            ANSWERS, ANSWERS, name="p", algorithm="grpo",
        ).effects[metric]  # fmt: skip
        found = drawn.shifts[metric]
        assert found.difference == pytest.approx(alone.after - alone.before)
        assert (found.change, found.win_share) == pytest.approx((alone.change, alone.win_share))
        assert (found.p_up, found.p_down) == (alone.p_up, alone.p_down)


def test_a_control_that_answered_too_little_is_said() -> None:
    scores = random_scores(30, 0)
    control = noise(PAIRING, ANSWERS, answers_of([True] * 4 + [False] * 26), None, draw=1)
    result = compare(scores, scores, PAIRING, ANSWERS, ANSWERS, name="p", algorithm="grpo", controls=[control])
    assert result.controls[0].shifts == {}
    assert result.controls[0].k == 4
    assert result.note == (
        "noise draw 1 answered only 4 of the compared questions right, too few to be scored, so that no effect "
        "can exceed it"
    )
    assert "noise draw 1: accuracy 0.133, 4 of the questions compared, too few to measure" in detail(result)


@given(st.lists(st.floats(-100, 100), min_size=20, max_size=40))
@settings(max_examples=25)
def test_a_shift_is_the_effect_of_the_control(values: list[float]) -> None:
    before = np.array(values)
    control = before[::-1] + 0.5
    found, effect = control_effects({"m": before}, {"m": control})["m"], paired_effect("m", before, control)
    assert found.difference == pytest.approx(effect.after - effect.before, abs=1e-9)
    assert found.win_share == effect.win_share
    assert found.interval == effect.interval
    assert (found.p_up, found.p_down) == (effect.p_up, effect.p_down)


def test_accuracy_by_hand() -> None:
    before = answers_of([True] * 12 + [False] * 8)
    after = answers_of([False] * 5 + [True] * 8 + [False] * 7)
    effect = compare_accuracy(before, after)
    assert (effect.before, effect.after, effect.asked) == (12 / 20, 8 / 20, 20)
    assert (effect.lost, effect.gained) == (5, 1)
    # McNemar: 5 or 6 heads of 6 tosses.
    assert effect.p_fall == pytest.approx((6 + 1) / 2**6)


def test_accuracy_that_did_not_change() -> None:
    assert compare_accuracy(ANSWERS, ANSWERS).p_fall == 1


def test_accuracy_needs_common_questions() -> None:
    with pytest.raises(RLCircuitsError, match="no question in common"):
        compare_accuracy(answers_of([]), ANSWERS)


def test_different_graphs_are_refused() -> None:
    with pytest.raises(RLCircuitsError) as error:
        compare(
            random_scores(30, 0), scores_of(np.ones((30, 99)), layers=3), PAIRING, ANSWERS, ANSWERS,
            name="pair", algorithm="grpo",
        )  # fmt: skip
    assert str(error.value) == (
        "before and after have different graphs (5 writers, 9 readers, 23 edges and 7 writers, 13 readers, 46 edges); "
        "a pair needs two checkpoints of one architecture and size, scored at one granularity"
    )


def test_scores_of_other_questions_are_refused() -> None:
    with pytest.raises(RLCircuitsError, match="the after scores are of 29 sequences; the pairing has 30 questions"):
        compare(random_scores(30, 0), random_scores(29, 0), PAIRING, ANSWERS, ANSWERS, name="p", algorithm="grpo")


def test_to_json_and_back(tmp_path: Path) -> None:
    zero = np.zeros((30, 5))
    for comparison in (
        made_up_comparison(),
        # Full of NaN, which JSON does not know.
        compare(scores_of(zero), scores_of(zero), PAIRING, ANSWERS, ANSWERS, name="zero", algorithm="sft"),
    ):
        path = save_comparison(comparison, tmp_path / comparison.name)
        loaded = load_comparison(tmp_path / comparison.name)
        assert to_json(loaded) == path.read_text(encoding="utf-8")
        assert str(asdict(loaded)) == str(asdict(comparison))  # NaN is not itself, but is written alike
    stored = json.loads((tmp_path / "made-up" / "comparison.json").read_text(encoding="utf-8"))
    assert stored["verdict"]["outcome"] == "holds"
    assert stored["verdict"]["holds"] is True
    assert stored["verdict"]["findings"]["accuracy"]["outcome"] == "holds"
    assert stored["verdict"]["findings"]["kurtosis"]["settled_by"] is None
    assert stored["verdict"]["findings"]["kurtosis"]["words"] == "down as expected"
    assert stored["verdict"]["reads_as_online_rl"] is True
    assert stored["comparison"]["dropped"]["right by both"] == []
    assert [control["draw"] for control in stored["comparison"]["controls"]] == [0, 1]
    assert find_comparisons(tmp_path) == tuple(tmp_path / n / "comparison.json" for n in ("made-up", "zero"))


def test_a_comparison_is_finished_only_for_its_key(tmp_path: Path) -> None:
    comparison = made_up_comparison()
    path = save_comparison(comparison, tmp_path, key="abc")
    assert load_finished(tmp_path, "abc") == load_comparison(tmp_path) == comparison
    assert load_finished(tmp_path, "abd") is None
    assert load_finished(tmp_path / "nowhere", "abc") is None
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    assert load_finished(tmp_path, "abc") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "it is no JSON"),
        ('{"format": "other", "version": 1, "comparison": {}}', "field 'format'"),
        ('{"format": "rlcircuits-comparison", "version": 3, "comparison": {}}', "field 'comparison.name'"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "comparison.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RLCircuitsError, match=message) as error:
        load_comparison(path)
    assert str(error.value).startswith(f"{path}: ")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RLCircuitsError, match=r"cannot be read as a comparison: No such file"):
        load_comparison(tmp_path / "nowhere.json")
    with pytest.raises(RLCircuitsError, match=r"holds no comparison\.json"):
        find_comparisons(tmp_path)


def test_one_table_for_all_pairs() -> None:
    worse = [True] * 20 + [False] * 20
    table = summary_table(
        [made_up_comparison("first"), made_up_comparison("second", "ppo", rise=False, right_after=worse)]
    )
    lines = table.splitlines()
    # The table of a pair that fails on every measure is wider, since its last row names them all.
    assert max(map(len, summary_table([made_up_comparison("first")]).splitlines())) <= 120
    assert sum("before → after" in line for line in lines) == 1
    first, second = table.split("second", 1)
    assert "up as expected" in first
    assert "  rose\n" in first
    assert "down, expected up" in second
    assert "1.000 → 0.500" in second
    assert "does not hold" in second
    assert "does not hold" not in first
    for line in ("loss", "int. / loss", "intensity", "complexity", "kurtosis"):
        assert sum(f"  {line}  " in row for row in first.splitlines()) == 1


def test_the_table_shows_the_control() -> None:
    # Two draws of the base's scores times 1 and 1.1: intensity +5 % on average.
    with_control, without = (
        summary_table([made_up_comparison(controls=controls)]).splitlines() for controls in ((1.0, 1.1), ())
    )
    (row,) = (line for line in with_control if " intensity " in line)
    assert "+5.0 %" in row
    (row,) = (line for line in without if " intensity " in line)
    assert "+5.0 %" not in row
    assert row.endswith("up as expected, no control")


def test_a_control_pair_is_said_not_to_be_read_as_online_rl() -> None:
    for rise, words in (
        (False, "holds: does not show online RL's pattern"),
        (True, "does not hold: shows online RL's pattern"),
    ):
        last = summary_table([made_up_comparison(algorithm="sft", rise=rise)]).splitlines()[-1]
        assert last.endswith(f"  {words}")


def test_how_a_verdict_depends_on_whose_answers_are_scored() -> None:
    comparison = made_up_comparison()
    gold = pair(ANSWERS, ANSWERS, k=30, score_on="gold", gold={f"q{i}": [1, 2] for i in range(30)})
    other = compare(*[random_scores(30, 0)] * 2, gold, ANSWERS, ANSWERS, name="x-on-gold", algorithm="grpo")
    lines = variants_table([comparison, other]).splitlines()
    assert lines[2].startswith("each model's own answers")
    assert lines[2].endswith("holds: shows the study's pattern")
    assert lines[3].startswith("the gold answers, by both models")
    assert lines[3].endswith("does not hold: intensity, complexity, kurtosis")


def test_detail_shows_funnel_and_explaining_metrics() -> None:
    text = detail(made_up_comparison())
    assert "asked 40 → answered by both 40" in text
    for metric in LABELS:
        shown = any(line.startswith(f"{LABELS[metric]}  ") for line in text.splitlines())
        assert shown == (metric not in (*GATE_METRICS, "loss", "intensity_over_loss"))
    assert "intensity into late layers" in text
    assert "noise draw 1: accuracy 1.000, 40 of the questions compared: loss +0.0 %, intensity +1.0 %" in text
    assert "no noise control was measured" in detail(made_up_comparison(controls=()))


def test_unfinished_answers_are_counted_shown_and_stored(tmp_path: Path) -> None:
    sampling = Sampling(max_new_tokens=512)
    before, after = (answers_of([True] * 40, sampling=sampling) for _ in range(2))
    cut = tuple(replace(item, finished=place >= 3) for place, item in enumerate(before.items))
    before = replace(before, items=cut)
    scores = random_scores(40, 0)
    result = compare(scores, scores, pair(before, after, k=40), before, after, name="x", algorithm="sft")
    line = "\n  unfinished: 7.5 % before, 0.0 % after (no end token; max_new_tokens = 512)\n"
    assert line in detail(result)
    file = save_comparison(result, tmp_path)
    stored = json.loads(file.read_text(encoding="utf-8"))
    assert stored["comparison"]["unfinished"] == {"before": 0.075, "after": 0.0}
    assert load_comparison(tmp_path) == result
    # A file from before they were counted.
    del stored["comparison"]["unfinished"]
    file.write_text(json.dumps(stored), encoding="utf-8")
    old = load_comparison(tmp_path)
    assert old == replace(result, unfinished=None)
    assert "unfinished" not in detail(old)


def test_plot_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = plot_comparison(made_up_comparison(), tmp_path / "plots" / "pair.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    for name in ("pair.table", "pair.jpg", "pair"):  # matplotlib could write the second
        with pytest.raises(RLCircuitsError, match=r"must end in one of \.png, \.pdf, \.svg"):
            plot_comparison(made_up_comparison(), tmp_path / name)


def test_detail_says_why_questions_were_dropped() -> None:
    before, after = answers_of([True] * 40), answers_of([True] * 33 + [False] * 7, [10] * 30 + [40] * 10)
    scores = random_scores(25, 0)
    result = compare(scores, scores, pair(before, after, k=25), before, after, name="x", algorithm="sft")
    assert result.dropped["right by both"] == tuple(f"q{i}" for i in range(33, 40))
    assert "  dropped, by stage: right by both 7, length near the mean 3\n" in detail(result)
    assert "  dropped, by stage: nothing\n" in detail(made_up_comparison())
