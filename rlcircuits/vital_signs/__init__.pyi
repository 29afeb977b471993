from .boundary import PassAtKBand, all_of_k, pass_at_k, pass_at_k_band
from .counts import Counts, common_counts, count_right
from .coverage import coverage_at_k, right_paths
from .formats import by_patterns, skeleton
from .from_answers import answer_signs
from .from_log_probs import PairTables, SideTables, log_prob_signs, score_both_sides
from .from_weights import weight_signs
from .gate import GATED, failing_signs
from .log_prob_table import AnswerLogProbs
from .rank_one_recovery import rank1_recovery
from .rank_one_source import RankOneSource
from .rollout_reopening import rollout_reopening
from .rollout_summary import RolloutSummary, summarize_rollouts
from .rollouts import Rollout, load_rollouts
from .sign import Sign, beyond_noise, paired_sign, with_threshold
from .silent_groups import signal_left, silent_share
from .token_log_probs import answer_log_probs
from .training_path import linearity

__all__ = [
    "GATED",
    "AnswerLogProbs",
    "Counts",
    "PairTables",
    "PassAtKBand",
    "RankOneSource",
    "Rollout",
    "RolloutSummary",
    "SideTables",
    "Sign",
    "all_of_k",
    "answer_log_probs",
    "answer_signs",
    "beyond_noise",
    "by_patterns",
    "common_counts",
    "count_right",
    "coverage_at_k",
    "failing_signs",
    "linearity",
    "load_rollouts",
    "log_prob_signs",
    "paired_sign",
    "pass_at_k",
    "pass_at_k_band",
    "rank1_recovery",
    "right_paths",
    "rollout_reopening",
    "score_both_sides",
    "signal_left",
    "silent_share",
    "skeleton",
    "summarize_rollouts",
    "weight_signs",
    "with_threshold",
]
