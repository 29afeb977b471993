"""Which server has which of a pair's checkpoints loaded, for the engine ``openai``."""

from __future__ import annotations

from rlcircuits.common.choices import OPENAI
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.release.pair import Pair
from rlcircuits.release.settings import Settings

__all__ = ["check_servers"]


def check_servers(pair: Pair, settings: Settings) -> None:
    """Raise RLCircuitsError unless servers are stated for the models that answer, and for engine ``openai`` alone."""
    recorded = {"before": pair.recorded_before, "after": pair.recorded_after}
    for side, server in (("before", pair.server_before), ("after", pair.server_after)):
        if server is not None and recorded[side] is not None:
            raise RLCircuitsError(f"server_{side} and recorded_{side} are both given; leave one of them out")
        if server is not None and settings.engine != OPENAI:
            raise RLCircuitsError(
                f"server_{side} is {server!r}, and the engine is {settings.engine!r}; a server is asked by engine "
                f"{OPENAI!r}"
            )
        if settings.engine == OPENAI and server is None and recorded[side] is None:
            raise RLCircuitsError(
                f"the engine is {OPENAI!r}, and no server is stated for {side}; give server_{side}, such as "
                "http://host:8000/v1"
            )
    if settings.engine == OPENAI and pair.control is not None:
        raise RLCircuitsError(
            f"control is given with the engine {OPENAI!r}: no server has {pair.control}, and the numerics of another "
            "engine would be taken for an effect of its training; use engine 'transformers', or leave control out"
        )
