"""The names of all signs that ``rlcircuits signs`` tells of a pair, what each is measured from, and what judges it.

They are known before anything is measured, so that a gate or a threshold without effect is refused at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["JUDGED", "LOSSES", "MEASURED_FROM", "SIGNS", "WITHOUT_INTERVAL"]

MEASURED_FROM: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "answers": (
            "accuracy",
            "pass@k",
            "coverage@k",
            "lost_questions",
            "silent_share",
            "signal_left",
            "hard_solved",
            "step_accuracy",
            "wrong_steps",
            "length_gap",
            "right_length",
            "unfinished",
            "format_drift",
            "effective_formats",
            "format_excess",
        ),
        "weights": ("classifier_share", "rank1_share", "rank1_excess", "stable_rank", "update_cosine"),
        "log-probabilities": (
            "right_up",
            "wrong_down",
            "new_mass",
            "importance_accuracy",
            "kl_per_point",
            "unearned_confidence",
            "feature_similarity",
            "reopening",
        ),
        "hints": (
            "hint_gain_plan",
            "hint_gain_knowledge",
            "hint_gain_subproblem",
            "hint_gain_prefix_25",
            "hint_gain_prefix_50",
            "hint_gain_prefix_75",
        ),
        "flatness": ("flatness",),
        "rank-1": ("rank1_recovery",),
    }
)
"""What is read for signs, and their names in the order in which they are told: the graded answers, the weights, both
models' log-probabilities of all answers, and what ``--answer-anew`` lets the models answer."""

SIGNS = frozenset(name for names in MEASURED_FROM.values() for name in names)
"""Every sign."""

JUDGED = frozenset(
    {
        "accuracy",
        "pass@k",
        "lost_questions",
        "step_accuracy",
        "wrong_steps",
        "length_gap",
        "unfinished",
        "effective_formats",
        "right_up",
        "unearned_confidence",
        "flatness",
        "hint_gain_plan",
        "hint_gain_prefix_25",
        "hint_gain_prefix_50",
        "hint_gain_prefix_75",
    }
)
"""Signs that have a rule of their own, so that they can be in trouble without a stated threshold."""

LOSSES = frozenset({"accuracy", "pass@k", "lost_questions"})
"""Signs of what the model after can no longer do. Noise draws stand beside them and excuse nothing: they repeat what a
change of the readout or a rescaling does, so that damage of that kind would always be within them."""

WITHOUT_INTERVAL = frozenset({"lost_questions", *MEASURED_FROM["weights"]})
"""Signs that never have an interval, which a stated threshold is compared with."""
