"""Entropy after a boundary: whether a tool's result, or a finished step, opens the model's choices again.

The study (ARPO, arXiv 2507.19849) finds that the first tokens after a tool's result have a high entropy, and branches
rollouts there. With H̄ the mean entropy of the first k tokens,

    reopening = mean over boundaries of (H̄ after the boundary − H̄ at the answer's start) / log V.

The study's released code sums over the ten most likely tokens and all positions together; here it is the entropy of the
whole vocabulary at each position. Both models score the *same* rollouts, so that a change is one of the policy and
not of the text.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.patterns import UserPattern
from rlcircuits.common.reprs import format_count
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.vital_signs.exact_kl import check_same_answers
from rlcircuits.vital_signs.log_prob_table import AnswerLogProbs
from rlcircuits.vital_signs.scored_answers import ScoredAnswers
from rlcircuits.vital_signs.sign import Sign, not_measurable, paired_sign
from rlcircuits.vital_signs.studies import ARPO

__all__ = [
    "FIRST",
    "Segment",
    "boundary_changes",
    "delimiter",
    "delimiter_segments",
    "reopening",
    "unmatched_delimiter",
]

FIRST = 20
"""The number k of tokens whose entropy is averaged."""
_NAME, _UNIT = "reopening", "share of log V"

Segment = tuple[int, int]
"""A boundary in an answer: the tokens from the first number up to before the second are not the model's (a tool's
result, with its template's tokens), and what the model writes goes on at the second. (t, t) is a boundary before token
t with nothing of anyone else's."""


def delimiter_segments(
    sequences: Sequence[AnswerSequence], tokenizer: Any, pattern: str
) -> tuple[tuple[Segment, ...], ...]:
    r"""Return the boundaries that a delimiter makes, answer by answer.

    The pattern is searched in the decoded answer, special tokens included. A match ends at the first token boundary
    that is not before its end: a token that holds the end of the delimiter and more belongs to what is before. A
    match after which there is no token makes no boundary.

    Args:
        sequences: the answers.
        tokenizer: the tokenizer of their ids.
        pattern: a regular expression, such as ``;`` or ``</tool>\n``.

    Raises:
        RLCircuitsError: a pattern that is no regular expression, that matches an empty text, or that takes too long.
    """
    compiled = delimiter(pattern)
    return tuple(_delimited(sequence.answer_ids, tokenizer, compiled) for sequence in sequences)


