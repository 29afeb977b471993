"""What the vital signs of a pair take: answers to generate, tokens to read in one forward, weights to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlcircuits.release.measurement import Measurement
from rlcircuits.release.plan_work import Cost
from rlcircuits.vital_signs.hints import KINDS

__all__ = ["SignCost", "sign_costs"]


@dataclass(frozen=True)
class SignCost:
    """What the signs of one source take, of one pair."""

    source: str
    """A key of :data:`rlcircuits.vital_signs.names.MEASURED_FROM`."""
    cost: Cost
    """Its answers are generated anew; its scored answers are read in one forward, without gradients."""
    weight_bytes: int | None = 0
    """Bytes of weights that are read for them alone; None if a checkpoint's size is not known."""


def sign_costs(measurement: Measurement, prompts: Sequence[int], weight_bytes: int | None) -> tuple[SignCost, ...]:
    """Return what the signs of a measured pair take, source by source.

    Answers are assumed to be as long as allowed, and every question to have each kind of hint. The length of the hints
    is not known.

    Args:
        measurement: the pair, with the longest answer filled in.
        prompts: the number of tokens of each prompt; empty if the tokenizer cannot be loaded.
        weight_bytes: bytes of both checkpoints' weights; None if that is not known.
    """
    settings, questions = measurement.settings, measurement.questions
    longest, n = settings.sampling.max_new_tokens, settings.sampling.n
    assert longest is not None, "make_plan has chosen it"
    once = len(questions) * n

    def generated(models: int, times: int) -> Cost:
        return Cost(models, times * once, 0, times * once * longest, 0, 0)

    # Each of two models reads both models' answers.
    read_tokens = 4 * (n * sum(prompts) + once * longest) if prompts else None
    recorded = any(file is not None for file in measurement.recorded.values())  # nothing is answered anew then
    draws = settings.noise_draws
    return (
        SignCost("answers", Cost(0, 0, 0, 0, 0, 0)),
        SignCost("weights", Cost(0, 0, 0, 0, 0, 0), weight_bytes),
        SignCost("log-probabilities", Cost(2, 0, 0, 0, 4 * once, read_tokens)),
        SignCost("hints", generated(2, 0 if recorded else 2 * len(KINDS))),
        SignCost("flatness", generated(2 * draws, 0 if recorded else 2 * draws)),
        SignCost("rank-1", generated(1, 0 if recorded else 1)),
    )
