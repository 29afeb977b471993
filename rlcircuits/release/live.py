"""Compare a model in memory with a base whose answers and scores are there already: one of the two is on the device.

The protocol is that of a pair (:mod:`rlcircuits.comparison.pairing`), with the base's scores made once: the base's
right answers are paired with themselves, which fixes the questions, the reference length and the cut, and are scored.
The live model's right answers are then matched with these rows as those of a noise control are
(:mod:`rlcircuits.comparison.control_pairing`). So the reference length is the base's, where a pair takes the smaller of
both, and a question is compared if both models answer it right at similar lengths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.generate import answer_questions
from rlcircuits.attribution.edge_attribution import attribute
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.control_pairing import pair_control
from rlcircuits.comparison.effects import AccuracyEffect, Effect, compare_accuracy
from rlcircuits.comparison.from_scores import effects_on_rows
from rlcircuits.comparison.pairing import Pairing, pair
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.questions.question_set import QuestionSet
from rlcircuits.release.result_files import answers_file, scores_file
from rlcircuits.release.settings import Settings

__all__ = ["LiveBase", "LiveEffects", "load_base", "measure_base", "measure_live", "save_base"]


@dataclass(frozen=True, eq=False)
class LiveBase:
    """A base's answers to the questions, and its scores of those that are right."""

    answers: Answers
    pairing: Pairing
    """Of the answers with themselves."""
    scores: EdgeScores
    """Row i is the pairing's row i."""


@dataclass(frozen=True)
class LiveEffects:
    """What a model changed against the base."""

    accuracy: AccuracyEffect
    effects: Mapping[str, Effect]
    """By metric of :data:`~rlcircuits.comparison.comparison.CONTROL_METRICS`; empty if too few questions are left."""
    compared: int
    """Questions that the metrics are compared on."""


def measure_base(model: Checkpoint, questions: QuestionSet, settings: Settings) -> LiveBase:
    """Answer and attribute a base.

    Args:
        model: the base.
        questions: what it is asked.
        settings: how; what is said there of noise, of whose answers are scored and of stopping early is not used.

    Raises:
        RLCircuitsError: as :func:`~rlcircuits.answers.generate.answer_questions`, or fewer answers are right than
            ``min_questions``.
    """
    answers = _answer(model, questions, settings)
    pairing = _pair(answers, settings)
    return LiveBase(answers, pairing, _attribute(model, pairing.before, settings))


def measure_live(model: Checkpoint, base: LiveBase, questions: QuestionSet, settings: Settings) -> LiveEffects:
    """Answer and attribute a model, and return what it changed against the base.

    Args:
        model: the model.
        base: what :func:`measure_base` returned, with the same questions and settings.
        questions: what both are asked.
        settings: how both are measured.

    Raises:
        RLCircuitsError: as :func:`~rlcircuits.answers.generate.answer_questions` and
            :func:`~rlcircuits.attribution.edge_attribution.attribute`.
    """
    answers = _answer(model, questions, settings)
    accuracy = compare_accuracy(base.answers, answers)
    matched = pair_control(base.pairing, base.answers, answers)
    if matched.k < settings.min_questions:
        return LiveEffects(accuracy, {}, matched.k)
    scores = _attribute(model, matched.sequences, settings)
    return LiveEffects(accuracy, effects_on_rows(base.scores, scores, base.pairing, matched), matched.k)


def save_base(base: LiveBase, folder: Path) -> None:
    """Write a base's answers and scores, from which a training that is resumed goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    base.answers.save(answers_file(folder, "before"))
    base.scores.save(scores_file(folder, "before"))


def load_base(folder: Path, questions: QuestionSet, settings: Settings) -> LiveBase | None:
    """Return the base that :func:`save_base` wrote; None if there is none.

    Raises:
        RLCircuitsError: a file is damaged, or the base was asked or scored in another way.
    """
    files = answers_file(folder, "before"), scores_file(folder, "before")
    if not all(file.is_file() for file in files):
        return None
    answers, scores = Answers.load(files[0]), EdgeScores.load(files[1])
    pairing = _pair(answers, settings)
    asked = {question.id for question in questions.questions}
    wanted = replace(settings.sampling, max_new_tokens=answers.sampling.max_new_tokens)
    alike = (
        answers.question_set == questions.name
        and {item.question_id for item in answers.items} == asked
        and answers.sampling == wanted
        and settings.sampling.max_new_tokens in (None, answers.sampling.max_new_tokens)
        and scores.graph.granularity == settings.granularity
        and len(scores.values) == len(pairing.places)
    )
    if not alike:
        raise RLCircuitsError(
            f"{folder}: holds a base that was measured with other questions or settings; give the same ones, or "
            "another folder"
        )
    return LiveBase(answers, pairing, scores)


def _answer(model: Checkpoint, questions: QuestionSet, settings: Settings) -> Answers:
    return answer_questions(model, questions, settings.sampling, settings.batch_size, prompting=settings.prompting)


def _pair(answers: Answers, settings: Settings) -> Pairing:
    return pair(
        answers,
        answers,
        alpha=settings.alpha,
        k=settings.k,
        balance=settings.balance,
        seed=settings.seed,
        min_questions=settings.min_questions,
    )


def _attribute(model: Checkpoint, sequences: tuple[AnswerSequence, ...], settings: Settings) -> EdgeScores:
    return attribute(model, sequences, settings.granularity, settings.batch_tokens, recompute=settings.recompute)
