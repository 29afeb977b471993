from .answers import Answer, Answers, Sampling, answer_questions
from .attribution import EdgeScores, attribute
from .checkpoint import Checkpoint
from .comparison import Comparison, Effect, compare
from .errors import RLCircuitsError
from .expectations import PROFILES, Finding, Verdict, judge, profile_for
from .graph import EdgeGraph
from .metrics import (
    activation_intensity,
    distribution_kurtosis,
    effective_edges,
    information_complexity,
    intensity_by_layer_band,
    intensity_by_reader_kind,
    intensity_over_loss,
    top_share,
)
from .pairing import Pairing, pair
from .pairs import Pair, load_pairs
from .pipeline import Settings, run_pair
from .questions import Question, QuestionSet, load_questions
from .report.json import load_comparison, save_comparison
from .report.plots import plot_comparison
from .report.terminal import summary_table
from .sequences import AnswerSequence

__all__ = [
    "PROFILES",
    "Answer",
    "AnswerSequence",
    "Answers",
    "Checkpoint",
    "Comparison",
    "EdgeGraph",
    "EdgeScores",
    "Effect",
    "Finding",
    "Pair",
    "Pairing",
    "Question",
    "QuestionSet",
    "RLCircuitsError",
    "Sampling",
    "Settings",
    "Verdict",
    "activation_intensity",
    "answer_questions",
    "attribute",
    "compare",
    "distribution_kurtosis",
    "effective_edges",
    "information_complexity",
    "intensity_by_layer_band",
    "intensity_by_reader_kind",
    "intensity_over_loss",
    "judge",
    "load_comparison",
    "load_pairs",
    "load_questions",
    "pair",
    "plot_comparison",
    "profile_for",
    "run_pair",
    "save_comparison",
    "summary_table",
    "top_share",
]
