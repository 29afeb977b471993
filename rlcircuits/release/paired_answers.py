"""Pair the answers of a measurement's two models by its settings."""

from __future__ import annotations

from collections.abc import Mapping

from rlcircuits.answers.answer_file import Answers
from rlcircuits.checkpoints.source import check_same_vocabulary
from rlcircuits.common.stage_times import stage
from rlcircuits.comparison import pairing
from rlcircuits.comparison.comparison import Unfinished
from rlcircuits.comparison.funnel import show_funnel
from rlcircuits.comparison.pairing import Pairing
from rlcircuits.release.early_stop import evidence
from rlcircuits.release.measurement import Measurement

__all__ = ["pair_answers"]


@stage("pair")
def pair_answers(measurement: Measurement, before: Answers, after: Answers) -> Pairing:
    """Pair the two models' answers, and log the funnel; with too few questions left, return a pairing of none."""
    settings = measurement.settings
    try:
        paired = pairing.pair(
            before,
            after,
            alpha=settings.alpha,
            k=settings.k,
            balance=settings.balance,
            seed=settings.seed,
            min_questions=settings.min_questions,
            score_on=settings.score_on,
            gold=_gold_ids(measurement) if settings.score_on == "gold" else None,
        )
    except pairing.TooFewQuestionsError as error:
        found = evidence({"before": before, "after": after}, measurement.questions, measurement.folder)
        measurement.log(f"{error}; the metrics are not measured; {found}")
        return error.pairing
    if settings.score_on != "own":
        # Both models are scored on the same token ids, which must then mean the same to both.
        used = {token for sequence in paired.before for token in sequence.answer_ids}
        check_same_vocabulary(measurement.sources["before"], measurement.sources["after"], used)
    funnel, unfinished = show_funnel(paired.funnel), Unfinished.of(before, after).words
    measurement.log(f"{funnel}; unfinished {unfinished}; the first {paired.t_cut} tokens are scored")
    return paired


def _gold_ids(measurement: Measurement) -> Mapping[str, list[int]]:
    """Return the token ids of each question's gold answer."""
    tokenizer = measurement.sources["before"].tokenizer()
    questions = measurement.questions.questions
    return {question.id: tokenizer(question.gold, add_special_tokens=False)["input_ids"] for question in questions}
