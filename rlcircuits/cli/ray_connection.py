"""``--ray`` and ``--ray-gpus`` of a command: the connection that is there before the work is known."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext

from rlcircuits.common.errors import RLCircuitsError

__all__ = ["check_cluster", "check_ray_gpus", "ray_connection"]


def ray_connection(options: argparse.Namespace) -> AbstractContextManager[None]:
    """Return a context in which workers of Ray start while this process reads what is to be done; none without --ray.

    Raises:
        RLCircuitsError: --ray-gpus without --ray.
    """
    check_ray_gpus(options)
    if options.ray is not None:
        from rlcircuits.runners.cluster import early_connection

        return early_connection(options.ray)
    return nullcontext()


def check_cluster(options: argparse.Namespace) -> None:
    """Raise UnreachableError if --ray names a cluster and there is none, before anything waits for it."""
    if options.ray is not None:
        from rlcircuits.runners.cluster import LOCAL, connect

        if options.ray != LOCAL:
            connect(options.ray).shutdown()


def check_ray_gpus(options: argparse.Namespace) -> None:
    """Raise RLCircuitsError for --ray-gpus without --ray."""
    if options.ray_gpus is not None and options.ray is None:
        raise RLCircuitsError("--ray-gpus is of --ray; give both, or leave it out")
