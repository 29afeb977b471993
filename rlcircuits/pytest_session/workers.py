"""What pytest-xdist's workers share, so that each pair is measured once.

The controller makes a folder and gives it to its workers, together with a channel for their messages, since only the
controller has the terminal. A worker that measures a pair holds the pair's lock, which the operating system releases
if the worker dies. It then records in the folder that the pair is done, how long it took and, if it failed, why.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from rlcircuits.common.failures import Failure

_INPUT = "rlcircuits"
"""Key of what the controller gives to a worker, in pytest-xdist's ``workerinput``."""


class SharedFolder:
    """The folder that the workers of a session share."""

    def __init__(self, folder: Path) -> None:
        self.results = folder / "results"
        """Answers, scores and comparisons, if the user named no output folder."""
        self._records = folder / "records"
        self._records_of_signs = folder / "records-of-signs"  # of its own: a pair may be named `a.signs`

    def record_of(self, pair: str) -> Path:
        """Return the file that records how measuring the pair ended; its lock is held by the worker that measures."""
        return self._records / f"{pair}.json"

    def signs_record_of(self, pair: str) -> Path:
        """Return the file that records why the pair's signs could not be measured or kept."""
        return self._records_of_signs / f"{pair}.json"

    def is_done(self, pair: str) -> bool:
        """Return whether a worker has measured the pair, or failed to."""
        return self.record_of(pair).is_file()

    def read(self, pair: str) -> tuple[Failure | None, float]:
        """Return why a pair that is done could not be measured, None if it was; and how many seconds that took."""
        found = json.loads(self.record_of(pair).read_text(encoding="utf-8"))
        return Failure(**found["failure"]) if found["failure"] else None, found["seconds"]

    def record(self, pair: str, failure: Failure | None, seconds: float) -> None:
        """Record that the pair is done, how long it took, and its failure, if it failed."""
        from rlcircuits.common.files import write_text_atomically

        found = {"failure": asdict(failure) if failure else None, "seconds": seconds}
        write_text_atomically(self.record_of(pair), json.dumps(found))

    def problems_of_signs(self, pair: str) -> list[Failure]:
        """Return why the signs of a pair that is done could not be measured or kept."""
        record = self.signs_record_of(pair)
        found = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else []
        return [Failure(**each) for each in found]

    def record_signs(self, pair: str, problems: list[Failure]) -> None:
        """Record, before the pair is done, why its signs could not be measured or kept."""
        from rlcircuits.common.files import write_text_atomically

        self._records_of_signs.mkdir(exist_ok=True)
        write_text_atomically(self.signs_record_of(pair), json.dumps([asdict(problem) for problem in problems]))


def read_worker_input(config: pytest.Config) -> tuple[SharedFolder, Any] | None:
    """Return the folder and the channel that the controller gave to this worker; None in any other process."""
    given = getattr(config, "workerinput", {}).get(_INPUT)
    return None if given is None else (SharedFolder(Path(given["folder"])), given["channel"])


def write_worker_input(node: Any, folder: Path, log: Callable[[str], None]) -> None:
    """Give a worker, before it starts, the folder and a channel; ``log`` gets each line that the worker sends."""
    channel = node.gateway.newchannel()
    channel.setcallback(lambda line: log(f"[{node.gateway.id}] {line}"))
    node.workerinput[_INPUT] = {"folder": str(folder), "channel": channel}


def is_worker(config: pytest.Config) -> bool:
    """Return whether this process is one of pytest-xdist's workers."""
    return hasattr(config, "workerinput")


def is_controller(config: pytest.Config) -> bool:
    """Return whether this process has pytest-xdist's workers, and runs no test itself."""
    return config.pluginmanager.has_plugin("dsession")
