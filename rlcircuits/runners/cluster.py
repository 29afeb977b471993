"""Connect to a Ray cluster, and start its workers while this process still reads what is to be done.

A worker imports torch, transformers and rlcircuits before its first stage, and so does the process that starts the run.
Since this module imports none of them, :func:`early_connection` lets both do it at the same time.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rlcircuits.common.errors import RLCircuitsError, UnreachableError, one_line

__all__ = ["LOCAL", "connect", "early_connection"]

LOCAL = "local"
"""The address that starts Ray on this machine, for as long as the run takes."""

_MOST_WARMED = 256
"""Workers that are started before there is work for them; those of a larger cluster start with their first stage."""

_early: dict[str, Any] = {}
"""The module ray, by the address that it is connected to early."""


@contextmanager
def early_connection(address: str | None) -> Iterator[None]:
    """Connect before there is work, so that workers start meanwhile; the next :func:`connect` takes this connection.

    Args:
        address: see :func:`connect`; None to do nothing.

    Raises:
        RLCircuitsError: as :func:`connect`.
    """
    if address is None:
        yield
        return
    _early[address] = ray = connect(address)
    try:
        _start_workers(ray)
        yield
    finally:
        if _early.pop(address, None) is not None:  # nobody took it
            ray.shutdown()


def _start_workers(ray: Any) -> None:
    """Let each worker that will do stages on a CPU import what stages need."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any("GPU" in machine for machine in machines):  # a worker with a GPU is one of its own
        return
    cores = [int(machine.get("CPU", 0)) for machine in machines]
    threads = os.environ.get("OMP_NUM_THREADS", "")
    each = int(threads) if threads.isdecimal() and int(threads) else max(cores, default=1) or 1
    remote = ray.remote(num_cpus=each, max_retries=0, scheduling_strategy="SPREAD")(_import_stages)
    for _ in range(min(sum(count // each for count in cores), _MOST_WARMED)):
        remote.options(name="start").remote()


def _import_stages() -> None:
    import rlcircuits.release.stages  # noqa: F401


def connect(address: str) -> Any:
    """Return the module ray, connected to the cluster at an address.

    Args:
        address: ``local``, ``auto`` for the cluster that this machine is part of, or a cluster's address.

    Raises:
        UnreachableError: Ray does not start on this machine, or there is no cluster.
        RLCircuitsError: Ray is not installed.
    """
    if (early := _early.pop(address, None)) is not None:
        return early
    try:
        import ray
    except ImportError as error:
        raise RLCircuitsError(f"Ray is not installed ({error}); pip install 'rlcircuits[ray]'") from None
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "logging_level": "ERROR"}
    how: dict[str, Any] = {"address": address}
    if address == LOCAL:
        # A busy machine answers late, and is not lost for that: it is the one that asks.
        how |= {"include_dashboard": False, "_system_config": {"health_check_failure_threshold": 1000}}
    try:
        _check_reachable(address)
        with _own_sigterm():
            ray.init(**quiet, **how)
    except Exception as error:  # Ray raises a bare Exception where it does not start in time
        reason = one_line(error)
        if address == LOCAL:
            raise UnreachableError(
                f"Ray: it did not start on this machine: {reason}; try again when the machine is less busy, or leave "
                "--ray out"
            ) from None
        raise UnreachableError(
            f"Ray: no cluster at {address!r}: {reason}; 'local' starts one on this machine, 'auto' takes that which "
            "`ray start` began"
        ) from None
    return ray


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Set this process's handler of SIGTERM again, if it has one, in place of Ray's, which ends the process."""
    handler = signal.getsignal(signal.SIGTERM)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        yield
    except SystemExit:  # of Ray's handler, which is the first thing that it sets
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, handler)


def _check_reachable(address: str) -> None:
    """Raise OSError if nothing listens at ``host:port``, since Ray would try it for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
