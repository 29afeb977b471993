from .answers.generate import Answer, Answers, Sampling, answer_questions
from .attribution.edge_attribution import EdgeScores, attribute
from .checkpoints.checkpoint import Checkpoint
from .comparison.comparison import Comparison, Effect, compare
from .checkpoints.noise import NoisedSource
from .common.errors import RLCircuitsError
from .comparison.verdict import PROFILES, Finding, Verdict, judge, profile_for, reads_as_online_rl
from .graph.edge_graph import EdgeGraph
from .graph.metrics import (
    activation_intensity,
    distribution_kurtosis,
    effective_edges,
    information_complexity,
    intensity_by_layer_band,
    intensity_by_reader_kind,
    intensity_over_loss,
    top_share,
)
from .comparison.pairing import Pairing, pair
from .release.pairs_file import Pair, load_pairs, load_pairs_file
from .release.run import Settings, run_pair, run_variants
from .answers.prompting import Prompting
from .questions import Question, QuestionSet, QuestionSource, load_questions
from .answers.recorded import recorded_answers
from .comparison.storage import load_comparison, save_comparison
from .report.plots import plot_comparison
from .report.terminal import summary_table
from .attribution.cache import attribute_stored
from .graph.sequences import AnswerSequence
from .checkpoints.source import CheckpointSource

__all__ = [
    "PROFILES",
    "Answer",
    "AnswerSequence",
    "Answers",
    "Checkpoint",
    "CheckpointSource",
    "Comparison",
    "EdgeGraph",
    "EdgeScores",
    "Effect",
    "Finding",
    "NoisedSource",
    "Pair",
    "Pairing",
    "Prompting",
    "Question",
    "QuestionSet",
    "QuestionSource",
    "RLCircuitsError",
    "Sampling",
    "Settings",
    "Verdict",
    "activation_intensity",
    "answer_questions",
    "attribute",
    "attribute_stored",
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
    "load_pairs_file",
    "load_questions",
    "pair",
    "plot_comparison",
    "profile_for",
    "reads_as_online_rl",
    "recorded_answers",
    "run_pair",
    "run_variants",
    "save_comparison",
    "summary_table",
    "top_share",
]
