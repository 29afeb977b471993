"""What the store of an output folder already holds, as far as a plan can tell without loading a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlcircuits.answers.answer_file import Header, parse_answers
from rlcircuits.answers.cache import cached_headers
from rlcircuits.answers.types import Answer
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.questions.question_set import QuestionSet
from rlcircuits.release.pair import Pair

if TYPE_CHECKING:
    from rlcircuits.release.settings import Settings


@dataclass(frozen=True)
class StoredAnswers:
    """One answer file of the store."""

    path: Path
    header: Header
    count: int
    """Answers in the file, which a killed run leaves below the header's count."""

    def grades(self) -> dict[tuple[str, int], bool]:
        """Return whether each answer is right, by question id and sample; nothing if the file is damaged."""
        lines = self.path.read_bytes().split(b"\n")[:-1]
        try:
            answers: Sequence[Answer] = parse_answers(self.path, lines[1:], self.header.sampling.n)
        except RLCircuitsError:
            return {}
        return {(answer.question_id, answer.sample): answer.correct for answer in answers}


def stored_answers(store: Path | None) -> list[StoredAnswers]:
    """Return every answer file of the store whose header can be read."""
    if store is None:
        return []
    # A killed run may leave its last line, or even the header, without an end.
    return [
        StoredAnswers(path, header, max(path.read_bytes().count(b"\n") - 1, 0))
        for path, header in cached_headers(store)
    ]


def find_answers(
    stored: Sequence[StoredAnswers], model: str, questions: QuestionSet, pair: Pair, settings: Settings
) -> StoredAnswers | None:
    """Return the file of a model's answers that a run with these settings would go on with, if there is one.

    Args:
        stored: the answer files of the store.
        model: name of the model.
        questions: what it is asked.
        pair: the pair that it belongs to.
        settings: the settings of the run, with the longest answer filled in.
    """
    prompting = (pair.prompting or settings.prompting).model_dump()
    answers = len(questions) * settings.sampling.n
    for each in stored:
        header = each.header
        same = (header.model, header.question_set, header.split, header.count, header.sampling, header.batch_size) == (
            model, questions.name, questions.split, answers, settings.sampling, settings.batch_size,
        )  # fmt: skip
        used = header.prompting.model_dump() if header.prompting else {}
        if same and all(used.get(name) == value for name, value in prompting.items()):
            return each
    return None
