"""Measure the vital signs of a measured pair, and keep them in its folder of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlcircuits.common.failures import Failure, describe_failure
from rlcircuits.release.pair import Pair
from rlcircuits.release.pair_signs import measure_pair_signs
from rlcircuits.release.settings import Settings
from rlcircuits.release.stored_signs import SIGNS_FILE, PairSigns, save_signs

__all__ = ["how_to_run", "measure_and_save_signs", "try_to_measure_signs"]


def how_to_run(pair: Pair, settings: Settings) -> dict[str, Any]:
    """Return how a pair's models are run, as arguments of :func:`~rlcircuits.release.pair_signs.measure_pair_signs`."""
    device = None if pair.device_map else settings.device
    return {"batch_tokens": settings.batch_tokens, "device": device, "device_map": pair.device_map}


def measure_and_save_signs(folder: Path, problems: list[Failure], **how: Any) -> PairSigns:
    """Measure the signs of a pair, write them to its folder of results, and return them.

    Args:
        folder: the pair's folder of results.
        problems: gets a failure if they cannot be written; they are returned all the same.
        how: further arguments of :func:`~rlcircuits.release.pair_signs.measure_pair_signs`.

    Raises:
        RLCircuitsError: as :func:`~rlcircuits.release.pair_signs.measure_pair_signs`.
    """
    found = measure_pair_signs(folder, **how)
    try:
        save_signs(found, folder)
    except OSError as error:
        problems.append(Failure(f"{folder / SIGNS_FILE}: cannot be written: {error.strerror or error}"))
    return found


def try_to_measure_signs(
    pair: Pair, settings: Settings, output: str | Path, problems: list[Failure], **how: Any
) -> PairSigns | None:
    """Measure and keep the signs of a measured pair; None if they cannot be measured.

    Args:
        pair: the pair.
        settings: how it was measured.
        output: the run's output folder, which the pair's folder of results is in.
        problems: gets what went wrong, so that other results are told all the same.
        how: further arguments of :func:`~rlcircuits.release.pair_signs.measure_pair_signs`.
    """
    try:
        return measure_and_save_signs(Path(output) / pair.name, problems, **how_to_run(pair, settings), **how)
    except BrokenPipeError:  # the reader of the messages has gone
        raise
    except Exception as error:
        problems.append(describe_failure(error, output).of(f"signs of {pair.name!r}"))
        return None
