"""One checkpoint's readout in another: what is taken over, and that embeddings stay."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_models import build
from torch import Tensor

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.readout import graft_readout, is_tied, readout_of, readout_parameters, untie
from rlcircuits.common.errors import RLCircuitsError

TIED = {"llama-gqa", "gpt2"}
FAMILIES = ["llama", "llama-gqa", "gpt2", "gpt-neox"]


def checkpoint(name: str, seed: int, **changes: int) -> Checkpoint:
    found = Checkpoint.of(build(name, seed=seed, **changes))
    found.name = f"{name}-{seed}"
    return found


def logits_and_stream(source: Checkpoint, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits and the stream before the final norm."""
    seen: list[Tensor] = []
    hook = source.parts.final_norm.module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    try:
        with torch.no_grad():
            return source.model(input_ids=ids, use_cache=False).logits, seen[0]
    finally:
        hook.remove()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_graft_reads_befores_stream_as_after_does(name: str) -> None:
    before, after = checkpoint(name, 0), checkpoint(name, 1)
    ids = torch.randint(50, (2, 6), generator=torch.Generator().manual_seed(0))
    _, stream = logits_and_stream(before, ids)
    with torch.no_grad():
        wanted = after.parts.unembedding(after.parts.final_norm.module(stream))
    embedding = before.model.get_input_embeddings().weight.clone()
    assert is_tied(before) == (name in TIED)
    graft_readout(before, readout_of(after))
    found, same_stream = logits_and_stream(before, ids)
    assert torch.equal(same_stream, stream)
    torch.testing.assert_close(found, wanted)
    assert torch.equal(before.model.get_input_embeddings().weight, embedding)
    assert not is_tied(before)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_readout_changes_nothing(name: str) -> None:
    before = checkpoint(name, 0)
    origin = {key: value.clone() for key, value in before.model.state_dict().items()}
    graft_readout(before, readout_of(checkpoint(name, 0)))
    assert is_tied(before) == (name in TIED)
    assert all(torch.equal(value, origin[key]) for key, value in before.model.state_dict().items())


@pytest.mark.parametrize("name", ["llama", "llama-gqa"])
def test_only_the_named_weights_are_taken_over(name: str) -> None:
    before, after = checkpoint(name, 0), checkpoint(name, 1)
    with torch.no_grad():
        after.parts.final_norm.module.weight.mul_(2)  # type: ignore[operator]
    head = before.parts.unembedding.weight.clone()  # type: ignore[operator]
    graft_readout(before, readout_of(after), ["norm.weight"])
    assert torch.equal(before.parts.final_norm.module.weight, after.parts.final_norm.module.weight)  # type: ignore[arg-type]
    assert torch.equal(before.parts.unembedding.weight, head)  # type: ignore[arg-type]
    assert is_tied(before) == (name in TIED)


def test_a_readout_is_a_copy_and_knows_its_parameters() -> None:
    source = checkpoint("gpt2", 0)
    readout = readout_of(source)
    wanted = {"norm.weight": "transformer.ln_f.weight", "norm.bias": "transformer.ln_f.bias"}
    assert readout_parameters(source) == wanted | {"unembedding.weight": "transformer.wte.weight"}
    with torch.no_grad():
        source.parts.unembedding.weight.zero_()  # type: ignore[operator]
    assert readout.weights["unembedding.weight"].any()
    untie(source)
    assert readout_parameters(source)["unembedding.weight"] == "lm_head.weight"


def test_readouts_of_other_shapes_are_refused() -> None:
    with pytest.raises(
        RLCircuitsError, match=r"unembedding\.weight is \[61, 32\] in llama-0 and \[62, 32\] in llama-1"
    ):
        graft_readout(checkpoint("llama", 0), readout_of(checkpoint("llama", 1, vocab_size=62)))
