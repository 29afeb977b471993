from .comparison import CONTROL_METRICS, LABELS, Comparison, ControlDraw, Group, Unfinished
from .effects import AccuracyEffect, ControlEffect, Effect, Number, compare_accuracy, paired_effect
from .from_scores import Control, check_same_graph, compare
from .paired_statistics import signed_rank
from .storage import load_comparison, save_comparison
from .verdict import Finding, Verdict, judge, reads_as_online_rl

__all__ = [
    "CONTROL_METRICS",
    "LABELS",
    "AccuracyEffect",
    "Comparison",
    "Control",
    "ControlDraw",
    "ControlEffect",
    "Effect",
    "Finding",
    "Group",
    "Number",
    "Unfinished",
    "Verdict",
    "check_same_graph",
    "compare",
    "compare_accuracy",
    "judge",
    "load_comparison",
    "paired_effect",
    "reads_as_online_rl",
    "save_comparison",
    "signed_rank",
]
