"""Vital signs: what ten studies of post-training measure, on one pair of checkpoints, one file a sign.

- :mod:`~rlcircuits.vital_signs.from_answers`: those that graded answers alone give;
- :mod:`~rlcircuits.vital_signs.from_weights`: those of the update, read tensor by tensor;
- :mod:`~rlcircuits.vital_signs.from_log_probs`: those of both models' log-probabilities of both models' answers;
- :mod:`~rlcircuits.vital_signs.rollouts` and :mod:`~rlcircuits.vital_signs.rollout_summary`: what stored rollouts say;
- :mod:`~rlcircuits.vital_signs.sign`: what a sign is, and its outcomes; :mod:`~rlcircuits.vital_signs.gate`: which of
  them may fail a release.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
