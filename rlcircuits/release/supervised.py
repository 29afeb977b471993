"""The supervised control of a pair, as a pair of its own: before → a checkpoint of the same base trained without RL.

It is measured with the same settings and the same store, so that before's answers are made once. It needs neither a
noise control nor accuracy at temperature 0, and all questions that pass the protocol are compared, so that it has as
many as possible of the pair's. Its results lie in the folder ``control`` within the pair's.
"""

from __future__ import annotations

from dataclasses import replace

from rlcircuits.common import defaults
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.release.measurement import Measurement
from rlcircuits.release.pair import Pair
from rlcircuits.release.settings import Settings

FOLDER = "control"
"""Name of the control's folder of results within the pair's, and of the pair that it is."""

_ALGORITHM = "sft"
"""Stands for any training without RL."""


def check_control(measurement: Measurement) -> None:
    """Raise RLCircuitsError if the supervised control is one of the pair's own checkpoints."""
    if (control := measurement.control) is None:
        return
    for side, source in measurement.sources.items():
        if source.fingerprint() == control.fingerprint():
            raise RLCircuitsError(
                f"the supervised control {control.name} is the same checkpoint as {side}, {source.name}; name one that "
                f"was trained from before without RL"
            )


def control_pair(pair: Pair) -> Pair:
    """Return before and the supervised control as a pair with the same questions, and no claims."""
    left_out = ("profile", "accuracy", "margin", "claimed_accuracy", "reference", "control", "pool", "circuits")
    changes: dict[str, object] = {
        **dict.fromkeys((*left_out, "revision_after", "recorded_after")),
        "name": FOLDER,
        "after": pair.control,
        "algorithm": _ALGORITHM,
        "does_not_hold": {},
    }
    return pair.model_copy(update=changes)


def control_settings(settings: Settings) -> Settings:
    """Return the settings of the control's measurement."""
    return replace(
        settings,
        k=None,
        noise_draws=0,
        noise_groups=False,
        noise_if_needed=defaults.NOISE_IF_NEEDED,
        greedy=False,
        positions=defaults.POSITIONS,
        step_end=None,
    )
