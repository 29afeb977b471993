"""Whether training moved along a straight line, by its stored checkpoints, beside what a random walk looks like.

"On Predictability of RL Dynamics in LLMs" (arXiv 2510.00553) finds that the first singular direction of the update
moves linearly, in-sample. In so many dimensions a few points fit almost anything, and the first component of a random
walk is monotone in time. So the fit is judged on points that it has not seen, and beside random walks:

1. For each checkpoint t and weight matrix of attention and MLP, ΔW_t = W_t − W_before, and its first direction with its
   length, x_t = σ1(t) u1(t). The sign of u1 is arbitrary: it is chosen for a positive product with the next
   checkpoint's, from the last one back.
2. Leave one checkpoint out, fit x = a + b · step to the others by least squares, predict the one left out:
   R² = 1 − Σ_t ‖x_t − x̂_t‖² / Σ_t ‖x_t − x̄‖², summed over matrices, where x̂_t and the mean x̄ are of the others.
3. A random walk takes Gaussian steps of the same Frobenius norms between the same checkpoints, matrix by matrix. p is
   the share of walks, the measured path counted among them, whose R² is at least as high.

A straight line has R² = 1. Before itself is no point of the path: there ΔW = 0 has no direction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from rlcircuits.checkpoints.aligned_weights import align_weights, check_finite, open_readers
from rlcircuits.checkpoints.parameters import seeded_generator
from rlcircuits.checkpoints.source import Source
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.models.weight_matrices import matrix_places
from rlcircuits.vital_signs.sign import Sign, not_measurable, reported
from rlcircuits.vital_signs.singular import frobenius_norm, top_singular
from rlcircuits.vital_signs.studies import ALPHA_RL
from rlcircuits.vital_signs.weight_updates import subtract

__all__ = ["FEWEST_CHECKPOINTS", "WALKS", "check_steps", "linearity"]

NAME, UNIT = "linearity", "R²"

FEWEST_CHECKPOINTS = 5
"""Fewest checkpoints of a training: with fewer, a line that leaves one out has hardly more points than parameters."""

WALKS = 19
"""Random walks, numbered from 0; the smallest p is 1/20."""


@validate_arguments
def linearity(before: Source, path: Sequence[Source], steps: Sequence[float], *, walks: int = WALKS) -> Sign:
    """Return how straight the path of a training is, as a sign that is only reported.

    R² and the random walks are those of this module. Checkpoints are read side by side, a weight at a time; a walk
    costs as many singular values as the path itself.

    Args:
        before: the checkpoint before training.
        path: checkpoints along one training from ``before``, at least :data:`FEWEST_CHECKPOINTS`, in order.
        steps: the training step of each, rising.
        walks: the number of random walks.

    Returns:
        The sign. Its change is R², at most 1; ``noise`` has that of each random walk, and ``p`` says how rare it is.

    Raises:
        RLCircuitsError: there are too few checkpoints or not one step for each, steps do not rise, a weight of
            attention or MLP is not in all of them in one shape, or a file is damaged.
    """
    check_steps(path, steps)
    times = np.asarray(steps, dtype=np.float64)
    measured, simulated = _Residuals(), [_Residuals() for _ in range(walks)]
    for name, updates in _matrix_paths([before, *path]):
        if not any(update.any() for update in updates):
            continue
        measured.add(_first_directions(updates), times)
        norms = _step_norms(updates)
        for number, walk in enumerate(simulated):
            walk.add(_first_directions(_random_walk(name, updates[0], norms, number)), times)
    if not measured.total:
        why = "the first direction of the update is the same at every checkpoint, so there is no path"
        return not_measurable(NAME, ALPHA_RL, UNIT, why)
    found, noise = measured.r2, tuple(walk.r2 for walk in simulated)
    expected = f"random walks have {min(noise):.3f} to {max(noise):.3f}" if noise else "no random walk was simulated"
    return reported(
        NAME,
        ALPHA_RL,
        UNIT,
        f"a straight line predicts a left-out checkpoint's first directions with R² {found:.3f}; {expected}",
        change=found,
        noise=noise,
        p=(1 + sum(each >= found for each in noise)) / (1 + len(noise)) if noise else None,
        details={"checkpoints": len(path), "steps": [float(step) for step in steps], "matrices": measured.matrices},
    )


class _Residuals:
    """Squared distances of the left-out points from the line and from the mean, summed over matrices."""

    def __init__(self) -> None:
        self.residual = self.total = 0.0
        self.matrices = 0

    def add(self, points: Float64Array, times: Float64Array) -> None:
        """Add one matrix's path, float64 [checkpoints, rows], at these times [checkpoints]."""
        for left_out in range(len(times)):
            others = np.arange(len(times)) != left_out
            mean, middle = points[others].mean(0), times[others].mean()
            offsets = times[others] - middle
            slope = offsets @ (points[others] - mean) / (offsets @ offsets)
            off = points[left_out] - mean
            self.residual += float(np.square(off - slope * (times[left_out] - middle)).sum())
            self.total += float(np.square(off).sum())
        self.matrices += 1

    @property
    def r2(self) -> float:
        """Return 1 − residual / total."""
        return 1 - self.residual / self.total


