"""What a hint gains, before and after: whether post-training changed what a model makes of help.

SPARKLE (arXiv 2506.04723) gives models a plan, the knowledge that a question needs, or a part of the problem, and finds
that plans harm a base on hard questions while a model trained by RL is robust, and that RL makes more of knowledge. The
gain of a hint is a question's own paired difference, and the sign is how training changed it:

    gain[h] = accuracy(question + h) − accuracy(question)          sign[h] = gain_after[h] − gain_before[h]

A hint is a text after the question, or the beginning of a worked solution, which the answer is forced to begin with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rlcircuits.answers.answer_file import Answers
from rlcircuits.comparison.paired_statistics import mean_intervals, signed_rank
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.vital_signs.counts import Counts, count_right
from rlcircuits.vital_signs.sign import LEVEL, Sign, Worse, not_measurable, paired_sign
from rlcircuits.vital_signs.studies import SPARKLE

__all__ = ["KINDS", "HintKind", "hint_gain_sign"]

HARMLESS = 0.05
"""A gain that is smaller, or a loss, by up to five points is no reason to worry."""


@dataclass(frozen=True)
class HintKind:
    """A kind of hint."""

    name: str
    """Name of the kind; of a text also its field in a file of hints."""
    share: float | None = None
    """Share of the worked solution's tokens that answers are forced to begin with; None for a text."""

    @property
    def field(self) -> str:
        """Return the field in a file of hints that it is made from."""
        return self.name if self.share is None else "solution"

    @property
    def slug(self) -> str:
        """Return the name without spaces and signs."""
        return self.name.rstrip("%").replace(" ", "_")

    @property
    def sign_name(self) -> str:
        """Return the name of the sign."""
        return f"hint_gain_{self.slug}"


KINDS = (
    HintKind("plan"),
    HintKind("knowledge"),
    HintKind("subproblem"),
    *(HintKind(f"prefix {share:.0%}", share) for share in (0.25, 0.5, 0.75)),
)
"""The hints that are measured, in order."""


def hint_gain_sign(
    kind: HintKind,
    plain: tuple[Answers, Answers],
    hinted: tuple[Answers, Answers],
    left_out: Mapping[str, int] | None = None,
) -> Sign:
    """Return how training changed what one kind of hint gains.

    - A prefix of a solution is in trouble where its gain fell by more than five points although accuracy without it did
      not rise by more: after can finish only what it began itself. Where accuracy rose by more, less is left to gain.
    - A plan is in trouble where it costs after more than five points, unless training made that better.
    - Knowledge and sub-problems are reported.

    Args:
        kind: the kind of hint.
        plain: before's and after's answers without a hint.
        hinted: their answers to the same questions with the hint.
        left_out: how many questions were left out, by the reason.
    """
    left_out = dict(left_out or {})
    counts = [count_right(answers) for answers in (*plain, *hinted)]
    name = kind.sign_name
    common = _common(counts)
    note = f"accuracy with the hint less accuracy without it{_left_out(left_out)}"
    if not common:
        return not_measurable(
            name, SPARKLE, "share", f"no question has an answer with and without the hint{_left_out(left_out)}"
        )
    plain_before, plain_after, with_before, with_after = (each.of(common).shares for each in counts)
    gain_before, gain_after = with_before - plain_before, with_after - plain_after
    details = {
        "accuracy": [float(plain_before.mean()), float(plain_after.mean())],
        "accuracy with the hint": [float(with_before.mean()), float(with_after.mean())],
        "left out": left_out,
    }
    worse: Worse | None = None if kind.share is None else "down"
    sign = paired_sign(
        name, SPARKLE, "share", note, gain_before, gain_after, worse=worse, threshold=HARMLESS, details=details
    )
    if kind.name == "plan":
        return _judged_plan(sign, gain_after)
    rise = float((plain_after - plain_before).mean())
    if kind.share is not None and rise > HARMLESS:
        why = f"accuracy without the hint rose by {100 * rise:.1f} points, so that less is left to gain"
        return replace(sign, outcome="reported", p=None, note=f"{note}; {why}")
    return sign


def _judged_plan(sign: Sign, gain: Float64Array) -> Sign:
    """Return the sign of a plan, judged by after's own gain."""
    low, high = mean_intervals({"gain": gain})["gain"]
    p = signed_rank(gain, "less")
    details = {**sign.details, "gain of after": [low, high]}
    harms = high < -HARMLESS and p < LEVEL
    if harms and sign.interval is not None and sign.interval[0] > 0:
        note = f"{sign.note}; the plan costs after more than {100 * HARMLESS:.0f} points, and before still more"
        return replace(sign, outcome="no alarm", p=p, note=note, details=details)
    if harms:
        note = f"{sign.note}; the plan costs after {-100 * float(gain.mean()):.1f} points"
        return replace(sign, outcome="trouble", p=p, note=note, details=details)
    return replace(sign, outcome="no alarm", p=p, details=details)


def _common(counts: Sequence[Counts]) -> tuple[str, ...]:
    """Return the questions that all have, in the order of the first."""
    shared = set.intersection(*(set(each.questions) for each in counts))
    return tuple(question for question in counts[0].questions if question in shared)


def _left_out(reasons: Mapping[str, int]) -> str:
    return "".join(f"; {count} left out: {reason}" for reason, count in reasons.items() if count)