def unmatched_delimiter(
    sequences: Sequence[AnswerSequence], tokenizer: Any, pattern: str, segments: Sequence[Sequence[Segment]]
) -> str | None:
    """Return a sentence for a delimiter that makes no boundary in any answer; None if it makes one.

    Args:
        sequences: the answers.
        tokenizer: the tokenizer of their ids.
        pattern: the delimiter.
        segments: its boundaries, of :func:`delimiter_segments`.
    """
    if any(segments) or not sequences:
        return None
    example = tokenizer.decode(sequences[0].answer_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    answers = format_count(len(sequences), "answer")
    return (
        f"boundary {truncated_repr(pattern)} is in none of {answers}, or at the end alone, so that no entropy after it "
        f"is measured; an answer is {truncated_repr(example)}"
    )


def delimiter(pattern: str) -> UserPattern:
    """Return a delimiter's expression.

    Raises:
        RLCircuitsError: it is no regular expression, or matches an empty text.
    """
    compiled = UserPattern("boundary", pattern)
    if compiled.is_in(""):
        raise RLCircuitsError(
            f"boundary: {pattern!r} matches an empty text, which is everywhere; name what ends a step"
        )
    return compiled


def _delimited(ids: tuple[int, ...], tokenizer: Any, pattern: UserPattern) -> tuple[Segment, ...]:
    def text(count: int) -> str:
        found: str = tokenizer.decode(ids[:count], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return found

    places = []
    for end in pattern.ends(text(len(ids))):
        # Decoded from the start each time, because a token's text can depend on the token before it.
        place = bisect.bisect_left(range(len(ids) + 1), end, key=lambda count: len(text(count)))
        if place < len(ids):
            places.append(place)
    return tuple((place, place) for place in dict.fromkeys(places))


def boundary_changes(entropies: Float64Array, segments: Sequence[Segment], first: int = FIRST) -> Float64Array:
    """Return H̄(first k tokens after a boundary) − H̄(first k tokens of the answer) at each boundary, in nats.

    Tokens that are not the model's do not count. A window ends at k tokens or at the next boundary.

    Args:
        entropies: of one answer's tokens, float64 [tokens], in nats.
        segments: the boundaries, in order.
        first: k, at least 1.

    Returns:
        float64 [boundaries], without the boundaries after which, or an answer before which, no token counts. A
        boundary at the answer's start gives exactly 0.
    """
    starts = [(0, 0), *segments]
    means = [_window_mean(entropies, stop, segments, first) for _, stop in starts]
    changes = np.array([mean - means[0] for mean in means[1:]], dtype=np.float64)
    return changes[~np.isnan(changes)]


def _window_mean(entropies: Float64Array, start: int, segments: Sequence[Segment], first: int) -> float:
    # A segment that begins where the window does belongs before it, as at an answer's start or after another segment.
    for begin, stop in segments:
        if begin <= start < stop:
            start = stop
    end = min([len(entropies), start + first, *(begin for begin, _ in segments if begin > start)])
    return float(entropies[start:end].mean()) if end > start else math.nan


def reopening(
    answers: ScoredAnswers,
    before: AnswerLogProbs,
    after: AnswerLogProbs,
    segments: Sequence[Sequence[Segment]],
    *,
    first: int = FIRST,
) -> Sign:
    """Return how far entropy rises again after each boundary, before and after, on the same rollouts.

    An answer's value is the mean over its boundaries, a question's the mean over its answers that have one.

    Args:
        answers: the rollouts, of either model.
        before: the model before's table of them.
        after: the model after's.
        segments: each rollout's boundaries, in order, from marks in a rollout file or :func:`delimiter_segments`.
        first: k, how many tokens are averaged.

    Returns:
        A sign that is only reported. Worry where it falls to 0 or below (tool results are ignored) or doubles (they
        derail the model) and accuracy does not gain. ``details``: ``spread``, the share of boundaries with ΔH > 0
        before and after, and the number of boundaries in all and a question.

    Raises:
        RLCircuitsError: a table of other answers or another temperature; segments that do not fit the answers.
    """
    check_same_answers(before, after)
    answers.check(before)
    _check_segments(answers, segments, first)
    found = {id(table): _changes(table, segments, first) for table in (before, after)}
    count = sum(len(changes) for changes in found[id(before)])
    if not count:
        return not_measurable(_NAME, ARPO, _UNIT, "no answer has a boundary with tokens of the model's after it")

    def values(table: AnswerLogProbs) -> Float64Array:
        each = found[id(table)]
        marked = np.array([len(changes) > 0 for changes in each])
        means = np.array([changes.mean() if len(changes) else 0.0 for changes in each])
        return answers.means(means, marked) / math.log(table.vocabulary)

    return paired_sign(
        _NAME,
        ARPO,
        _UNIT,
        f"entropy of the first {first} tokens after a boundary less that at the answer's start",
        values(before),
        values(after),
        details={
            "spread": [float((np.concatenate(found[id(table)]) > 0).mean()) for table in (before, after)],
            "boundaries": count,
            "boundaries_a_question": count / len(answers.questions),
        },
    )


def _changes(table: AnswerLogProbs, segments: Sequence[Sequence[Segment]], first: int) -> list[Float64Array]:
    entropies = np.split(table.entropies.astype(np.float64), table.offsets[1:-1])
    return [boundary_changes(each, marks, first) for each, marks in zip(entropies, segments, strict=True)]


def _check_segments(answers: ScoredAnswers, segments: Sequence[Sequence[Segment]], first: int) -> None:
    if first < 1:
        raise RLCircuitsError(f"first is {first}; at least one token after a boundary is wanted")
    if len(segments) != len(answers.sequences):
        raise RLCircuitsError(f"boundaries of {len(segments)} answers for {len(answers.sequences)} answers with tokens")
    for place, (sequence, marks) in enumerate(zip(answers.sequences, segments, strict=True)):
        edges = [edge for mark in marks for edge in mark]
        if edges != sorted(edges) or (edges and not 0 <= edges[0] <= edges[-1] <= len(sequence.answer_ids)):
            raise RLCircuitsError(
                f"boundaries of answer {place} are {list(marks)}; segments (start, stop) in order, from 0 to its "
                f"{len(sequence.answer_ids)} tokens, are wanted"
            )
