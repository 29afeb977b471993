"""Tables for pandas, which is optional: of comparisons, edge scores, and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from rlcircuits.answers.answer_file import Answers
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.edge_tables import import_pandas
from rlcircuits.report.measure_rows import MeasureRow, measure_rows

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["to_pandas"]

_ROW = tuple(field.name for field in fields(MeasureRow))
_QUESTION = ("pair", "question_id", "metric", "before", "after")
_ANSWER = (
    "model", "question_set", "question_id", "sample", "correct", "finished", "prompt_tokens", "answer_tokens", "text",
    "problem",
)  # fmt: skip


@validate_arguments
def to_pandas(
    data: Comparison | Sequence[Comparison] | EdgeScores | Answers, *, by_question: bool = False
) -> pd.DataFrame:
    """Return results as a table for pandas.

    - Of one comparison or several: a row for each measure of each pair, with its numbers, interval, p, outcome and
      words (the columns of ``rlcircuits report --csv``). With ``by_question`` a row for each question and metric, with
      the columns ``pair``, ``question_id``, ``metric``, ``before`` and ``after``; a value that is undefined is NaN.
    - Of edge scores: a row for each edge, with its mean score in nats. With ``by_question`` a row for each sequence and
      edge (:meth:`rlcircuits.EdgeScores.to_pandas`).
    - Of answers: a row for each answer, with its grade and its lengths in tokens.

    Args:
        data: what to lay out.
        by_question: a row for each question too.

    Raises:
        RLCircuitsError: pandas is not installed, ``data`` is of another type, or ``by_question`` is no truth value.
    """
    if isinstance(data, EdgeScores):
        return data.to_pandas(by_sequence=by_question)
    if isinstance(data, Answers):
        return _frame([_answer_row(data, place) for place in range(len(data))], _ANSWER)
    comparisons = [data] if isinstance(data, Comparison) else data
    if by_question:
        return _frame([row for comparison in comparisons for row in _question_rows(comparison)], _QUESTION)
    return _frame([tuple(asdict(row).values()) for each in comparisons for row in measure_rows(each)], _ROW)


def _frame(rows: Sequence[tuple[object, ...]], columns: tuple[str, ...]) -> pd.DataFrame:
    found: pd.DataFrame = import_pandas().DataFrame(rows, columns=list(columns))
    return found


def _question_rows(comparison: Comparison) -> list[tuple[object, ...]]:
    return [
        (comparison.name, question, metric, before, after)
        for metric, effect in comparison.effects.items()
        for question, before, after in zip(
            comparison.question_ids, effect.before_values, effect.after_values, strict=True
        )
    ]


def _answer_row(answers: Answers, place: int) -> tuple[object, ...]:
    item = answers.items[place]
    lengths = len(item.prompt_ids), len(item.answer_ids)
    graded = item.question_id, item.sample, item.correct, item.finished
    return (answers.model, answers.question_set, *graded, *lengths, item.text, item.problem)
