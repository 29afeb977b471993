"""Tables for pandas, and what notebooks show of a comparison and its verdict."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from helpers.synthetic_comparisons import answers_of, made_up_comparison, random_scores

from rlcircuits import RLCircuitsError, judge, to_pandas
from rlcircuits.comparison.comparison import LABELS
from rlcircuits.report.measure_rows import measure_rows

HOSTILE = "<script>alert(1)</script>&<td>"


def test_comparisons_have_a_row_for_each_measure() -> None:
    pairs = [made_up_comparison("one"), made_up_comparison("two", "dpo")]
    table = to_pandas(pairs)
    wanted = pd.DataFrame([asdict(row) for pair in pairs for row in measure_rows(pair)])
    pd.testing.assert_frame_equal(table, wanted)
    pd.testing.assert_frame_equal(to_pandas(pairs[0]), wanted[wanted["pair"] == "one"], check_dtype=False)


def test_comparisons_by_question_have_the_stored_values() -> None:
    pair = made_up_comparison("one")
    table = to_pandas(pair, by_question=True)
    assert len(table) == pair.k * len(pair.effects)
    for metric, rows in table.groupby("metric"):
        effect = pair.effects[str(metric)]
        assert list(rows["question_id"]) == list(pair.question_ids)
        np.testing.assert_array_equal(rows["after"], effect.after_values)
        assert rows["before"].mean() == pytest.approx(effect.before)


def test_scores_are_those_of_their_own_method() -> None:
    scores = random_scores(3, seed=0)
    pd.testing.assert_frame_equal(to_pandas(scores), scores.to_pandas())
    pd.testing.assert_frame_equal(to_pandas(scores, by_question=True), scores.to_pandas(by_sequence=True))


def test_answers_have_a_row_each() -> None:
    answers = answers_of([True, False, True], lengths=[3, 4, 5])
    table = to_pandas(answers)
    assert list(table["answer_tokens"]) == [3, 4, 5]
    assert table["correct"].mean() == pytest.approx(answers.accuracy)
    assert list(to_pandas(replace(answers, items=()))) == list(table)


@pytest.mark.parametrize("data", [None, "text", [1], {"a": 1}, judge(made_up_comparison())])
def test_other_data_are_refused(data: object) -> None:
    with pytest.raises(RLCircuitsError, match="an EdgeScores or an Answers is wanted"):
        to_pandas(data)  # type: ignore[arg-type]


def test_a_wrong_flag_and_a_missing_pandas_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RLCircuitsError, match="by_question is 'yes'"):
        to_pandas(made_up_comparison(), by_question="yes")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(RLCircuitsError, match="to_pandas needs pandas"):
        to_pandas(made_up_comparison())


class Cells(HTMLParser):
    """The tags of a page, and the text of its table's cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] in ("td", "th"):
            self.cells[-1] += data


def test_a_notebook_shows_numbers_and_verdict_and_all_is_escaped() -> None:
    plain = made_up_comparison()
    hostile = replace(plain, name=HOSTILE, before=HOSTILE, algorithm=HOSTILE, questions=HOSTILE)
    assert Cells(plain._repr_html_()).tags == Cells(hostile._repr_html_()).tags
    cells = [cell.strip() for cell in Cells(plain._repr_html_()).cells]
    for metric in LABELS.values():
        assert metric in cells
    assert "+50.0 %" in cells  # accuracy, 0.667 → 1
    verdict = judge(plain)
    shown = Cells(verdict._repr_html_())
    assert "script" not in shown.tags
    assert set(verdict.all_findings) <= {cell.strip() for cell in shown.cells}
    assert verdict.words in verdict._repr_html_()


def test_a_notebook_shows_a_pair_that_was_not_measured() -> None:
    pair = made_up_comparison()
    nothing = float("nan")
    effects = {
        metric: replace(effect, before=nothing, after=nothing, interval=(nothing, nothing), win_share=nothing)
        for metric, effect in pair.effects.items()
    }
    shown = replace(pair, effects=effects, question_ids=())._repr_html_()
    assert "nan" not in shown
