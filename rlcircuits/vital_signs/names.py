"""The names of all signs that ``rlcircuits signs`` tells, and what each can be judged by.

They are known before anything is measured, so that a gate or a threshold without effect is refused at once.
"""

from __future__ import annotations

__all__ = ["JUDGED", "LOSSES", "SIGNS", "WITHOUT_INTERVAL"]

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

WITHOUT_INTERVAL = frozenset(
    {"lost_questions", "classifier_share", "rank1_share", "rank1_excess", "stable_rank", "update_cosine"}
)
"""Signs that never have an interval, which a stated threshold is compared with."""

SIGNS = (
    JUDGED
    | WITHOUT_INTERVAL
    | {
        "silent_share",
        "signal_left",
        "hard_solved",
        "right_length",
        "format_drift",
        "format_excess",
        "wrong_down",
        "new_mass",
        "importance_accuracy",
        "kl_per_point",
        "feature_similarity",
        "reopening",
        "hint_gain_knowledge",
        "hint_gain_subproblem",
        "rank1_recovery",
    }
)
"""Every sign."""
