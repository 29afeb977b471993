"""The contraction of what writers wrote with what readers felt: the core's one reduction.

A backend takes writes [W, batch, pos, width] and grads [R, batch, pos, width] and returns

    scores[batch, w, r] = − Σ_pos,width writes[w, batch] · grads[r, batch]        (float32 or float64)

``reference`` is the definition in float64, ``matmul`` a batched GEMM on any device.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from rlcircuits.contraction.matmul import contract_matmul
from rlcircuits.contraction.reference import contract_reference
from rlcircuits.errors import RLCircuitsError

Contract = Callable[[Tensor, Tensor], Tensor]

BACKENDS: dict[str, Contract] = {"matmul": contract_matmul, "reference": contract_reference}
DEFAULT_BACKEND = "matmul"


def choose_backend(name: str | None) -> str:
    """The name of the backend to use: ``name`` itself, or the default where it is None.

    Raises RLCircuitsError for a name that is not in BACKENDS.
    """
    if name is None:
        return DEFAULT_BACKEND
    if name not in BACKENDS:
        raise RLCircuitsError(f"backend is {name!r}; it must be one of {', '.join(BACKENDS)}")
    return name