def check_steps(path: Sequence[object], steps: Sequence[float]) -> None:
    """Raise RLCircuitsError unless there are enough checkpoints, and a step for each, which rise."""
    if len(path) < FEWEST_CHECKPOINTS:
        raise RLCircuitsError(
            f"linearity of {len(path)} checkpoints; at least {FEWEST_CHECKPOINTS} along one training are wanted"
        )
    if len(steps) != len(path):
        raise RLCircuitsError(f"path steps: {len(path)} checkpoints and {len(steps)} steps; one step each is wanted")
    if not np.isfinite(steps).all() or any(later <= step for step, later in pairwise(steps)):
        raise RLCircuitsError(f"path steps are {list(steps)}; finite numbers that rise are wanted")


def _matrix_paths(sources: Sequence[Source]) -> Iterator[tuple[str, list[Tensor]]]:
    """Yield each matrix's name and its ΔW at each checkpoint after the first source. All weights must be finite."""
    with ExitStack() as opened:
        readers = open_readers(sources, opened)
        for weight in align_weights(readers):
            shape = next(shape for shape in weight.shapes if shape is not None)
            places = matrix_places(weight.key, shape, readers[0].config)
            if not weight.matches:
                if not places:
                    continue
                unlike = next(i for i, found in enumerate(weight.shapes) if found is None or found != weight.shapes[0])
                raise RLCircuitsError(
                    f"{sources[unlike].name} is on no training path of {sources[0].name}: weight {weight.key} is not "
                    f"in both in one shape; checkpoints of one training are wanted"
                )
            before, *path = weight.read()
            check_finite([source.name for source in sources], weight.key, [before, *path])
            for place in places:
                old = place.take(before)
                yield f"{weight.key} {place.name}", [subtract(old, place.take(new)) for new in path]


def _first_directions(updates: Sequence[Tensor]) -> Float64Array:
    """Return σ1 u1 of each matrix, float64 [matrices, rows], with signs that follow from the last one back."""
    points = np.stack([(top.value * top.left.double()).numpy() for top in map(top_singular, updates)])
    for earlier in range(len(points) - 2, -1, -1):
        if points[earlier] @ points[earlier + 1] < 0:
            points[earlier] *= -1
    return points


def _step_norms(updates: Sequence[Tensor]) -> list[float]:
    """Return the Frobenius norm of each step of a path that starts at zero."""
    return [frobenius_norm(updates[0]), *(frobenius_norm(new - old) for old, new in pairwise(updates))]


def _random_walk(name: str, like: Tensor, norms: Sequence[float], number: int) -> list[Tensor]:
    """Return the points of a walk from zero in Gaussian steps of these norms, which follow from name and number."""
    generator = seeded_generator(f"random walk {number}\n{name}")
    points, place = [], torch.zeros_like(like)
    for norm in norms:
        step = torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like.dtype)
        place = place + step * (norm / frobenius_norm(step))
        points.append(place)
    return points
