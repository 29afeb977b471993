"""Compare a model in memory with a base whose answers and scores are there already: one of the two is on the device.

The protocol is that of a pair (:mod:`rlcircuits.comparison.pairing`), with the base's scores made once: the base's
right answers are paired with themselves, which fixes the questions, the reference length and the cut, and are scored.
The live model's right answers are then matched with these rows as those of a noise control are
(:mod:`rlcircuits.comparison.control_pairing`). So the reference length is the base's, where a pair takes the smaller of
both, and a question is compared if both models answer it right at similar lengths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.generate import answer_questions
from rlcircuits.attribution.edge_attribution import attribute
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common import defaults
from rlcircuits.common.choices import EAP, METRICS
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import content_hash, write_text_atomically
from rlcircuits.common.versioned_files import read_versioned
from rlcircuits.comparison.control_pairing import pair_control
from rlcircuits.comparison.effects import AccuracyEffect, Effect, compare_accuracy
from rlcircuits.comparison.from_scores import effects_on_rows
from rlcircuits.comparison.pairing import Pairing, pair
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.questions.question_set import QuestionSet
from rlcircuits.release.result_files import answers_file, scores_file
from rlcircuits.release.settings import Settings

__all__ = ["LiveBase", "LiveEffects", "check_live", "load_base", "measure_base", "measure_live", "save_base"]

_POSSIBLE: Mapping[str, tuple[str, ...]] = {
    "engine": (defaults.ENGINE,),
    "score_on": (defaults.SCORE_ON,),
    "method": (EAP,),
    "positions": (defaults.POSITIONS,),
    "metric": tuple(metric for metric in METRICS if metric != "kl"),
}
"""The values of settings that need no more than the model in memory and the base's stored scores."""

_USED = (
    "k", "alpha", "balance", "seed", "min_questions", "sampling", "prompting", "batch_size", "granularity", "metric",
    "rules", "rules_version",
)  # fmt: skip
"""The settings that a base's answers and scores depend on."""

_FILE = "base.json"
_FORMAT, _VERSION = "rlcircuits-live-base", 1


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


@dataclass(frozen=True)
class _File:
    format: str
    version: int
    key: str
    """A hash of the questions and settings."""
    weights: str
    """A hash of the base's weights."""


_ADAPTER: TypeAdapter[_File] = TypeAdapter(_File)


def check_live(settings: Settings) -> None:
    """Raise RLCircuitsError for a setting that needs more than the model in memory and the base's stored scores."""
    for name, possible in _POSSIBLE.items():
        if (found := getattr(settings, name)) not in possible:
            raise RLCircuitsError(
                f"{name} is {found!r}, and a model in training is measured with {' or '.join(possible)} only; "
                "choose that, or follow the saved checkpoints: rlcircuits track RUN_DIR"
            )


def measure_base(model: Checkpoint, questions: QuestionSet, settings: Settings) -> LiveBase:
    """Answer and attribute a base.

    Args:
        model: the base.
        questions: what it is asked.
        settings: how; what is said there of noise and of stopping early is not used. Edges are removed, also if the
            questions have counterfactuals.

    Raises:
        RLCircuitsError: as :func:`check_live` and :func:`~rlcircuits.answers.generate.answer_questions`, or fewer
            answers are right than ``min_questions``.
    """
    check_live(settings)
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


def save_base(base: LiveBase, folder: Path, questions: QuestionSet, settings: Settings, weights: str) -> None:
    """Write a base's answers and scores, from which a training that is resumed goes on.

    Args:
        base: the base.
        folder: where; older files are replaced.
        questions: what it was asked.
        settings: how it was measured.
        weights: a hash of its weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    base.answers.save(answers_file(folder, "before"))
    base.scores.save(scores_file(folder, "before"))
    file = _File(_FORMAT, _VERSION, _key(questions, settings), weights)
    write_text_atomically(folder / _FILE, _ADAPTER.dump_json(file, indent=1).decode() + "\n")


def load_base(folder: Path, questions: QuestionSet, settings: Settings, weights: str | None) -> LiveBase | None:
    """Return the base that :func:`save_base` wrote; None if there is none.

    Args:
        folder: where it was written.
        questions: what it was asked.
        settings: how it was measured.
        weights: a hash of the base's weights; None if these are not at hand, as in a training that is resumed.

    Raises:
        RLCircuitsError: a file is damaged, or the base is another one, or was asked or scored in another way.
    """
    path = folder / _FILE
    if not path.is_file():
        return None
    file = read_versioned(path, _ADAPTER, (_FORMAT, _VERSION), "a base", "give another folder")
    if file.key != _key(questions, settings):
        raise RLCircuitsError(
            f"{folder}: holds a base that was measured with other questions or settings; give the same ones, or "
            "another folder"
        )
    if weights not in (None, file.weights):
        raise RLCircuitsError(
            f"{folder}: holds a base with other weights than that of this training; give another folder, or remove "
            "this one"
        )
    answers = Answers.load(answers_file(folder, "before"))
    return LiveBase(answers, _pair(answers, settings), EdgeScores.load(scores_file(folder, "before")))


def _key(questions: QuestionSet, settings: Settings) -> str:
    table = settings.key_table()
    asked = [question.key_table() for question in questions.questions]
    return content_hash(
        [questions.name, questions.split, questions.grader, asked, {name: table.get(name) for name in _USED}]
    )


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
    return attribute(
        model,
        sequences,
        settings.granularity,
        settings.batch_tokens,
        metric=settings.metric,
        rules=settings.rules or (),
        recompute=settings.recompute,
    )
