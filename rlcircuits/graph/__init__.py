"""The edge graph, the sequences scored on it, their scores and the metrics: data and numpy, no model."""
