"""What pytest-xdist's workers have in common, so that each pair is measured once.

The controller makes a folder and gives it to its workers, with a channel for the lines that they say, since only the
controller has the terminal. A worker that measures a pair has the pair's turn, a lock that the system takes back
from a process that dies, and notes in the folder that the pair is done and, where it failed, why.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from rlcircuits.common.failures import Failure

_INPUT = "rlcircuits"
"""What the controller gives to a worker stands under this name in xdist's ``workerinput``."""


class Shared:
    """The folder that workers have in common."""

    def __init__(self, folder: Path) -> None:
        self.results = folder / "results"
        """Answers, scores and comparisons, where the user named no folder for them."""
        self._turns = folder / "turns"

    def turn(self, pair: str) -> Path:
        """What the one worker that measures the pair is the only writer of."""
        return self._turns / f"{pair}.json"

    def is_done(self, pair: str) -> bool:
        """Whether a worker measured the pair or failed to."""
        return self.turn(pair).is_file()

    def failure(self, pair: str) -> Failure | None:
        """Why a pair that is done could not be measured; None where it was."""
        found = json.loads(self.turn(pair).read_text(encoding="utf-8"))
        return Failure(**found) if found else None

    def note(self, pair: str, failure: Failure | None) -> None:
        """Note that a pair is done."""
        from rlcircuits.common.files import write_text_atomically

        write_text_atomically(self.turn(pair), json.dumps(asdict(failure) if failure else None))


def given_to_worker(config: pytest.Config) -> tuple[Shared, Any] | None:
    """What the controller gave to this worker, and the channel to it; None where this is no worker."""
    given = getattr(config, "workerinput", {}).get(_INPUT)
    return None if given is None else (Shared(Path(given["folder"])), given["channel"])


def give_to_worker(node: Any, folder: Path, say: Any) -> None:
    """Give a worker, before it starts, the folder and a channel; ``say`` is called with each line of it."""
    channel = node.gateway.newchannel()
    channel.setcallback(lambda line: say(f"[{node.gateway.id}] {line}"))
    node.workerinput[_INPUT] = {"folder": str(folder), "channel": channel}


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is one of pytest-xdist's workers."""
    return hasattr(config, "workerinput")


def is_controller(config: pytest.Config) -> bool:
    """Whether this process has workers of pytest-xdist, and runs no test itself."""
    return config.pluginmanager.has_plugin("dsession")
