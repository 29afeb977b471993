"""The files in a pair's folder of results, beside ``comparison.json``."""

from __future__ import annotations

from pathlib import Path

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.recorded import SIDES, Side
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import ANSWERS_SUFFIX, COMPARISON_FILE, Notify
from rlcircuits.models.weight_files import tensor_headers


def answers_file(folder: Path, side: Side) -> Path:
    """Return the path of one model's answers (JSON lines)."""
    return folder / f"{side}{ANSWERS_SUFFIX}"


def scores_file(folder: Path, side: Side) -> Path:
    """Return the path of one model's edge scores (safetensors)."""
    return folder / f"{side}.scores.safetensors"


def spans_file(folder: Path, side: Side) -> Path:
    """Return the path of one model's scores by span (safetensors), which only ``positions = "span"`` asks for."""
    return folder / f"{side}.spans.safetensors"


def save_answers(folder: Path, side: Side, answers: Answers) -> None:
    """Save one model's answers, the first results of a measurement; a comparison of earlier results is removed before.

    It would else be found again, beside answers that it is not of, if this measurement is interrupted.
    """
    (folder / COMPARISON_FILE).unlink(missing_ok=True)
    answers.save(answers_file(folder, side))


def remove_results(folder: Path) -> None:
    """Remove both models' answers and scores from a pair's folder, if they are there."""
    for side in SIDES:
        for file in (answers_file(folder, side), scores_file(folder, side), spans_file(folder, side)):
            file.unlink(missing_ok=True)


def are_complete(folder: Path, log: Notify, *, scored: bool = True, spans: bool = False) -> bool:
    """Return whether both models' answers and scores are there, none truncated or damaged; log what is wrong.

    Args:
        folder: the pair's folder of results.
        log: called with what is wrong.
        scored: whether there were questions to score the models on.
        spans: whether scores by span were asked for too.
    """
    try:
        for side in SIDES:
            Answers.load(answers_file(folder, side))
            wanted = [scores_file(folder, side), *([spans_file(folder, side)] if spans else [])] if scored else []
            for file in wanted:
                for _ in tensor_headers(file):
                    pass
    except RLCircuitsError as error:
        log(f"{error}; the pair is measured again, from what is in the store")
        return False
    return True
