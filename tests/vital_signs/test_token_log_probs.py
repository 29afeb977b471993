"""A model's log-probabilities of given answers, against an independent float64 forward, and what must not matter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import oracle
from helpers.core_inputs import NAMES, batches, fixed_sequences, tiny
from helpers.tiny_models import VOCABULARY, build
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from rlcircuits import AnswerSequence, Checkpoint, RLCircuitsError
from rlcircuits.graph.sequences import make_batch
from rlcircuits.vital_signs import token_log_probs as module
from rlcircuits.vital_signs.log_prob_table import AnswerLogProbs
from rlcircuits.vital_signs.token_log_probs import answer_log_probs

NUMBERS = ("log_probs", "entropies", "top_log_probs")


def defined(model: Any, sequences: Sequence[AnswerSequence], temperature: float = 1.0) -> dict[str, np.ndarray]:
    """The numbers by their definition, from the float64 forward that is written out in the tests' helpers."""
    logits = [oracle.logits(model, each)[-len(each.answer_ids) :] for each in sequences]
    tables = [(each / temperature).log_softmax(-1) for each in logits]
    log_p = torch.cat(tables)
    targets = torch.tensor([token for each in sequences for token in each.answer_ids])
    return {
        "log_probs": log_p[torch.arange(len(targets)), targets].numpy(),
        "entropies": -(log_p.exp() * log_p).sum(-1).numpy(),
        "top_log_probs": log_p.max(-1).values.numpy(),
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_numbers_are_those_of_a_float64_forward(name: str, temperature: float) -> None:
    sequences = fixed_sequences(4)
    found = answer_log_probs(tiny(name), sequences, temperature=temperature)
    for number, wanted in defined(tiny(name), sequences, temperature).items():
        assert getattr(found, number).dtype == np.float32
        np.testing.assert_allclose(getattr(found, number), wanted, rtol=2e-4, atol=5e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_float64_model_has_float64_numbers(name: str) -> None:
    model, sequences = build(name, seed=3, dtype=torch.float64), fixed_sequences()
    found = answer_log_probs(model, sequences)
    for number, wanted in defined(model, sequences).items():
        assert getattr(found, number).dtype == np.float64
        np.testing.assert_allclose(getattr(found, number), wanted, rtol=2e-5, atol=2e-5)  # norms are float32


@pytest.mark.parametrize("name", NAMES)
def test_a_bfloat16_models_own_logits_are_normalised_in_float32(name: str) -> None:
    model, (sequence, *_) = build(name, seed=3, dtype=torch.bfloat16), fixed_sequences()
    found = answer_log_probs(model, [sequence])
    ids = torch.tensor([[*sequence.prompt_ids, *sequence.answer_ids[:-1]]])
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0, len(sequence.prompt_ids) - 1 :]
    assert logits.dtype == (torch.float32 if name == "nemotron-h" else torch.bfloat16)
    log_p = logits.double().log_softmax(-1)
    wanted = log_p[torch.arange(len(log_p)), torch.tensor(sequence.answer_ids)]
    # The head reads the scored positions alone, whose products may round to the next bfloat16.
    np.testing.assert_allclose(found.log_probs, wanted, atol=2**-6 * float(logits.abs().max()))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=5)
@given(data=st.data())
def test_batches_and_chunks_do_not_matter(name: str, data: Any) -> None:
    sequences = data.draw(batches)
    budget, rows = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 7))
    alone = [answer_log_probs(tiny(name), [each], features=False) for each in sequences]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LOGIT_BYTES", 4 * VOCABULARY * rows)
        found = answer_log_probs(tiny(name), sequences, batch_tokens=budget)
    for number in NUMBERS:
        wanted = np.concatenate([getattr(each, number) for each in alone])
        np.testing.assert_allclose(getattr(found, number), wanted, rtol=1e-4, atol=2e-5)
    assert found.lengths.tolist() == [len(each.answer_ids) for each in sequences]


@pytest.mark.parametrize("name", NAMES)
def test_no_table_of_logits_has_more_rows_than_allowed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    original = module.log_softmax

    def watched(logits: torch.Tensor, temperature: float) -> torch.Tensor:
        rows.append(len(logits))
        return original(logits, temperature)

    monkeypatch.setattr(module, "log_softmax", watched)
    monkeypatch.setattr(module, "LOGIT_BYTES", 4 * VOCABULARY * 3)
    sequences = fixed_sequences(4)
    answer_log_probs(tiny(name), sequences)
    assert max(rows) == 3
    assert sum(rows) == sum(len(each.answer_ids) for each in sequences)


