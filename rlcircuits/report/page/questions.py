"""The compared questions with both models' answers and grades, and the questions that were lost and gained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.recorded import SIDES, Side
from rlcircuits.answers.types import Answer
from rlcircuits.report.page.data import Missing, PairData

__all__ = ["Graded", "Samples", "Shown", "cut", "make_samples", "question_texts", "shown_questions"]

_FEW = 5
"""Most questions of each kind that are shown."""

_SAMPLE_CHARACTERS = 1200


@dataclass(frozen=True)
class Graded:
    """One model's answer to a question, and how many of its answers to it are right."""

    text: str
    right: int
    answers: int
    correct: bool
    """Whether the answer shown is right."""
    finished: bool

    @property
    def grade(self) -> str:
        """Return the grade in words."""
        words = "right" if self.correct else "wrong"
        of_all = "" if self.answers == 1 else f"; {self.right} of {self.answers} answers right"
        return f"{words}{'' if self.finished else ', cut off'}{of_all}"


@dataclass(frozen=True)
class Shown:
    """A question with an answer of each model."""

    question: str
    """The question's id."""
    text: str
    """The question and its reference answer; empty where they are not stored."""
    before: Graded
    after: Graded


@dataclass(frozen=True)
class Samples:
    """Questions that one of the two answers better."""

    lost: tuple[Shown, ...]
    gained: tuple[Shown, ...]
    n_lost: int
    n_gained: int


def question_texts(pair: PairData, most: int) -> dict[str, str]:
    """Return the text of each question with its reference answer, by id; none where they are not stored.

    Args:
        pair: what is stored.
        most: most characters of each.
    """
    if isinstance(pair.run, Missing):
        return {}
    return {each.id: f"{cut(each.text, most)}\nreference answer: {cut(each.gold, most)}" for each in pair.run.questions}


def cut(text: str, most: int) -> str:
    """Return a text of at most so many characters, which says that it was cut."""
    return text if len(text) <= most else f"{text[: max(0, most - 10)]} … (cut)"


def shown_questions(answers: Mapping[Side, Answers], questions: Sequence[str], most: int) -> list[Shown | None]:
    """Return each question with the first right answer of each model, or its first where none is right.

    Args:
        answers: both models' answers.
        questions: ids, in the order wanted; None stands for one that a model did not answer.
        most: most characters of an answer.
    """
    sides = {side: _by_question(answers[side]) for side in SIDES}
    return [_shown(sides, {}, question, most, prefer=(True, True)) for question in questions]


def make_samples(pair: PairData) -> Samples | Missing:
    """Return questions on which the share of right answers fell, and rose; those of the largest change first."""
    if isinstance(pair.answers, Missing):
        return pair.answers
    sides = {side: _by_question(pair.answers[side]) for side in SIDES}
    change = {
        question: _share(sides["after"][question]) - _share(found)
        for question, found in sides["before"].items()
        if question in sides["after"]
    }
    lost = sorted((q for q in change if change[q] < 0), key=lambda q: change[q])
    gained = sorted((q for q in change if change[q] > 0), key=lambda q: -change[q])
    texts = question_texts(pair, _SAMPLE_CHARACTERS)
    fell = [_shown(sides, texts, q, _SAMPLE_CHARACTERS, prefer=(True, False)) for q in lost[:_FEW]]
    rose = [_shown(sides, texts, q, _SAMPLE_CHARACTERS, prefer=(False, True)) for q in gained[:_FEW]]
    return Samples(tuple(q for q in fell if q), tuple(q for q in rose if q), len(lost), len(gained))


def _by_question(answers: Answers) -> dict[str, list[Answer]]:
    found: dict[str, list[Answer]] = {}
    for item in answers.items:
        found.setdefault(item.question_id, []).append(item)
    return found


def _share(answers: Sequence[Answer]) -> float:
    return sum(answer.correct for answer in answers) / len(answers)


def _shown(
    sides: Mapping[Side, Mapping[str, list[Answer]]],
    texts: Mapping[str, str],
    question: str,
    most: int,
    prefer: tuple[bool, bool],
) -> Shown | None:
    graded = []
    for side, wanted in zip(SIDES, prefer, strict=True):
        found = sides[side].get(question)
        if not found:
            return None
        first = next((answer for answer in found if answer.correct == wanted), found[0])
        right = sum(answer.correct for answer in found)
        graded.append(Graded(cut(first.text, most), right, len(found), first.correct, first.finished))
    return Shown(question, texts.get(question, ""), *graded)
