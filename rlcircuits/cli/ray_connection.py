"""``--ray`` and ``--ray-gpus`` of a command: the connection that is there before the work is known."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext

from rlcircuits.common.errors import RLCircuitsError

__all__ = ["ray_connection"]


def ray_connection(options: argparse.Namespace) -> AbstractContextManager[None]:
    """Return a context in which workers of Ray start while this process reads what is to be done; none without --ray.

    Raises:
        RLCircuitsError: --ray-gpus without --ray.
    """
    if options.ray is not None:
        from rlcircuits.runners.cluster import early_connection

        return early_connection(options.ray)
    if options.ray_gpus is not None:
        raise RLCircuitsError("--ray-gpus is of --ray; give both, or leave it out")
    return nullcontext()
