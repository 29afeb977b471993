"""Circuits: the edges that carry an answer, found, removed and compared.

- :mod:`~rlcircuits.circuits.select`: from edge scores to a circuit, and :mod:`~rlcircuits.circuits.circuit`, its file;
- :mod:`~rlcircuits.circuits.ablated_forward`: the model's own forward with edges removed;
- :mod:`~rlcircuits.circuits.faithfulness_curve`: how much of what the model does its circuit does, as MIB measures it,
  with the baselines of :mod:`~rlcircuits.circuits.baselines`;
- :mod:`~rlcircuits.circuits.exact`: the exact effect of removing single edges, and how well scores estimate it
  (:mod:`~rlcircuits.circuits.estimates`);
- :mod:`~rlcircuits.circuits.circuit_comparison`: what two checkpoints' circuits have in common, and which edges
  changed; :mod:`~rlcircuits.circuits.cross_model`: whether one's circuit carries the other's answers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
