"""Check what a comparison was made from: the checkpoints' weights, the answers' texts and their grades."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.recorded import SIDES, Side
from rlcircuits.answers.types import Answer
from rlcircuits.checkpoints.comparability import comparability_warnings
from rlcircuits.checkpoints.compare_weights import compare_weights
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.reprs import format_count
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.models.dtypes import DTYPES
from rlcircuits.questions.grading.graders import grade_answer
from rlcircuits.questions.loading import load_questions
from rlcircuits.questions.source import names
from rlcircuits.release.recomputed_comparison import CheckpointFacts

Result = tuple[Literal["agrees", "differs", "not checked"], str]
"""What came of a check, and in words what was compared, what differs, or why nothing could be compared."""


def check_checkpoints(stored: Comparison, recorded: Mapping[Side, str | None]) -> Result:
    """Compare the checkpoints' fingerprints with the recorded ones.

    Args:
        stored: the comparison, which names the checkpoints.
        recorded: the fingerprints in the run's store; None where there is none.

    Raises:
        RLCircuitsError: a checkpoint is not found.
    """
    found = []
    for side, fingerprint in recorded.items():
        if fingerprint is None:
            return "not checked", f"the store records no fingerprint of the weights that gave the scores of {side}"
        source = _source_with(stored, side, fingerprint)
        if source is None:
            source = recorded_source(stored, side)
            actual = source.fingerprint()
            return (
                "differs",
                f"{side}: {source.name} has the fingerprint {actual[:12]}…, the scores are of {fingerprint[:12]}…",
            )
        found.append(f"{side} {fingerprint[:12]}…" + (f" ({source.dtype})" if source.dtype else ""))
    return "agrees", ", ".join(found)


def read_checkpoints(stored: Comparison, recorded: Mapping[Side, str | None]) -> CheckpointFacts:
    """Compare the checkpoints' files again: their weights, tensor by tensor, and what else differs.

    Args:
        stored: the comparison, which names the checkpoints.
        recorded: the fingerprints in the run's store; None where there is none.

    Raises:
        RLCircuitsError: a checkpoint is not found, or a file of it is damaged.
    """
    before, after = (_source_with(stored, side, recorded[side]) or recorded_source(stored, side) for side in SIDES)
    control = None if stored.supervised is None else _named_source(stored.supervised.checkpoint, stored)
    if control is not None:
        control = replace(control, dtype=before.dtype)  # it is loaded as they are
    return CheckpointFacts(compare_weights(before, after, control), comparability_warnings(before, after))


def check_texts(stored: Comparison, answers: Mapping[Side, Answers]) -> Result:
    """Decode the answers' token ids again, and compare them with the texts, which were graded.

    Raises:
        RLCircuitsError: a checkpoint's tokenizer cannot be loaded.
    """
    for side in SIDES:
        tokenizer = recorded_source(stored, side).tokenizer()
        for item in answers[side].items:
            text = tokenizer.decode(item.answer_ids, skip_special_tokens=True)
            if text != item.text:
                return (
                    "differs",
                    f"{_place(side, item)}: file {truncated_repr(item.text)}, decoded {truncated_repr(text)}",
                )
    return "agrees", f"{format_count(sum(map(len, answers.values())), 'text')} decoded again"


def check_grades(stored: Comparison, answers: Mapping[Side, Answers]) -> Result:
    """Grade the recorded texts again, if the question set needs no file."""
    if stored.questions not in names():
        return "not checked", f"{stored.questions} is a set of your own, so its grader is not known"
    asked = {item.question_id for side in SIDES for item in answers[side].items}
    try:
        questions = load_questions(stored.questions, split=stored.split, count=len(asked))
    except RLCircuitsError as error:
        return "not checked", f"{stored.questions} cannot be loaded: {error}"
    golds = {question.id: question.gold for question in questions.questions}
    if strange := sorted(asked - golds.keys()):
        return "not checked", f"{stored.questions} has no question {strange[0]!r} among the {len(asked)} asked"
    for side, item in _each(answers):
        correct = grade_answer(questions.grade, item.text, golds[item.question_id]).correct
        if correct != item.correct:
            return "differs", f"{_place(side, item)}: file {_grade(item.correct)}, graded again {_grade(correct)}"
    return "agrees", f"{format_count(sum(map(len, answers.values())), 'answer')} graded again"


def recorded_source(stored: Comparison, side: Side) -> CheckpointSource:
    """Return the source of a side's checkpoint, whose name may end with ``@revision``."""
    return _named_source(stored.before if side == "before" else stored.after, stored)


def scored_source(stored: Comparison, side: Side, fingerprint: str | None) -> CheckpointSource:
    """Return the source of the checkpoint that a side's scores are of, in the dtype that it was scored in.

    Args:
        stored: the comparison, which names the checkpoint.
        side: the side.
        fingerprint: that of the weights that were scored; None if no store holds it, so that nothing can be checked.

    Raises:
        RLCircuitsError: the checkpoint is not found, or has other weights than those that were scored.
    """
    if fingerprint is None:
        return recorded_source(stored, side)
    source = _source_with(stored, side, fingerprint)
    if source is None:
        raise RLCircuitsError(
            f"{side}: {recorded_source(stored, side).name} has other weights than those that were scored; put those "
            "back, or measure the pair again"
        )
    return source


def _named_source(name: str, stored: Comparison) -> CheckpointSource:
    path, _, revision = name.rpartition("@")
    if not path or Path(name).exists():
        path, revision = name, ""
    return CheckpointSource(path, revision or None, trust_remote_code=stored.trust_remote_code)


def _source_with(stored: Comparison, side: Side, fingerprint: str | None) -> CheckpointSource | None:
    """Return the source of a side's checkpoint in the dtype that gives this fingerprint; None if none does."""
    # The dtype is part of the fingerprint, and a comparison does not hold it.
    sources = (replace(recorded_source(stored, side), dtype=dtype) for dtype in (None, *DTYPES))
    return next((source for source in sources if source.fingerprint() == fingerprint), None)


def _each(answers: Mapping[Side, Answers]) -> Iterator[tuple[Side, Answer]]:
    for side in SIDES:
        for item in answers[side].items:
            yield side, item


def _place(side: Side, item: Answer) -> str:
    sample = f", sample {item.sample}" if item.sample else ""
    return f"{side} answers, question {item.question_id!r}{sample}"


def _grade(correct: bool) -> str:
    return "right" if correct else "wrong"
