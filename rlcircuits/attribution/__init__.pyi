from .cache import attribute_stored
from .edge_attribution import EdgeScores, attribute, attribute_batches, graph_of, plan_attribution

__all__ = ["EdgeScores", "attribute", "attribute_batches", "attribute_stored", "graph_of", "plan_attribution"]
