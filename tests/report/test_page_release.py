"""A release of several pairs on the page: the order, the folds, all effects at once, and the pooled ones."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.page_parts import Element, read_page
from helpers.run_records import write_record
from helpers.synthetic_comparisons import made_up_comparison
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.evidence import judge_comparisons
from rlcircuits.comparison.pooling import pool_effect
from rlcircuits.comparison.verdict import judge
from rlcircuits.report.page import write
from rlcircuits.report.page.data import collect_pairs
from rlcircuits.report.page.numbers import percent, points
from rlcircuits.report.page.order import first_to_read, order_pairs
from rlcircuits.report.page.release import after_correction

HOLDS = made_up_comparison()
FAILS = made_up_comparison(rise=False)
OPEN = made_up_comparison(right_after=[True] * 40)
RANK = {"does not hold": 0, "inconclusive": 1, "holds": 2}


def release(kinds: str) -> list[Comparison]:
    known = {"h": HOLDS, "f": FAILS, "o": OPEN}
    return [replace(known[kind], name=f"{place}-{kind}") for place, kind in enumerate(kinds)]


def articles(page: Element) -> list[Element]:
    return page.all("article", class_="pair")


@given(st.text("hfo", min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_pairs_to_look_at_come_first_and_equals_keep_their_order(kinds: str) -> None:
    comparisons = release(kinds)
    pairs = order_pairs(collect_pairs(comparisons, (), ()))
    found = [pair.comparison.name for pair in pairs]
    assert sorted(found) == sorted(each.name for each in comparisons)
    fails = {each.pair.name: each.fails_release for each in judge_comparisons(comparisons).pairs}
    keys = [(RANK[pair.verdict.outcome], not fails[name], int(name.split("-")[0]))
            for pair, name in zip(pairs, found, strict=True)]  # fmt: skip
    assert keys == sorted(keys)
    anchors = [f"a{place}" for place in range(len(pairs))]
    unfolded = first_to_read(pairs, anchors)
    assert unfolded == (None if len(kinds) > 1 and set(kinds) == {"h"} else "a0")


@pytest.mark.parametrize(("kinds", "open_ones"), [("hfh", [0]), ("hh", []), ("ho", [0])])
def test_only_the_first_pair_to_look_at_is_unfolded(kinds: str, open_ones: list[int]) -> None:
    page = read_page(write.to_html(release(kinds)))
    folds = [each.all("details", class_="pair-fold") for each in articles(page)]
    assert [place for place, (fold,) in enumerate(folds) if "open" in fold.attributes] == open_ones
    assert page.all("button", id="fold")


def test_a_single_pair_has_no_fold_and_no_overview() -> None:
    page = read_page(write.to_html(release("h")))
    assert not page.all("details", class_="pair-fold")
    assert not page.all("div", class_="overview")


def test_all_effects_are_in_one_place() -> None:
    comparisons = release("fhh")
    page = read_page(write.to_html(comparisons))
    plots = page.all("div", class_="overview")
    assert len(plots) == 4
    for plot, measure in zip(plots, ("accuracy", "intensity", "complexity", "kurtosis"), strict=True):
        rows = plot.all("div", class_="overview-row")
        assert [row.all("a")[0].text for row in rows] == [each.name for each in comparisons]
        for row, comparison, article in zip(rows, comparisons, articles(page), strict=True):
            assert row.all("a")[0].attributes["href"] == f"#{article.attributes['id']}"
            accuracy = comparison.accuracy
            wanted = (points(accuracy.after - accuracy.before) if measure == "accuracy"
                      else percent(comparison.effects[measure].change))  # fmt: skip
            assert row.all("span", class_="overview-value")[0].text == wanted
            tone = {"holds": "good", "does not hold": "bad"}[judge(comparison).outcome]
            assert row.all("span", class_=f"track tone-{tone}")


def test_the_table_has_both_accuracies_and_the_points() -> None:
    comparison = HOLDS
    page = read_page(write.to_html([comparison, replace(comparison, name="two")]))
    accuracy = comparison.accuracy
    (row, _) = page.all("table", class_="sortable release")[0].all("tbody")[0].all("tr")
    cell = row.all("td", class_="num")[0]
    both = f"{accuracy.before:.3f} → {accuracy.after:.3f}"
    assert " ".join(cell.text.split()) == f"{points(accuracy.after - accuracy.before)} {both}"


@pytest.mark.parametrize("pairs", [2, 3])
def test_pooled_effects_stand_below_those_of_their_pairs(pairs: int, tmp_path: Path) -> None:
    comparisons = [replace(each, before=f"base-{place}") for place, each in enumerate(release("h" * pairs))]
    folders = [write_record(tmp_path / each.name, "rl") for each in comparisons]
    plots = read_page(write.to_html(comparisons, folders=folders)).all("div", class_="overview")
    assert not plots[0].all("div", class_="overview-row pooled")  # accuracy is not pooled
    for plot, metric in zip(plots[1:], ("intensity", "complexity", "kurtosis"), strict=True):
        (row,) = plot.all("div", class_="overview-row pooled")
        wanted = pool_effect(comparisons, metric, cluster_by="base" if pairs > 2 else "training")
        assert row.all("span", class_="overview-value")[0].text == percent(wanted.estimate)
        assert bool(row.all("i", class_="span")) == (wanted.interval is not None)


def test_a_pair_that_was_not_compared_is_left_out_of_the_metrics() -> None:
    nothing = {
        name: replace(effect, questions=0, before_values=(), after_values=(), before=math.nan, after=math.nan,
                      change=math.nan, win_share=math.nan, interval=(math.nan, math.nan))
        for name, effect in HOLDS.effects.items()
    }  # fmt: skip
    empty = replace(HOLDS, name="empty", question_ids=(), effects=nothing, controls=(), note="too few")
    plots = read_page(write.to_html([HOLDS, empty])).all("div", class_="overview")
    assert [len(plot.all("a")) for plot in plots] == [2, 1, 1, 1]


def test_the_page_counts_what_to_be_careful_about() -> None:
    noisy = [replace(HOLDS, name=f"bare-{place}", controls=()) for place in range(7)]
    changed = replace(HOLDS, name="changed", differences=("the chat template",))
    page = read_page(write.to_html([*noisy, changed, replace(HOLDS, name="clean")]))
    (section,) = [each for each in page.all("section") if each.attributes.get("aria-labelledby") == "cautions"]
    lines = [" ".join(each.text.split()) for each in section.all("li")]
    assert any("no noise control: 7 of 9 pairs" in line for line in lines)
    assert any(line.endswith("differ in more than their weights: 1 of 9 pairs (changed)") for line in lines)
    counts = [int(line.split(": ")[1].split(" of")[0]) for line in lines]
    assert counts == sorted(counts, reverse=True)
    by_pair = [article.all("li", class_="careful") for article in articles(page)]
    assert sum(counts) == sum(map(len, by_pair))


@pytest.mark.parametrize("kinds", ["fhh", "f" * 3, "hhh", "ho"])
def test_the_page_says_what_the_correction_leaves(kinds: str) -> None:
    comparisons = release(kinds)
    judged = judge_comparisons(comparisons)
    words = after_correction(collect_pairs(comparisons, (), ()))
    found = sum(each.pair.outcome == "does not hold" for each in judged.pairs)
    assert (words == "") == (found == len(judged.failing))
    assert words in " ".join(read_page(write.to_html(comparisons)).text.split())


def test_one_weak_failure_of_many_is_no_evidence() -> None:
    weak = made_up_comparison("weak", "dpo", right_after=[True] * 35 + [False] * 5)
    comparisons = [weak, *(replace(HOLDS, name=f"pair {place}") for place in range(9))]
    judged = judge_comparisons(comparisons)
    assert [each.pair.outcome for each in judged.pairs].count("does not hold") == 1
    assert not judged.failing
    words = "Among 10 pairs some fail by chance; corrected for that, the pair that does not hold is no evidence"
    assert words in " ".join(read_page(write.to_html(comparisons)).text.split())
