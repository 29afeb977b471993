"""Repeat a pairing from the answers and what a comparison records of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from rlcircuits.answers.answer_file import Answers
from rlcircuits.common import defaults
from rlcircuits.common.choices import SCORE_ON
from rlcircuits.common.limits import LIMITS
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.funnel import Funnel
from rlcircuits.comparison.pairing import Pairing, TooFewQuestionsError, pair

SEEDS_TRIED = 1000
"""A comparison does not hold the seed of its sample of questions. Seeds below this one are tried."""

_WANTED = re.compile(r"(\d+) questions were wanted")
_NEEDED = re.compile(r"at least (\d+) are needed")


def repeat_pairing(stored: Comparison, before: Answers, after: Answers, seed: int | None = None) -> Pairing:
    """Pair the answers again, by the settings that a comparison records.

    Args:
        stored: the comparison.
        before: all answers of before.
        after: all answers of after.
        seed: seed of the sample of questions; None to try the default and then every small one.

    Raises:
        RLCircuitsError: as :func:`~rlcircuits.comparison.pairing.pair`.
    """
    asked = {item.question_id for item in (*before.items, *after.items)}

    def paired(k: int | None, seed: int, min_questions: int = 1) -> Pairing:
        return pair(
            before,
            after,
            alpha=stored.alpha,
            k=k,
            balance=stored.balance,
            seed=seed,
            min_questions=min_questions,
            score_on=next(choice for choice in SCORE_ON if choice == stored.score_on),
            # Which gold answers were scored changes neither rows nor lengths.
            gold=dict.fromkeys(asked, (0,)) if stored.score_on == "gold" else None,
        )

    if not stored.is_measured:
        needed = _NEEDED.search(stored.note or "")
        least = int(needed[1]) if needed else int(LIMITS["min_questions"].most)
        try:
            return paired(None, defaults.SEED, least)
        except TooFewQuestionsError as error:
            return replace(error.pairing, k=None if stored.requested is None else stored.requested.k)
    everything = paired(None, defaults.SEED)
    left = everything.question_ids
    k = _k_asked_for(stored, len(left))
    if k is None or len(left) <= k:
        return paired(k, defaults.SEED)
    seeds: Iterable[int] = (defaults.SEED, *range(SEEDS_TRIED)) if seed is None else (seed,)
    drawn = (each for each in seeds if _sample(left, k, each) == stored.question_ids)
    return paired(k, next(drawn, defaults.SEED if seed is None else seed))


def _k_asked_for(stored: Comparison, left: int) -> int | None:
    """Return K; of a comparison that does not record it, what its note says, else as many as were compared."""
    if stored.requested is not None:
        return stored.requested.k
    wanted = _WANTED.search(stored.note or "") if left <= stored.k else None
    return int(wanted[1]) if wanted else stored.k


def _sample(questions: tuple[str, ...], k: int, seed: int) -> tuple[str, ...]:
    funnel = Funnel({}, {"asked": list(questions)})
    funnel.sample(k, seed)
    return tuple(funnel.left)
