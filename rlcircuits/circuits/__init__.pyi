from .ablated import Ablated, ablated
from .baselines import RandomCircuits, auroc, random_circuits
from .circuit import Circuit
from .exact import ExactEffects, exact_effects
from .faithfulness import MIB_SIZES, Faithfulness, faithfulness
from .metrics import answers_kept, kl_divergence, log_probability, logit_difference
from .select import find_circuit

__all__ = [
    "MIB_SIZES",
    "Ablated",
    "Circuit",
    "ExactEffects",
    "Faithfulness",
    "RandomCircuits",
    "ablated",
    "answers_kept",
    "auroc",
    "exact_effects",
    "faithfulness",
    "find_circuit",
    "kl_divergence",
    "log_probability",
    "logit_difference",
    "random_circuits",
]
