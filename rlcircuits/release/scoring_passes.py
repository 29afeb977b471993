"""What scoring a sequence takes, as multiples of plain attribution: one forward and one backward."""

from __future__ import annotations

from rlcircuits.attribution.options import Estimator
from rlcircuits.release.settings import Settings

_FORWARD = 0.5
"""A forward alone. The backward goes to activations only, and costs about as much."""


def passes(settings: Settings, counterfactuals: bool) -> float:
    """Return how many forwards and backwards of attribution a sequence takes.

    Counted are the points at which gradients are taken, the ends of the path that are none of them, and the other
    model's forward for ``kl``. The contraction, which is the same for all, and the hotter softmax are left out.

    Args:
        settings: how edges are scored.
        counterfactuals: whether questions have counterfactuals, so that edges are patched.
    """
    points = Estimator(method=settings.method, steps=settings.steps, points=settings.points).alphas()
    ends = {0.0, 1.0} if counterfactuals else {1.0}
    alone = len(ends - set(points)) + (settings.metric == "kl")
    return len(points) + _FORWARD * alone
