"""The early connection to a cluster: whoever does not take it, leaves none behind."""

from __future__ import annotations

import signal
import sys
from types import SimpleNamespace
from typing import Any

import pytest

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


@pytest.mark.parametrize("own", [signal.default_int_handler, signal.SIG_DFL])
def test_a_handler_of_sigterm_stays_that_of_this_process(ray: Any, own: Any) -> None:
    """Ray sets one, which is taken where this process has none."""

    def of_ray(*_: object) -> None: ...

    ray.init = lambda **_: signal.signal(signal.SIGTERM, of_ray)
    earlier = signal.signal(signal.SIGTERM, own)
    try:
        cluster.connect("local")
        assert signal.getsignal(signal.SIGTERM) is (own if callable(own) else of_ray)
    finally:
        signal.signal(signal.SIGTERM, earlier)
