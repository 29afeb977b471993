"""Corrupted sequences from counterfactual prompts: the same answers behind other prompts of the same lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.sequences import AnswerSequence

__all__ = ["counterfactual_sequences"]

_SHOWN = 5
"""Questions that an error names."""


def counterfactual_sequences(
    sequences: Sequence[AnswerSequence],
    question_ids: Sequence[str],
    prompts: Mapping[str, Sequence[int]],
    where: str = "the counterfactual questions",
) -> list[AnswerSequence]:
    """Return each sequence with its question's counterfactual prompt in the place of its own, and the same answer.

    Args:
        sequences: the sequences.
        question_ids: which question each is an answer to.
        prompts: question → token ids of its counterfactual prompt.
        where: what the counterfactuals are from, for errors.

    Raises:
        RLCircuitsError: a question has no counterfactual, or one whose prompt has another number of tokens. One error
            names them all, up to five.
    """
    pairs = list(zip(sequences, question_ids, strict=True))
    if missing := list(dict.fromkeys(name for _, name in pairs if name not in prompts)):
        raise RLCircuitsError(
            f"{where}: {_some(missing)} of {_count(question_ids)} questions have no counterfactual; each question that "
            "is scored needs one, or leave them out to remove edges instead of patching them"
        )
    lengths = {name: (len(sequence.prompt_ids), len(prompts[name])) for sequence, name in pairs}
    if unequal := [f"{name} ({ours} and {theirs})" for name, (ours, theirs) in lengths.items() if ours != theirs]:
        raise RLCircuitsError(
            f"{where}: prompt and counterfactual prompt differ in tokens for {_some(unequal)} of "
            f"{_count(question_ids)} questions; positions must match one to one, so write counterfactuals of the same "
            "number of tokens"
        )
    return [AnswerSequence(tuple(prompts[name]), sequence.answer_ids) for sequence, name in pairs]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    return f"{len(names)} ({shown})"


def _count(question_ids: Sequence[str]) -> int:
    return len(set(question_ids))
