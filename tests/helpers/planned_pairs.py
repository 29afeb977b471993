"""Make what a plan computes from, without a model: a measurement, and answers that are known before the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.synthetic_comparisons import answers_of
from rlcircuits.questions.loading import load_questions
from rlcircuits.release.measurement import Measurement
from rlcircuits.release.pair import make_pair
from rlcircuits.release.plan_store import KnownAnswers
from rlcircuits.release.settings import make_settings


def planned(
    asked: int = 400, n: int = 1, sampling: dict[str, Any] | None = None, folder: Path | None = None, **fields: Any
) -> Measurement:
    """Return the measurement of a pair of made-up checkpoints.

    Args:
        asked: number of questions asked.
        n: answers to each.
        sampling: further keys of the sampling.
        folder: the pair's folder of results.
        fields: fields of the pair; under ``settings`` a table of settings.
    """
    settings = make_settings(
        {**fields.pop("settings", {}), "sampling": {"max_new_tokens": 6, "n": n, **(sampling or {})}}
    )
    pair = make_pair(**{"name": "x", "before": "org/base", "after": "org/tuned", "algorithm": "grpo", **fields})
    before, after = pair.sources()
    questions = load_questions(pair.questions, split="test", count=asked)
    sources: Any = {"before": before, "after": after}
    return Measurement(pair, settings, sources, questions, folder, None, lambda _line: None, False)


def known_answers(right: list[bool], wanted: int | None = None, origin: str = "answers in the store") -> KnownAnswers:
    """Return one answer for each flag, of `wanted` in all (as many by default)."""
    return KnownAnswers(answers_of(right).items, len(right) if wanted is None else wanted, origin)
