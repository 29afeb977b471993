"""The metrics, under the path they had before they moved to graph/metrics."""

from rlcircuits.graph.metrics import *  # noqa: F403
from rlcircuits.graph.metrics import __all__ as __all__
