from .ablated_forward import Ablated, ablated
from .baselines import RandomCircuits, auroc, random_circuits
from .changed_edges import ChangedEdge, ChangedEdges
from .circuit import Circuit
from .circuit_comparison import CircuitComparison, compare_circuits
from .corruptions import other_sequences
from .cross_model import CrossFaithfulness, cross_faithfulness
from .estimates import Agreement, EstimateQuality, estimate_quality
from .exact import ExactEffects, exact_effects
from .faithfulness_curve import MIB_SIZES, Faithfulness, faithfulness
from .logit_metrics import answers_kept, kl_divergence, log_probability, logit_difference
from .overlap import Overlap
from .select import find_circuit

__all__ = [
    "MIB_SIZES",
    "Ablated",
    "Agreement",
    "ChangedEdge",
    "ChangedEdges",
    "Circuit",
    "CircuitComparison",
    "CrossFaithfulness",
    "EstimateQuality",
    "ExactEffects",
    "Faithfulness",
    "Overlap",
    "RandomCircuits",
    "ablated",
    "answers_kept",
    "auroc",
    "compare_circuits",
    "cross_faithfulness",
    "estimate_quality",
    "exact_effects",
    "faithfulness",
    "find_circuit",
    "kl_divergence",
    "log_probability",
    "logit_difference",
    "other_sequences",
    "random_circuits",
]
