"""Nothing that a call allocates outlives the call: no tensor, no graph, no activation."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.core_inputs import NAMES, WITH_HEADS, fixed_sequences, tiny
from helpers.slow_cases import slow_unless
from helpers.tiny_models import build
from torch import Tensor, nn

from rlcircuits import AnswerSequence, Checkpoint, attribute
from rlcircuits.capture.recording import recorded, sequence_losses
from rlcircuits.capture.stream_check import verify_stream
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.contraction import grouped
from rlcircuits.contraction.backends import BACKENDS
from rlcircuits.contraction.matmul import Matmul
from rlcircuits.graph.edge_graph import build_graph
from rlcircuits.graph.sequences import make_batch
from rlcircuits.models.frozen import differentiable, frozen
from rlcircuits.models.norms import Norm, NormVJP
from rlcircuits.models.parts import locate_parts

SEQUENCES = fixed_sequences(4)
GRANULARITIES = ["sublayer", "head", "kv-head"]
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "recompute": {"recompute": True},
    "corrupted": {"corrupted": [AnswerSequence(s.prompt_ids[::-1], s.answer_ids) for s in SEQUENCES]},
    "left": {"padding_side": "left"},
}


def live_tensors() -> tuple[int, int]:
    """Return the number and the bytes of all tensors that have a Python object."""
    gc.collect()
    found = [thing for thing in gc.get_objects() if type(thing) in (Tensor, nn.Parameter)]
    return len(found), sum(tensor.nbytes for tensor in found)


class _Heap(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    )  # fmt: skip


def heap_bytes() -> int:
    """Return the bytes allocated from the C library, which include tensors that only autograd holds."""
    read = ctypes.CDLL(None).mallinfo2
    read.restype = _Heap
    gc.collect()
    heap = read()
    return int(heap.uordblks + heap.hblkhd)


def growth(call: Callable[[], object], calls: int) -> tuple[tuple[int, int], tuple[int, int], float]:
    """Return the live tensors before and after so many calls, and the bytes of heap that each call left behind."""
    for _ in range(2):  # caches that are filled once: compiled patterns, verified models
        call()
    before, start = live_tensors(), heap_bytes()
    for _ in range(calls):
        call()
    end = heap_bytes()
    return before, live_tensors(), (end - start) / calls


def leaves_nothing(call: Callable[[], object], calls: int = 5) -> None:
    before, after, bytes_a_call = growth(call, calls)
    assert after == before
    # One activation of this batch is 4 x 15 x 32 floats, 7,680 bytes; Python's own caches move by a few hundred.
    assert bytes_a_call < 4000


pytestmark = pytest.mark.skipif(
    not (sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallinfo2")), reason="counts glibc's heap"
)


@pytest.fixture(autouse=True)
def only_what_is_new() -> None:
    """Exclude existing objects from garbage collections, and so from what `live_tensors` finds."""
    gc.collect()
    gc.freeze()


@pytest.mark.parametrize(
    ("granularity", "options"),
    slow_unless(
        lambda granularity, options: granularity != "kv-head" or options == "plain",
        [(granularity, options) for granularity in GRANULARITIES for options in OPTIONS],
    ),
)
def test_calls_leave_nothing(granularity: str, options: str) -> None:
    leaves_nothing(lambda: attribute(tiny("llama-gqa"), SEQUENCES, granularity, **OPTIONS[options]), calls=20)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_architecture_leaves_anything(name: str) -> None:
    by_head = name in WITH_HEADS and name != "olmo2-gqa"
    leaves_nothing(lambda: attribute(tiny(name), SEQUENCES, "head" if by_head else "sublayer"))


def test_batches_leave_nothing() -> None:
    leaves_nothing(lambda: attribute(tiny("llama-gqa"), SEQUENCES, batch_tokens=1))


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("granularity", ["sublayer", "head"])
def test_one_norms_vjp_is_alive_at_a_time(granularity: str, recompute: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A VJP holds tensors of the stream's size: it goes with its sublayer's last reader, not with the graph."""
    model = tiny("llama-gqa")
    parts = locate_parts(model)
    graph = build_graph(len(parts.blocks), parts.n_heads, granularity)
    batch = make_batch(SEQUENCES, range(len(SEQUENCES)))
    made: list[weakref.ref[NormVJP]] = []
    vjp_at = Norm.vjp_at

    def counted(norm: Norm, x: Tensor) -> NormVJP:
        assert not any(vjp() for vjp in made)
        vjp = vjp_at(norm, x)
        made.append(weakref.ref(vjp))
        return vjp

    monkeypatch.setattr(Norm, "vjp_at", counted)
    with (
        frozen(model),
        recorded(model, parts, graph, batch, on_reader_grads=lambda readers: None, recompute=recompute) as recording,
    ):
        torch.autograd.grad(sequence_losses(recording.logits, batch).sum(), recording.entry)
        assert not any(vjp() for vjp in made)
    assert len(made) == 2 * len(parts.blocks) + 1


