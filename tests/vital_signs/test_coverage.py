"""coverage@k against enumeration, its identity with pass@k, and what leaves it as it is."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from helpers.answer_makers import make_answers
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits.answers.answer_file import Answers
from rlcircuits.vital_signs.boundary import pass_at_k
from rlcircuits.vital_signs.counts import count_right
from rlcircuits.vital_signs.coverage import coverage_at_k, coverage_sign, right_paths
from rlcircuits.vital_signs.formats import by_patterns

PATHS = ("a", "b", "c", "wrong")
CLASSIFY = by_patterns({path: path for path in PATHS})


def answers_of(written: list[list[str]]) -> Answers:
    """Return answers that are right unless their text is ``wrong``."""
    names = [f"q{place}" for place in range(len(written))]
    grades = {name: [text != "wrong" for text in texts] for name, texts in zip(names, written, strict=True)}
    return make_answers(grades, texts=dict(zip(names, written, strict=True)))


@st.composite
def texts(draw: st.DrawFn, questions: int | None = None, n: int | None = None) -> list[list[str]]:
    n = n or draw(st.integers(1, 7))
    size = questions or draw(st.integers(1, 4))
    return [draw(st.lists(st.sampled_from(PATHS), min_size=n, max_size=n)) for _ in range(size)]


def curve(written: list[list[str]]) -> np.ndarray:
    answers = answers_of(written)
    paths = right_paths(answers, {}, CLASSIFY)
    return np.stack([coverage_at_k(paths, k) for k in range(1, len(written[0]) + 1)], axis=1)


@given(texts())
def test_it_is_the_mean_number_of_right_paths_over_all_subsets(written: list[list[str]]) -> None:
    found = curve(written)
    for row, answers in enumerate(written):
        for k in range(1, len(answers) + 1):
            distinct = [len(set(subset) - {"wrong"}) for subset in combinations(answers, k)]
            assert found[row, k - 1] == pytest.approx(np.mean(distinct))


@given(texts())
def test_with_one_path_it_is_pass_at_k(written: list[list[str]]) -> None:
    one = [["wrong" if text == "wrong" else "a" for text in answers] for answers in written]
    counts = count_right(answers_of(one))
    for place, values in enumerate(curve(one).T):
        np.testing.assert_allclose(values, pass_at_k(counts, place + 1), atol=1e-12)
    assert (curve(written) >= curve(one) - 1e-12).all()


@given(texts(), st.permutations(PATHS[:3]))
def test_it_rises_is_concave_and_knows_no_names(written: list[list[str]], names: list[str]) -> None:
    found = curve(written)
    renamed = [[dict(zip(PATHS, names, strict=False)).get(text, text) for text in answers] for answers in written]
    np.testing.assert_allclose(curve(renamed), found, atol=1e-12)
    steps = np.diff(found, axis=1)
    assert (steps >= -1e-12).all()
    assert (np.diff(steps, axis=1) <= 1e-12).all()


def test_by_hand() -> None:
    """Of four answers two take one way and one another: two draws find 5/6 + 1/2 ways."""
    assert curve([["a", "a", "b", "wrong"]])[0, 1] == pytest.approx(5 / 6 + 1 / 2)


@given(st.data())
@settings(max_examples=10)
def test_the_sign(data: st.DataObject) -> None:
    questions, n = data.draw(st.integers(2, 5)), data.draw(st.integers(2, 6))
    before, after = (data.draw(texts(questions, n)) for _ in range(2))
    sign = coverage_sign(answers_of(before), answers_of(after), {}, CLASSIFY)
    if sign.outcome != "reported":
        alone = all(len({*ours, *theirs} - {"wrong"}) <= 1 for ours, theirs in zip(before, after, strict=True))
        right = [text for each in (*before, *after) for text in each if text != "wrong"]
        assert sign.outcome == ("no room" if alone else "not measurable")
        assert alone or len(set(right)) > len(right) / 2
        return
    ours, theirs = curve(before).mean(axis=0), curve(after).mean(axis=0)
    assert sign.details["before"] == pytest.approx(ours.tolist())
    assert sign.details["after"] == pytest.approx(theirs.tolist())
    assert sign.change == pytest.approx(theirs[-1] - ours[-1])
    same = coverage_sign(answers_of(before), answers_of(before), {}, CLASSIFY)
    assert same.outcome != "reported" or same.change == 0


def test_collapse_onto_one_of_two_ways() -> None:
    before, after = [["a", "b", "a", "b"]] * 20, [["a", "a", "a", "a"]] * 20
    sign = coverage_sign(answers_of(before), answers_of(after), {}, CLASSIFY)
    assert (sign.before, sign.after, sign.outcome) == (2, 1, "reported")
    assert sign.interval == (-1, -1)


def test_answers_that_all_have_their_own_way() -> None:
    before, after = ([[f"{word} {chr(97 + 4 * row + k)}" for k in range(4)] for row in range(4)] for word in ("a", "b"))
    sign = coverage_sign(answers_of(before), answers_of(after), {})
    assert sign.outcome == "not measurable"
    assert "name patterns" in sign.note
    one = coverage_sign(answers_of([["a"]] * 3), answers_of([["a"]] * 3), {}, CLASSIFY)
    assert one.outcome == "not measurable"
