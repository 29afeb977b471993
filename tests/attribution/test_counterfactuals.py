"""Corrupted sequences from counterfactual prompts, and the files that hold these."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits import AnswerSequence, QuestionSource, RLCircuitsError, load_questions
from rlcircuits.attribution.counterfactuals import counterfactual_sequences
from rlcircuits.questions.records import read_by_id

tokens = st.integers(0, 60)


def write(file: Path, *lines: object) -> Path:
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return file


@given(
    st.lists(
        st.integers(1, 6).flatmap(
            lambda n: st.tuples(
                st.lists(tokens, min_size=n, max_size=n),
                st.lists(tokens, min_size=n, max_size=n),
                st.lists(tokens, min_size=1, max_size=4),
            )
        )
    )
)
def test_the_prompt_is_replaced_and_the_answer_kept(drawn: list[tuple[list[int], list[int], list[int]]]) -> None:
    sequences = [AnswerSequence(tuple(prompt), tuple(answer)) for prompt, _, answer in drawn]
    prompts = {str(place): other for place, (_, other, _) in enumerate(drawn)}
    made = counterfactual_sequences(sequences, list(prompts), prompts)
    assert [(list(s.prompt_ids), list(s.answer_ids)) for s in made] == [(other, answer) for _, other, answer in drawn]


def test_one_error_names_the_questions_without_one_or_of_another_length() -> None:
    sequences = [AnswerSequence((3, 4), (5,))] * 8
    names = [f"q{n}" for n in range(8)]
    with pytest.raises(RLCircuitsError, match=r"ours.jsonl: 7 \(q1, q2, q3, q4, q5, …\) of 8 questions have no"):
        counterfactual_sequences(sequences, names, {"q0": (1, 2)}, "ours.jsonl")
    prompts = dict.fromkeys(names, (1, 2)) | {"q3": (1, 2, 3), "q6": (1,)}
    with pytest.raises(RLCircuitsError, match=r"differ in tokens for 2 \(q3 \(2 and 3\), q6 \(2 and 1\)\) of 8"):
        counterfactual_sequences(sequences, names, prompts)


def test_a_question_file_may_hold_counterfactuals(tmp_path: Path) -> None:
    file = write(tmp_path / "ours.jsonl", {"question": "1+2?", "answer": "3", "other": "4+2?"})
    (plain,) = load_questions(QuestionSource(name="ours", file=file)).questions
    (found,) = load_questions(QuestionSource(name="ours", file=file, counterfactual="other")).questions
    assert (plain.counterfactual, found.counterfactual) == (None, "4+2?")
    # Keys of stored results do not change for a set without counterfactuals.
    assert plain.key_table() == {"id": "1", "text": "1+2?", "gold": "3", "row": 0}
    assert found.key_table()["counterfactual"] == "4+2?"
    with pytest.raises(RLCircuitsError, match="field 'foil' is missing; there are question, answer, other"):
        load_questions(QuestionSource(name="ours", file=file, counterfactual="foil"))
    with pytest.raises(RLCircuitsError, match="is built in and takes no counterfactual"):
        QuestionSource(name="arithmetic", counterfactual="other")


def test_a_file_of_counterfactuals_alone(tmp_path: Path) -> None:
    file = write(tmp_path / "with-ids.jsonl", {"id": 7, "counterfactual": "a"}, {"id": "b", "counterfactual": "c"})
    assert read_by_id(file, "counterfactual") == {"7": "a", "b": "c"}
    assert read_by_id(write(tmp_path / "by-line.jsonl", {"counterfactual": "a"}), "counterfactual") == {"1": "a"}
    for line, message in (
        ({"id": 7, "counterfactual": "d"}, "line|:3: field 'id': '7' stands on an earlier line"),
        ({"id": 8}, "field 'counterfactual' is missing"),
        ({"id": 8, "counterfactual": 3}, "field 'counterfactual': found"),
    ):
        with file.open("a", encoding="utf-8") as opened:
            before = file.read_text(encoding="utf-8")
            opened.write(json.dumps(line) + "\n")
        with pytest.raises(RLCircuitsError, match=message):
            read_by_id(file, "counterfactual")
        file.write_text(before, encoding="utf-8")
