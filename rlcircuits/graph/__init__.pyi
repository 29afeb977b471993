from .edge_graph import EdgeGraph, build_graph
from .edge_scores import EdgeScores
from .sequences import AnswerSequence

__all__ = ["AnswerSequence", "EdgeGraph", "EdgeScores", "build_graph"]
