"""Compare two checkpoints: pair their answers, compare their scores, and judge the result.

- :mod:`~rlcircuits.comparison.pairing`: from two checkpoints' answers to the sequences that are scored;
- :mod:`~rlcircuits.comparison.from_scores`: from edge scores and answers to a comparison;
- :mod:`~rlcircuits.comparison.verdict`: whether the comparison shows what its profile asserts;
- :mod:`~rlcircuits.comparison.storage`: comparisons as JSON.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
