"""Say what differs between a pair's checkpoints before any model runs."""

from __future__ import annotations

from rlcircuits.checkpoints.comparability import comparability_warnings
from rlcircuits.checkpoints.compare_weights import compare_weights
from rlcircuits.checkpoints.weight_change_lines import change_count_line
from rlcircuits.checkpoints.weight_changes import WeightChanges
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.release.measurement import Measurement


def compare_checkpoints(measurement: Measurement) -> tuple[WeightChanges, tuple[str, ...]]:
    """Return what differs between the two checkpoints' weights and files, and log it.

    Raises:
        RLCircuitsError: no weight differs, and the settings do not ask to measure such a pair; or the supervised
            control is no checkpoint of the same base.
    """
    before, after = measurement.sources.values()
    weights = compare_weights(before, after, measurement.control)
    differences = comparability_warnings(before, after)
    for line in (change_count_line(weights), *differences):
        measurement.log(line)
    if not weights.changed and not measurement.settings.measure_unchanged:
        raise RLCircuitsError(
            f"no weight differs between {before.name} and {after.name}, so there is no update to measure; name "
            f"another checkpoint, or measure them all the same with measure_unchanged = true (--measure-unchanged)"
        )
    return weights, differences
