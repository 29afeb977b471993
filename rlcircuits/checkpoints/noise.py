"""The noise control: the checkpoint before training, plus noise that matches the weight update.

Damage to a model changes the metrics too, above all activation intensity. So the effect of training is compared with
the effect of an update of the same size that has learnt nothing (:mod:`rlcircuits.checkpoints.matched_noise`). Several
draws show how much the noise itself varies.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.matched_noise import RowUpdates, add_matched_noise, measure_updates
from rlcircuits.checkpoints.source import Source, on_cpu
from rlcircuits.common.arguments import validate_fields
from rlcircuits.common.files import short_name
from rlcircuits.common.reprs import elided_repr, short_repr
from rlcircuits.models.tensor_groups import Group

# The last pair's updates, by the fingerprints of before and after, so that all its draws load after's weights once.
_known_updates: dict[tuple[str, str], dict[str, RowUpdates]] = {}


@dataclass(frozen=True)
class NoisedSource:
    """A :class:`Source`: ``before`` plus noise that matches the update to ``after``, row by row.

    :mod:`rlcircuits.checkpoints.matched_noise` says how.
    """

    before: Source
    """The checkpoint that gets the noise."""
    after: Source
    """The checkpoint whose update gives the noise its size."""
    draw: int
    """The seed of the noise; the same number gives the same noise on every machine."""
    group: Group | None = None
    """The group of tensors that gets noise; None for all."""

    def __post_init__(self) -> None:
        validate_fields(self)

    def __repr__(self) -> str:
        before, after = elided_repr(self.before.name), elided_repr(self.after.name)
        return short_repr(self, before, f"noise {self.draw}{self._on}", f"of {after}")

    @property
    def name(self) -> str:
        """The name of ``before``, the draw's number, and the short name of ``after``."""
        return f"{self.before.name} + noise {self.draw}{self._on} of {short_name(self.after.name)}"

    @property
    def _on(self) -> str:
        return "" if self.group is None else f" on {self.group}"

    @property
    def context_length(self) -> int | None:
        """The context length of ``before``, or None if it is not known before loading."""
        return getattr(self.before, "context_length", None)

    def fingerprint(self) -> str:
        """Return the hex sha256 of both checkpoints' fingerprints, the draw and the group."""
        parts = ("matched noise", self.before.fingerprint(), self.after.fingerprint(), str(self.draw), str(self.group))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def tokenizer(self) -> Any:
        """Return the tokenizer of ``before``."""
        return self.before.tokenizer()

    def load(self) -> Checkpoint:
        """Load ``before`` and add the noise to it in place.

        Raises:
            RLCircuitsError: ``before`` and ``after`` differ in the names or shapes of their parameters.
        """
        checkpoint = self.before.load()
        key = (self.before.fingerprint(), self.after.fingerprint())
        if key not in _known_updates:
            # On the CPU, because the device may have memory for one model only.
            after = on_cpu(self.after).load()
            _known_updates.clear()  # the draws of one pair follow one another
            _known_updates[key] = measure_updates(checkpoint.model, after.model, self.before.name, self.after.name)
        groups = None if self.group is None else {self.group}
        add_matched_noise(checkpoint.model, _known_updates[key], self.draw, groups)
        checkpoint.name = self.name
        return checkpoint
