"""The contraction of writer outputs with reader gradients: the one reduction that makes edge scores.

A backend takes what writers added to the residual stream (tensors [writers, batch, pos, width]), the loss's gradients
at the readers' inputs, and the edges between them (bool [W, R]), and returns

    scores[batch, w, r] = − Σ_pos,width outputs[w, batch] · grads[r, batch]       where edges[w, r], else 0

in float32 or float64. ``reference`` is the definition in float64, ``matmul`` batched matrix products on any device,
``triton`` a fused kernel for CUDA that reads every tensor where it is stored. Experts of a mixture are contracted at
the tokens that chose them only (``rlcircuits.contraction.routed``); the definition does so at every token.
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
    """An implementation of the contraction; one instance serves one batch."""

    def prepare(self, writers: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return writers' outputs in the form that :meth:`contract` reads fastest; made once for all readers."""

    def contract(self, writers: Sequence[Tensor], readers: Sequence[ReaderGrads], edges: Tensor) -> Tensor:
        """Return the scores [batch, W, R] that the module's docstring defines."""

    def contract_routed(self, outputs: Tensor, chosen: Tensor, experts: int, readers: Sequence[ReaderGrads]) -> Tensor:
        """Return the scores of experts, [batch, experts, R]; see :mod:`rlcircuits.contraction.routed`."""


def _open_triton() -> Backend:
    # A deferred import, because triton is not installed on every platform.
    from rlcircuits.contraction.triton_kernel import Triton

    return Triton()


BACKENDS: dict[str, Callable[[], Backend]] = {"matmul": Matmul, "reference": Reference, "triton": _open_triton}
"""The factory of each backend, by name."""


def choose_backend(name: str | None, weight: Tensor | None = None) -> str:
    """Return the name of the backend to use: ``name``, or where it is None the fastest that the model can use.

    Args:
        name: a key of BACKENDS, or None. None means ``triton`` on CUDA, if triton is installed and the model is not
            in float64, and ``matmul`` otherwise.
        weight: any weight of the model, for its device and dtype. Without one, None means ``matmul``.

    Raises:
        RLCircuitsError: an unknown name, or a backend that cannot run on the model.
    """
    if name is None:
        return "triton" if weight is not None and devices.can_use_triton(weight) else "matmul"
    if name not in BACKENDS:
        raise RLCircuitsError(f"backend is {name!r}; it must be one of {', '.join(BACKENDS)}")
    if name == "triton":
        _check_triton(weight)
    return name


def _check_triton(weight: Tensor | None) -> None:
    """Raise RLCircuitsError unless triton can run on the device and dtype of ``weight``."""
    if not devices.has_triton():
        raise RLCircuitsError("backend is 'triton', but triton is not installed; matmul runs everywhere")
    if weight is None:
        return
    if weight.dtype not in devices.KERNEL_DTYPES:
        raise RLCircuitsError(f"backend is 'triton', which does not support {weight.dtype}; matmul does")
    from rlcircuits.common.triton_options import INTERPRETED

    if weight.device.type != "cuda" and not INTERPRETED:
        raise RLCircuitsError(f"backend is 'triton', but the model is on {weight.device}; it needs a CUDA device")
