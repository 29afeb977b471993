"""The early connection to a cluster: whoever does not take it, leaves none behind."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from rlcircuits.common.errors import UnreachableError
from rlcircuits.runners import cluster


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stand in for the module ray, of a cluster with GPUs, where no worker is started early."""
    made = SimpleNamespace(ended=0, nodes=lambda: [{"Alive": True, "Resources": {"CPU": 4, "GPU": 1}}])

    def shutdown() -> None:
        made.ended += 1

    made.shutdown, made.init = shutdown, lambda **_: None
    monkeypatch.setitem(sys.modules, "ray", made)
    return made


def test_a_connection_that_is_taken_is_its_takers_to_end(ray: Any) -> None:
    with cluster.early_connection("local"):
        assert cluster.connect("local") is ray
    assert ray.ended == 0


def test_a_connection_that_nobody_took_is_ended(ray: Any) -> None:
    with cluster.early_connection("local"):
        pass
    assert ray.ended == 1
    assert not cluster._early


def test_a_connection_whose_workers_cannot_be_started_is_ended(ray: Any) -> None:
    def fail() -> Any:
        raise RuntimeError("the cluster is gone")

    ray.nodes = fail
    with pytest.raises(RuntimeError, match="the cluster is gone"), cluster.early_connection("local"):
        pass
    assert ray.ended == 1
    assert not cluster._early


def of_ray(*_: object) -> None:
    """A handler of SIGTERM as Ray sets it, which ends the process."""
    raise SystemExit(signal.SIGTERM)


@pytest.fixture
def sets_handler(ray: Any) -> Iterator[list[BaseException]]:
    """Let the cluster set a handler of SIGTERM before anything else, and then raise what the list has."""
    raised: list[BaseException] = []

    def init(**_: Any) -> None:
        signal.signal(signal.SIGTERM, of_ray)
        for error in raised:
            raise error

    ray.init = init
    earlier = signal.getsignal(signal.SIGTERM)
    yield raised
    signal.signal(signal.SIGTERM, earlier)


@pytest.mark.parametrize("error", [None, RuntimeError("no cluster"), SystemExit(signal.SIGTERM)])
def test_a_handler_of_sigterm_stays_that_of_this_process(
    error: BaseException | None, sets_handler: list[BaseException]
) -> None:
    sets_handler += [] if error is None else [error]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(UnreachableError, KeyboardInterrupt):
        cluster.connect("local")
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler


def test_to_be_terminated_while_ray_starts_is_an_interruption(sets_handler: list[BaseException]) -> None:
    sets_handler.append(SystemExit(signal.SIGTERM))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        cluster.connect("local")


def test_a_process_without_a_handler_of_sigterm_gets_rays(sets_handler: list[BaseException]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cluster.connect("local")
    assert signal.getsignal(signal.SIGTERM) is of_ray
