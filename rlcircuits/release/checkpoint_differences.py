"""Say what differs between a pair's checkpoints before any model runs."""

from __future__ import annotations

from rlcircuits.checkpoints.comparability import comparability_warnings
from rlcircuits.checkpoints.compare_weights import compare_weights
from rlcircuits.checkpoints.source import CheckpointSource, Source, check_same_architecture, check_same_vocabulary
from rlcircuits.checkpoints.weight_change_lines import change_count_line
from rlcircuits.checkpoints.weight_changes import WeightChanges
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models.config_layers import check_nodes
from rlcircuits.models.folder import load_config
from rlcircuits.release.measurement import Measurement


def compare_checkpoints(measurement: Measurement) -> tuple[WeightChanges, tuple[str, ...]]:
    """Return what differs between the two checkpoints' weights and files, and log it.

    Raises:
        RLCircuitsError: no weight differs, and the settings do not ask to measure such a pair; the supervised control
            is no checkpoint of the same base; or the settings ask for nodes that the model's graph does not have.
    """
    before, after = measurement.sources.values()
    _check_nodes(before, measurement.settings.granularity)
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


def check_alike(measurement: Measurement) -> None:
    """Raise RLCircuitsError, by configs and tokenizers alone, for two checkpoints that are not of one kind."""
    before, after = measurement.sources.values()
    if isinstance(before, CheckpointSource) and isinstance(after, CheckpointSource):
        check_same_architecture(before, after)
    check_same_vocabulary(before, after)


def _check_nodes(source: Source, granularity: str) -> None:
    """Raise RLCircuitsError, before any answer is made, for heads or experts of a model whose graph has none."""
    if granularity == "sublayer" or not isinstance(source, CheckpointSource):
        return
    config = load_config(source.model_folder, trust_remote_code=source.trust_remote_code)
    check_nodes(source.name, config, granularity)