def test_verifying_a_model_leaves_nothing() -> None:
    model = build("llama-gqa", seed=3)

    def verify() -> None:
        with differentiable():
            verify_stream(model, locate_parts(model))

    leaves_nothing(verify)


def failing(call: Callable[[], object], error: type[Exception], text: str) -> Callable[[], None]:
    def fails() -> None:
        with pytest.raises(error, match=text):
            call()

    return fails


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("path", ["layers.0.input_layernorm", "layers.1.self_attn.q_proj", "layers.1.mlp", "norm"])
def test_a_forward_that_fails_leaves_nothing(path: str, recompute: bool) -> None:
    """A partial recording is freed with the error, wherever the forward fails."""
    model = build("llama-gqa", seed=3)
    checkpoint = Checkpoint(model)

    def fail(*_: object) -> None:
        raise RuntimeError("the kernel gave up")

    model.get_submodule(f"model.{path}").register_forward_hook(fail)
    call = failing(lambda: attribute(checkpoint, SEQUENCES, recompute=recompute), RuntimeError, "gave up")
    leaves_nothing(call)


def test_a_latent_attention_that_fails_before_its_keys_leaves_nothing() -> None:
    model = build("deepseek-v3", seed=3)
    checkpoint = Checkpoint(model)

    def fail(*_: object) -> None:
        raise RuntimeError("the kernel gave up")

    model.model.layers[1].self_attn.kv_a_layernorm.register_forward_hook(fail)
    leaves_nothing(failing(lambda: attribute(checkpoint, SEQUENCES, "head"), RuntimeError, "gave up"))


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("contracted", [0, 1])
def test_a_backward_that_fails_leaves_nothing(
    contracted: int, recompute: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = 0

    class Failing(Matmul):
        def contract(self, *given: Any) -> Tensor:
            nonlocal done
            done += 1
            if done % 2 == contracted:
                raise RuntimeError("the kernel gave up")
            return super().contract(*given)

    monkeypatch.setitem(BACKENDS, "matmul", Failing)
    # Contract at every delivery, so that the contraction fails inside the backward.
    monkeypatch.setattr(grouped, "pending_grads_bytes", lambda device: 1)
    checkpoint = Checkpoint(tiny("llama-gqa"))
    call = failing(
        lambda: attribute(checkpoint, SEQUENCES, backend="matmul", recompute=recompute), RuntimeError, "gave up"
    )
    leaves_nothing(call)


def test_a_result_that_is_not_finite_leaves_nothing() -> None:
    model = build("llama-gqa", seed=3)
    checkpoint = Checkpoint(model)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    leaves_nothing(failing(lambda: attribute(checkpoint, SEQUENCES), RLCircuitsError, "non-finite loss"))


def test_a_batch_that_is_halved_for_want_of_memory_leaves_nothing() -> None:
    model = build("llama-gqa", seed=3)
    checkpoint = Checkpoint(model)

    def fail(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        if len(args[0]) > 1:
            raise torch.OutOfMemoryError("made up")

    model.model.layers[1].mlp.register_forward_pre_hook(fail)

    def halved() -> None:
        with pytest.warns(UserWarning, match="out of memory on a batch"):
            attribute(checkpoint, SEQUENCES)

    leaves_nothing(halved)
