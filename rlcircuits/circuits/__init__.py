"""Circuits: the edges that carry an answer, found, removed and compared.

- :mod:`~rlcircuits.circuits.ablated`: the model's own forward with edges replaced.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
