"""Edge scores in EAP-IG's sign and file: what ``EdgeScores.to_eap_ig`` and ``from_eap_ig`` do.

Our score is −⟨∂M/∂x_v, o_u(clean) − o_u(corrupted)⟩ of a metric M, EAP-IG's ⟨∂L/∂x_v, o_u(corrupted) − o_u(clean)⟩ of a
loss L. With L = M, a metric that is better where it is lower, both are one number. A metric that is better where it is
higher becomes the loss L = −M (as MIB's ``logit_diff(..., loss=True)``), and every score changes its sign.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.graph.eap_ig_file import OURS, read_eap_ig, write_eap_ig
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.graph.how_scored import HowScored


class _Scores(Protocol):
    """What is written of :class:`~rlcircuits.EdgeScores`."""

    @property
    def values(self) -> Tensor: ...
    @property
    def loss(self) -> Tensor: ...
    @property
    def graph(self) -> EdgeGraph: ...
    @property
    def backend(self) -> str: ...
    @property
    def how(self) -> HowScored: ...
    @property
    def metric_values(self) -> Tensor: ...
    def __len__(self) -> int: ...


UNKNOWN_LOSS = "eap_ig_loss"
"""The metric of a file of EAP-IG's own, which does not say what was differentiated."""

_HIGHER_IS_BETTER = {
    "cross_entropy": False,
    "kl": False,
    UNKNOWN_LOSS: False,
    "logprob": True,
    "logit_diff": True,
}
"""Whether each metric that has a name is better where it is higher."""


def write(scores: _Scores, path: Path, d_model: int, in_graph: Tensor | None, higher_is_better: bool | None) -> None:
    """Write the mean of scores; see :meth:`EdgeScores.to_eap_ig`."""
    if not len(scores):
        raise RLCircuitsError(f"{path} is not written: there are no sequences, so no mean score")
    if d_model < 1:
        raise RLCircuitsError(f"d_model is {d_model}; the width of the model's residual stream is wanted, at least 1")
    sign = -1 if _is_higher_better(scores.how.metric, higher_is_better) else 1
    ours = {
        "sign": sign,
        "sequences": len(scores),
        "backend": scores.backend,
        "how": scores.how.changed,
        "loss": _number(scores.loss),
        "metric_value": _number(scores.metric_values),
    }
    write_eap_ig(path, scores.graph, sign * scores.values.double().mean(0), in_graph, d_model, ours)


def read(path: Path) -> tuple[Tensor, Tensor, EdgeGraph, str, HowScored, Tensor]:
    """Return the fields of the scores in a file; see :meth:`EdgeScores.from_eap_ig`."""
    found = read_eap_ig(path)
    if found.ours is None:
        unknown = torch.full((1,), math.nan)
        how = HowScored(metric=UNKNOWN_LOSS, corrupted=True)
        return found.scores.float()[None], unknown, found.graph, "eap-ig", how, unknown
    try:
        sign, how = found.ours["sign"], HowScored.of_changed(found.ours["how"])
        loss, measured = (_tensor(found.ours[name]) for name in ("loss", "metric_value"))
        backend = str(found.ours["backend"])
        if sign not in (-1, 1):
            raise RLCircuitsError(f"sign is {truncated_repr(sign)}; 1 or -1 is wanted")
    except KeyError as error:
        raise RLCircuitsError(f"{path}: {OURS!r} has no {error}; it holds {', '.join(found.ours)}") from None
    except (TypeError, ValueError, RLCircuitsError) as error:
        raise RLCircuitsError(f"{path}: {OURS!r} is not what rlcircuits writes: {error}") from None
    return (sign * found.scores).float()[None], loss, found.graph, backend, how, measured


def _is_higher_better(metric: str, said: bool | None) -> bool:
    known = _HIGHER_IS_BETTER.get(metric)
    if said is None and known is None:
        raise RLCircuitsError(
            f"higher_is_better is not given, and the scores are of the metric {metric}, of which only you know whether "
            "it is better where it is higher; say True or False"
        )
    if known is not None and said not in (None, known):
        raise RLCircuitsError(f"higher_is_better is {said}, but {metric} is better where it is {_way(known)}")
    return bool(known if said is None else said)


def _way(higher: bool) -> str:
    return "higher" if higher else "lower"


def _number(values: Tensor) -> float | None:
    """Return the mean as JSON can hold it; None if it is not finite."""
    mean = float(values.double().mean())
    return mean if math.isfinite(mean) else None


def _tensor(value: Any) -> Tensor:
    return torch.tensor([math.nan if value is None else float(value)])
