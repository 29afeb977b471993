"""The edge graph, the sequences scored on it, their scores and the metrics: data and numpy, no model."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
