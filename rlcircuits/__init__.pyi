from .answers.answer_file import Answers
from .answers.generate import answer_questions
from .answers.prompting import Prompting
from .answers.recorded import recorded_answers
from .answers.types import Answer, Sampling
from .attribution.cache import attribute_stored
from .attribution.divergence import kl_to
from .attribution.edge_attribution import attribute
from .attribution.span_attribution import attribute_spans
from .attribution.stored_spans import attribute_spans_stored
from .attribution.token_difference import logit_diff
from .checkpoints.checkpoint import Checkpoint
from .checkpoints.noise import NoisedSource
from .checkpoints.source import CheckpointSource
from .circuits.ablated_forward import Ablated, ablated
from .circuits.circuit import Circuit
from .circuits.circuit_comparison import CircuitComparison, compare_circuits
from .circuits.cross_model import CrossFaithfulness, cross_faithfulness
from .circuits.exact import ExactEffects, exact_effects
from .circuits.faithfulness_curve import Faithfulness, faithfulness
from .circuits.select import find_circuit
from .common.errors import RLCircuitsError
from .comparison.comparison import Comparison
from .comparison.effects import Effect
from .comparison.from_scores import compare
from .comparison.pairing import Pairing, pair
from .comparison.profiles import PROFILES, profile_for
from .comparison.span_changes import SpanChanges, span_changes, strengthened_edges
from .comparison.storage import load_comparison, save_comparison
from .comparison.verdict import Finding, Verdict, judge, reads_as_online_rl
from .graph.answer_spans import AnswerSpans, answer_spans
from .graph.edge_graph import EdgeGraph
from .graph.edge_scores import EdgeScores
from .graph.how_scored import HowScored
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
from .graph.sequences import AnswerSequence
from .graph.span_scores import SpanScores
from .models.backward_rules import GIM, RELP
from .models.families import LatentNames, ModuleNames, register_family
from .questions.loading import load_questions
from .questions.question_set import Question, QuestionSet
from .questions.source import QuestionSource
from .release.pair import Pair
from .release.pairs_file import load_pairs, load_pairs_file
from .release.run import run_pair, run_variants
from .release.settings import Settings
from .release.verification import Verification, verify_results
from .report.pandas_tables import to_pandas
from .report.plots import plot_comparison
from .report.terminal import summary_table

__all__ = [
    "GIM",
    "PROFILES",
    "RELP",
    "Ablated",
    "Answer",
    "AnswerSequence",
    "AnswerSpans",
    "Answers",
    "Checkpoint",
    "CheckpointSource",
    "Circuit",
    "CircuitComparison",
    "Comparison",
    "CrossFaithfulness",
    "EdgeGraph",
    "EdgeScores",
    "Effect",
    "ExactEffects",
    "Faithfulness",
    "Finding",
    "HowScored",
    "LatentNames",
    "ModuleNames",
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
    "SpanChanges",
    "SpanScores",
    "Verdict",
    "Verification",
    "ablated",
    "activation_intensity",
    "answer_questions",
    "answer_spans",
    "attribute",
    "attribute_spans",
    "attribute_spans_stored",
    "attribute_stored",
    "compare",
    "compare_circuits",
    "cross_faithfulness",
    "distribution_kurtosis",
    "effective_edges",
    "exact_effects",
    "faithfulness",
    "find_circuit",
    "information_complexity",
    "intensity_by_layer_band",
    "intensity_by_reader_kind",
    "intensity_over_loss",
    "judge",
    "kl_to",
    "load_comparison",
    "load_pairs",
    "load_pairs_file",
    "load_questions",
    "logit_diff",
    "pair",
    "plot_comparison",
    "profile_for",
    "reads_as_online_rl",
    "recorded_answers",
    "register_family",
    "run_pair",
    "run_variants",
    "save_comparison",
    "span_changes",
    "strengthened_edges",
    "summary_table",
    "to_pandas",
    "top_share",
    "verify_results",
]
