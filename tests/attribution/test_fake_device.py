"""On a device that is not the CPU: no tensor is left behind, and the device is hardly ever waited for."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.core_inputs import fixed_sequences, relative_error
from helpers.run_in_subprocess import check_tests_of
from helpers.tiny_models import build
from torch import Tensor
from torch.utils import backend_registration

from rlcircuits import AnswerSequence, Checkpoint, attribute
from rlcircuits.answers.engines.huggingface import HuggingFaceEngine
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.matched_noise import add_matched_noise, measure_updates
from rlcircuits.models.parts import locate_parts

pytestmark = pytest.mark.slow

OWN_PROCESS = "RLCIRCUITS_ELSEWHERE"
# A device once registered is there for the rest of the process, for every library to find.
HERE = OWN_PROCESS in os.environ
needs_device = pytest.mark.skipif(not HERE, reason="runs in a process of its own, which has a second device")
if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
    pytest.skip("this torch cannot be given a device written in Python", allow_module_level=True)
if HERE:
    from helpers.fake_device import DEVICE, Elsewhere, elsewhere, inner, waits


@pytest.mark.skipif(HERE, reason="the tests below run in this process")
def test_on_another_device_in_a_process_of_its_own() -> None:
    check_tests_of(__file__, **{OWN_PROCESS: "1", "TRITON_INTERPRET": "1"})


NAMES = [
    *("llama", "qwen2", "qwen3", "gpt2", "gpt-neox", "phi3", "gemma2", "gemma4", "olmo2", "granite", "llama4"),
    *("deepseek-v3", "deepseek-v3-whole-q"),
]


class _Unwrapped:
    """A kernel that Triton's interpreter runs on the tensors behind those it is given, all of one device."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel

    def __getitem__(self, grid: Any) -> Any:
        def launch(*args: Any, **options: Any) -> None:
            assert len({arg.device for arg in args if isinstance(arg, Tensor)}) == 1, "tensors of two devices"
            self._kernel[grid](*map(inner, args), **options)

        return launch


@pytest.fixture(autouse=True)
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all kernels run elsewhere where the backend is Triton's, as on CUDA; else none, as where it has no Triton."""
    if not HERE or getattr(request.node, "callspec", None) is None:
        return
    if request.node.callspec.params.get("backend") != "triton" or importlib.util.find_spec("triton") is None:
        return
    import rlcircuits.capture.reader_heads as reader_heads
    import rlcircuits.models.norms as norms
    from rlcircuits.capture import triton_heads
    from rlcircuits.common import devices
    from rlcircuits.contraction import triton_kernel
    from rlcircuits.models import triton_norm

    monkeypatch.setattr(triton_kernel, "_partial_scores", _Unwrapped(triton_kernel._partial_scores))
    monkeypatch.setattr(triton_norm, "_norm_vjp", _Unwrapped(triton_norm._norm_vjp))
    for name in ("_lengths", "_reader_grads_by_head"):
        monkeypatch.setattr(triton_heads, name, _Unwrapped(getattr(triton_heads, name)))
    for module in (norms, reader_heads, devices):
        monkeypatch.setattr(module, "can_use_triton", lambda tensor: isinstance(tensor, Elsewhere))


def model_of(name: str, **overrides: Any) -> Any:
    """A tiny model whose transformers code makes no index from a list, which torch would put past this device."""
    model = build(name, seed=3, **overrides)
    model.config.pad_token_id = None
    if name in ("mixtral", "glm4-moe", "deepseek-v3", "deepseek-v3-whole-q"):
        model.set_experts_implementation("batched_mm")  # the default asks an accelerator for a histogram of integers
    return model


def check(name: str, sequences: Sequence[AnswerSequence], granularity: str, backend: str, **options: Any) -> None:
    if backend == "triton":
        pytest.importorskip("triton", reason="triton is not installed")
    model = model_of(name)
    wanted = attribute(model, sequences, granularity, backend="reference", **options)
    with elsewhere(model):
        found = attribute(model, sequences, granularity, backend=backend, **options)
    assert type(found.values) is Tensor
    assert relative_error(found.values, wanted.values) < 1e-5
    torch.testing.assert_close(found.loss, wanted.loss)


@needs_device
@pytest.mark.parametrize("backend", ["matmul", "triton"])
@pytest.mark.parametrize("granularity", ["sublayer", "head"])
@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_the_cpu(name: str, granularity: str, backend: str) -> None:
    check(name, fixed_sequences(2), granularity, backend)


@needs_device
@pytest.mark.parametrize("granularity", ["sublayer", "head"])
@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
def test_scores_of_the_reference_are_those_of_the_cpu(name: str, granularity: str) -> None:
    check(name, fixed_sequences(2), granularity, "reference")


