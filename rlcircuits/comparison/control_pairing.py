"""Pair a noise control's answers with before's, on the rows of an existing pairing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlcircuits.common.reprs import format_count, short_repr
from rlcircuits.comparison.funnel import answers_by_key, length_stages
from rlcircuits.comparison.pairing import Pairing
from rlcircuits.graph.sequences import AnswerSequence

if TYPE_CHECKING:
    from rlcircuits.answers.answer_file import Answers
    from rlcircuits.answers.types import Answer


@dataclass(frozen=True)
class ControlPairing:
    """Which rows of a pairing a noise control can be compared on.

    ``sequences[i]`` is compared with row ``rows[i]`` of the pairing, which answers question ``places[i]``.
    """

    rows: tuple[int, ...]
    places: tuple[int, ...]
    sequences: tuple[AnswerSequence, ...]

    def __repr__(self) -> str:
        return short_repr(self, format_count(self.k, "question"), format_count(len(self.rows), "row"))

    @property
    def k(self) -> int:
        """Return the number of questions that the control is compared on."""
        return len(set(self.places))


def pair_with_itself(pairing: Pairing) -> ControlPairing:
    """Return every row of a pairing, scored on before's own answers."""
    return ControlPairing(tuple(range(len(pairing.places))), pairing.places, pairing.before)


def pair_control(pairing: Pairing, before: Answers, control: Answers) -> ControlPairing:
    """Select the rows on which a noise control can be compared with before.

    The control's answer must be right, and its length must pass the pairing's own length stages beside before's answer
    of the same sample. Other rows are left out; there is no minimum number, see
    :attr:`ControlDraw.k <rlcircuits.comparison.comparison.ControlDraw.k>`.

    Args:
        pairing: the pairing of before and after.
        before: the answers that the pairing was made from.
        control: the answers of before with noise.
    """
    left, right = answers_by_key(before, "before"), answers_by_key(control, "control's")
    stages = length_stages(pairing.ref, pairing.balance)

    def comparable(ours: Answer, theirs: Answer) -> bool:
        right_answer = theirs.correct and bool(theirs.answer_ids)
        return right_answer and all(passes(ours, theirs) for _, passes in stages)

    rows: list[int] = []
    sequences: list[AnswerSequence] = []
    for row, (place, samples, shared) in enumerate(zip(pairing.places, pairing.samples, pairing.before, strict=True)):
        keys = [(pairing.question_ids[place], sample) for sample in samples]
        chosen = [right[key] for key in keys if key in right and comparable(left[key], right[key])]
        if not chosen:
            continue
        own = AnswerSequence(chosen[0].prompt_ids, chosen[0].answer_ids, chosen[0].images).truncated(pairing.t_cut)
        rows.append(row)
        sequences.append(own if pairing.score_on == "own" else shared)
    return ControlPairing(tuple(rows), tuple(pairing.places[row] for row in rows), tuple(sequences))
