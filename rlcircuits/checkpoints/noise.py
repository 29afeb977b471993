"""The noise control: the checkpoint before training, with the readout after training and noise on all else.

Damage to a model changes the metrics too, above all activation intensity. So the effect of training is compared with
the effect of an update of the same size that has learnt nothing (:mod:`rlcircuits.checkpoints.matched_noise`). Several
draws show how much the noise itself varies.

The readout, which is the final norm and the unembedding, gets no noise: each draw takes over ``after``'s
(:mod:`rlcircuits.checkpoints.readout`). What a change of the readout alone explains is no change of the layers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.matched_noise import RowUpdates, add_matched_noise, measure_updates
from rlcircuits.checkpoints.readout import Readout, graft_readout, is_tied, readout_of, readout_parameters, untie
from rlcircuits.checkpoints.source import Source, on_cpu, processor_of
from rlcircuits.checkpoints.unchanged import check_unchanged
from rlcircuits.common.arguments import validate_fields
from rlcircuits.common.files import short_name
from rlcircuits.common.reprs import elided_repr, short_repr
from rlcircuits.models.images import ImageProcessor
from rlcircuits.models.tensor_groups import Group, group_of

__all__ = ["NoisedSource"]


@dataclass(frozen=True, eq=False)
class _Updates:
    """What all draws of a pair share."""

    rows: Mapping[str, RowUpdates]
    """The updates of all parameters but the readout's."""
    readout: Readout
    """After's readout."""


# The last pair's updates, by the fingerprints of before and after, so that all its draws load after's weights once.
_known_updates: dict[tuple[str, str], _Updates] = {}


@dataclass(frozen=True)
class NoisedSource:
    """A :class:`Source`: ``before`` with ``after``'s readout, plus noise that matches the rest of the update.

    The readout is the final norm and the unembedding. Embeddings that are tied get noise, and the unembedding becomes a
    tensor of its own. :mod:`rlcircuits.checkpoints.matched_noise` says how the noise matches.
    """

    before: Source
    """The checkpoint that gets the noise."""
    after: Source
    """The checkpoint whose update gives the noise its size."""
    draw: int
    """The seed of the noise; the same number gives the same noise on every machine."""
    group: Group | None = None
    """The group of tensors that gets noise, or after's where they are of the readout; None for all."""

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
        kind = "noise that matches rescaling, readout of after"
        parts = (kind, self.before.fingerprint(), self.after.fingerprint(), str(self.draw), str(self.group))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def tokenizer(self) -> Any:
        """Return the tokenizer of ``before``."""
        return self.before.tokenizer()

    def processor(self) -> ImageProcessor:
        """Return the processor of images of ``before``."""
        return processor_of(self.before)

    def load(self) -> Checkpoint:
        """Load ``before``, and add the noise and the readout to it in place.

        Raises:
            RLCircuitsError: ``before`` and ``after`` differ in the names or shapes of their parameters.
        """
        key = (self.before.fingerprint(), self.after.fingerprint())  # before their files are read
        checkpoint = self.before.load()
        updates = self._updates(checkpoint, key)
        groups = None if self.group is None else {self.group}
        names = readout_parameters(checkpoint).items()
        add_matched_noise(checkpoint.model, updates.rows, self.draw, groups)
        graft_readout(checkpoint, updates.readout, {key for key, name in names if self.group in (None, group_of(name))})
        checkpoint.name = self.name
        return checkpoint

    def _updates(self, checkpoint: Checkpoint, key: tuple[str, str]) -> _Updates:
        """Return what all draws share, from ``before``, which is loaded, and ``after``; the key is their fingerprints.

        Raises:
            CheckpointChangedError: the files of one of them changed meanwhile.
        """
        if key not in _known_updates:
            # On the CPU, because the device may have memory for one model only.
            after = on_cpu(self.after).load()
            if is_tied(checkpoint) != is_tied(after):
                untie(checkpoint)
                untie(after)
            updates = _Updates(
                measure_updates(
                    checkpoint.model, after.model, self.before.name, self.after.name, without=_readout_alone(checkpoint)
                ),
                readout_of(after),
            )
            for source, fingerprint in zip((self.before, self.after), key, strict=True):
                check_unchanged(source, fingerprint)
            _known_updates.clear()  # the draws of one pair follow one another
            _known_updates[key] = updates
        return _known_updates[key]


def _readout_alone(checkpoint: Checkpoint) -> set[str]:
    """Return the names of the parameters that the readout uses and nothing else does."""
    embedding = checkpoint.model.get_input_embeddings().weight
    parameters = dict(checkpoint.model.named_parameters())
    return {name for name in readout_parameters(checkpoint).values() if parameters[name] is not embedding}
