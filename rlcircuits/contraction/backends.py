"""The contraction of what writers wrote with what readers felt: the core's one reduction.

A backend takes what writers wrote (tensors [writers, batch, pos, width]), what readers felt and the edges between
them, a bool [W, R], and returns

    scores[batch, w, r] = − Σ_pos,width writes[w, batch] · grads[r, batch]        where edges[w, r], else 0

in float32 or float64. ``reference`` is the definition in float64, ``matmul`` a batched GEMM on any device,
``triton`` a fused kernel for CUDA that reads every tensor where it lies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from rlcircuits.capture.reader_grads import ReaderGrads
from rlcircuits.common import devices
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.contraction.matmul import Matmul
from rlcircuits.contraction.reference import Reference


class Backend(Protocol):
    """A way to contract, opened for one batch."""

    def prepare(self, writers: Sequence[Tensor]) -> Sequence[Tensor]:
        """Put what writers wrote in the form that is quickest to read, once for all readers."""

    def contract(self, writers: Sequence[Tensor], readers: Sequence[ReaderGrads], edges: Tensor) -> Tensor:
        """Contract as above."""


def _open_triton() -> Backend:
    # Imported when it is used: triton is not there on every platform.
    from rlcircuits.contraction.triton_kernel import Triton

    return Triton()


BACKENDS: dict[str, Callable[[], Backend]] = {"matmul": Matmul, "reference": Reference, "triton": _open_triton}
"""How to open each backend, by name."""


def choose_backend(name: str | None, weight: Tensor | None = None) -> str:
    """The name of the backend to use: ``name`` itself, or the fastest that runs on the model where it is None.

    weight: any weight of the model, for its device and dtype; without one the choice is ``matmul``. On CUDA it
    is ``triton``, where triton is installed and the model is not in float64. Raises RLCircuitsError for a name
    that is not in BACKENDS or a backend that cannot run on the model.
    """
    if name is None:
        return "triton" if weight is not None and devices.can_use_triton(weight) else "matmul"
    if name not in BACKENDS:
        raise RLCircuitsError(f"backend is {name!r}; it must be one of {', '.join(BACKENDS)}")
    if name == "triton":
        _check_triton(weight)
    return name


def _check_triton(weight: Tensor | None) -> None:
    if not devices.has_triton():
        raise RLCircuitsError("backend is 'triton', but triton is not installed; matmul runs everywhere")
    if weight is None:
        return
    if weight.dtype not in devices.KERNEL_DTYPES:
        raise RLCircuitsError(f"backend is 'triton', which has no {weight.dtype}; matmul has")
    from rlcircuits.common.triton_options import INTERPRETED

    if weight.device.type != "cuda" and not INTERPRETED:
        raise RLCircuitsError(f"backend is 'triton', but the model is on {weight.device}; it needs a CUDA device")
