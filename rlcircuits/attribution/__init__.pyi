from .attributed_metrics import AttributedMetric, MetricFunction
from .cache import attribute_stored
from .divergence import kl_to
from .edge_attribution import EdgeScores, attribute, attribute_batches, graph_of, plan_attribution
from .span_attribution import attribute_spans
from .token_difference import logit_diff

__all__ = [
    "AttributedMetric",
    "EdgeScores",
    "MetricFunction",
    "attribute",
    "attribute_batches",
    "attribute_spans",
    "attribute_stored",
    "graph_of",
    "kl_to",
    "logit_diff",
    "plan_attribution",
]