@needs_device
@pytest.mark.parametrize("backend", ["matmul", "triton", "reference"])
@pytest.mark.parametrize("name", ["mixtral", "llama4", "glm4-moe"])
def test_scores_of_experts_are_those_of_the_cpu(name: str, backend: str) -> None:
    check(name, fixed_sequences(2), "expert", backend)


@needs_device
@pytest.mark.parametrize("backend", ["matmul", "triton"])
@pytest.mark.parametrize(
    "options",
    [{"padding_side": "left"}, {"recompute": True}, {"batch_tokens": 1}, {"corrupted": fixed_sequences(2, seed=5)}],
    ids=lambda options: next(iter(options)),
)
def test_options_are_those_of_the_cpu(options: dict[str, Any], backend: str) -> None:
    check("qwen2", fixed_sequences(2), "kv-head", backend, **options)


@needs_device
@pytest.mark.parametrize("backend", ["matmul", "triton"])
@pytest.mark.parametrize("granularity", ["sublayer", "head"])
@pytest.mark.parametrize("ends_away", [True, False], ids=["ends-elsewhere", "middle-elsewhere"])
def test_a_model_split_over_two_devices(ends_away: bool, granularity: str, backend: str) -> None:
    """As accelerate splits it: each part with what moves its inputs to where its weights are."""
    hooks = pytest.importorskip("accelerate.hooks", reason="accelerate is not installed")
    model = model_of("llama")
    wanted = attribute(model, fixed_sequences(2), granularity, backend="reference")
    body = model.model
    ends, middle = [body.embed_tokens, body.layers[0], body.norm, model.lm_head], [*body.layers[1:]]
    away, here = (ends, middle) if ends_away else (middle, ends)
    for places, device in ((away, DEVICE), (here, torch.device("cpu"))):
        for module in places:
            hooks.add_hook_to_module(module, hooks.AlignDevicesHook(execution_device=device, io_same_device=False))
    hooks.add_hook_to_module(model, hooks.AlignDevicesHook(io_same_device=True))
    with elsewhere(*away):
        found = attribute(model, fixed_sequences(2), granularity, backend=backend)
    assert relative_error(found.values, wanted.values) < 1e-5


@needs_device
@pytest.mark.parametrize("granularity", ["sublayer", "head"])
@pytest.mark.parametrize(
    ("name", "backend"),
    [("qwen2", "triton"), ("gemma4", "matmul"), ("deepseek-v3", "triton")]
    + [("gpt-neox", backend) for backend in ("matmul", "triton")],
)
def test_the_device_is_waited_for_at_the_end_of_a_batch_only(name: str, granularity: str, backend: str) -> None:
    """Whatever the number of blocks, readers and groups: else the device would stand still meanwhile."""
    for layers in (1, 3):
        kinds = {"layer_types": ["full_attention"] * layers} if name == "gemma4" else {}
        model = model_of(name, num_hidden_layers=layers, **kinds)
        with elsewhere(model):
            checkpoint = Checkpoint.of(model)
            waits.clear()
            attribute(checkpoint, fixed_sequences(2), granularity, backend=backend)
        ours = {
            line: n for line, n in waits.items() if not line.startswith(("masking_utils", "devices.py:to_device_async"))
        }
        assert ours == {"devices.py:__init__": 2}, waits  # the scores; the losses and what is checked


@needs_device
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_are_those_of_the_cpu(temperature: float) -> None:
    prompts, sampling = [(5, 6, 7), (8, 9), (4,)], Sampling(temperature=temperature, max_new_tokens=6)
    model = model_of("llama")
    tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=2)
    checkpoint: Any = SimpleNamespace(model=model, parts=locate_parts(model), tokenizer=tokenizer)
    wanted = HuggingFaceEngine(checkpoint).complete(prompts, sampling, 0)
    with elsewhere(model):
        assert HuggingFaceEngine(checkpoint).complete(prompts, sampling, 0) == wanted


@needs_device
def test_noise_is_that_of_the_cpu() -> None:
    """Before on the device and after on the CPU, as the control loads them."""
    noised, after, wanted = model_of("llama"), build("llama", seed=4), model_of("llama")
    updates = measure_updates(wanted, after)
    add_matched_noise(wanted, updates, draw=0)
    with elsewhere(noised):
        for name, found in measure_updates(noised, after).items():
            assert torch.equal(found.along, updates[name].along)
            assert torch.equal(found.across, updates[name].across)
        add_matched_noise(noised, updates, draw=0)
    for found, expected in zip(noised.parameters(), wanted.parameters(), strict=True):
        assert torch.equal(inner(found), expected)