@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(-50, 50))
def test_a_constant_added_to_all_logits_changes_nothing(seed: int, scale: float) -> None:
    model = build("llama", seed=3, dtype=torch.float64)
    sequences = fixed_sequences()
    wanted = answer_log_probs(model, sequences)
    direction = torch.randn(32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        model.lm_head.weight += scale * direction  # to every row, so that a position's logits all move alike
    found = answer_log_probs(model, sequences)
    for number in NUMBERS:
        np.testing.assert_allclose(getattr(found, number), getattr(wanted, number), atol=1e-8)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_uniform_logits_have_log_v_of_everything(temperature: float) -> None:
    model = build("llama", seed=3)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    found = answer_log_probs(model, fixed_sequences(), temperature=temperature)
    np.testing.assert_allclose(np.exp(found.means(found.log_probs)), 1 / VOCABULARY, rtol=1e-6)
    np.testing.assert_allclose(found.entropies / np.log(found.vocabulary), 1, rtol=1e-6)


def test_a_sharp_distribution_has_entropy_0() -> None:
    found = answer_log_probs(tiny("llama"), fixed_sequences(), temperature=0.01)
    peaked = found.top_log_probs > -1e-7
    assert peaked.any()
    np.testing.assert_allclose(found.entropies[peaked], 0, atol=1e-5)


@given(sequences=batches, temperature=st.floats(0.1, 10))
def test_numbers_are_ordered_as_those_of_a_distribution(sequences: list[AnswerSequence], temperature: float) -> None:
    found = answer_log_probs(tiny("gpt2"), sequences, temperature=temperature)
    assert (found.log_probs <= found.top_log_probs + 1e-6).all()
    assert (found.entropies >= -found.top_log_probs - 1e-4).all()  # the mean of −log p is no less than the least
    assert (found.entropies <= np.log(VOCABULARY) + 1e-4).all()


@pytest.mark.parametrize("name", NAMES)
def test_features_are_what_the_unembedding_reads_at_one_scored_position(name: str) -> None:
    checkpoint, sequences = Checkpoint(tiny(name)), fixed_sequences(4)
    found = answer_log_probs(checkpoint, sequences, features=True, batch_tokens=20)
    again = answer_log_probs(checkpoint, sequences, features=True)
    assert found.features is not None
    assert again.features is not None
    np.testing.assert_allclose(found.features, again.features, rtol=1e-3, atol=1e-4)
    for feature, sequence in zip(found.features, sequences, strict=True):
        batch = make_batch([sequence], [0])
        seen: list[torch.Tensor] = []
        hook = checkpoint.parts.unembedding.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
        with torch.no_grad():
            checkpoint.model(input_ids=batch.input_ids, use_cache=False)
        hook.remove()
        distance = (seen[0][0, batch.columns] - torch.from_numpy(feature)).abs().amax(-1)
        assert distance.min() < 1e-3


def test_the_model_is_left_as_it_was() -> None:
    model = build("gemma2", seed=3).train()
    before = {name: (id(vars(each).get("forward")), len(each._forward_hooks)) for name, each in model.named_modules()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LOGIT_BYTES", 1)
        answer_log_probs(model, fixed_sequences())
    after = {name: (id(vars(each).get("forward")), len(each._forward_hooks)) for name, each in model.named_modules()}
    assert before == after
    assert model.training
    assert all(p.requires_grad for p in model.parameters())


@given(data=st.data())
@settings(max_examples=20)
def test_a_stored_table_is_read_as_it_was(data: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    sequences = data.draw(batches)
    features, distributions = data.draw(st.booleans()), data.draw(st.booleans())
    table = answer_log_probs(tiny("gpt2"), sequences, features=features, distributions=distributions)
    path = tmp_path_factory.mktemp("table") / "a.safetensors"
    table.save(path)
    found = AnswerLogProbs.load(path)
    for name, value in vars(table).items():
        other = getattr(found, name)
        assert np.array_equal(value, other) if isinstance(value, np.ndarray) else value == other, name


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    answer_log_probs(tiny("gpt2"), fixed_sequences()).save(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RLCircuitsError, match=r"a\.safetensors"):
        AnswerLogProbs.load(path)
    with pytest.raises(RLCircuitsError, match=r"missing\.safetensors"):
        AnswerLogProbs.load(tmp_path / "missing.safetensors")
    save_file({"other": np.zeros(1)}, path)
    with pytest.raises(RLCircuitsError, match="holds no log-probabilities"):
        AnswerLogProbs.load(path)


def test_no_sequences_give_an_empty_table() -> None:
    table = answer_log_probs(tiny("gpt2"), [])
    assert len(table) == 0
    assert table.sums(table.log_probs).size == 0


def test_bad_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sequences = tiny("gpt2"), fixed_sequences()
    with pytest.raises(RLCircuitsError, match="temperature is 0"):
        answer_log_probs(model, sequences, temperature=0)
    with pytest.raises(RLCircuitsError, match="temperature is -1"):
        answer_log_probs(model, sequences, temperature=-1)
    with pytest.raises(RLCircuitsError, match="empty answer"):
        answer_log_probs(model, [AnswerSequence((3,), ())])
    monkeypatch.setattr(module, "DISTRIBUTION_BYTES", 10)
    with pytest.raises(RLCircuitsError, match="GiB is kept"):
        answer_log_probs(model, sequences, distributions=True)


def test_a_damaged_model_is_named() -> None:
    checkpoint = Checkpoint(build("llama", seed=3))
    with torch.no_grad():
        checkpoint.model.lm_head.weight[5] = torch.nan
    with pytest.raises(RLCircuitsError, match=r"sequence \d has a log-probability that is NaN.*lm_head"):
        answer_log_probs(checkpoint, fixed_sequences())


def test_a_batch_that_runs_out_of_memory_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = fixed_sequences(4)
    wanted = answer_log_probs(tiny("llama"), sequences)
    original = module.scored_logits

    def small(model: Any, parts: Any, batch: Any, rows: int) -> Any:
        if len(batch.indices) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return original(model, parts, batch, rows)

    monkeypatch.setattr(module, "scored_logits", small)
    with pytest.warns(UserWarning, match="half as many"):
        found = answer_log_probs(tiny("llama"), sequences)
    np.testing.assert_allclose(found.log_probs, wanted.log_probs, atol=1e-5)
