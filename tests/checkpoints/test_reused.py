"""A checkpoint that is loaded many times is read once, and each copy of it is one of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
import torch
from helpers.tiny_models import build
from helpers.tiny_pairs import save_tiny_pair

from rlcircuits import AnswerSequence, attribute
from rlcircuits.checkpoints import reused
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.noise import NoisedSource
from rlcircuits.checkpoints.source import CheckpointSource, on_cpu

SEQUENCES = [AnswerSequence((3, 4, 5), (6, 7)), AnswerSequence((5, 4), (3, 8, 9))]


@pytest.fixture
def sources(tmp_path: Path) -> tuple[CheckpointSource, CheckpointSource]:
    before, after = (CheckpointSource(str(folder), device="cpu") for folder in save_tiny_pair(tmp_path))
    return before, after


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that checkpoints were read from."""
    done: list[str] = []
    real = Checkpoint.load.__func__  # type: ignore[attr-defined]

    def load(cls: type[Checkpoint], source: Path, **options: object) -> Checkpoint:
        done.append(Path(source).name)
        return real(cls, source, **options)  # type: ignore[no-any-return]

    monkeypatch.setattr(Checkpoint, "load", classmethod(load))
    return done


def test_one_checkpoint_is_read_once(sources: tuple[CheckpointSource, CheckpointSource], loads: list[str]) -> None:
    before, after = sources
    with reused.reuse(before):
        found = [source.load() for source in (before, on_cpu(before), after, before, after)]
    assert loads == ["base", "tuned", "tuned"]
    assert [checkpoint.name for checkpoint in found] == [s.name for s in (before, on_cpu(before), after, before, after)]
    before.load()
    assert loads[3:] == ["base"], "after the block nothing is kept"


def test_a_copy_is_the_checkpoint_and_is_changed_alone(sources: tuple[CheckpointSource, CheckpointSource]) -> None:
    before, after = sources
    alone = before.load()
    noised = NoisedSource(before, after, 0).load()
    with reused.reuse(before):
        first = before.load()
        with torch.no_grad():
            for parameter in first.model.parameters():
                parameter.zero_()
        with_noise, second = NoisedSource(before, after, 0).load(), before.load()
    for one, other in ((alone, second), (noised, with_noise)):
        scores, copied = (attribute(each, SEQUENCES) for each in (one, other))
        assert torch.equal(scores.values, copied.values)
        assert torch.equal(scores.loss, copied.loss)
        # Tied embeddings stay tied, and those that noise has untied are not tied again.
        names = ([name for name, _ in each.model.named_parameters()] for each in (one, other))
        assert next(names) == next(names)
    assert second.tokenizer is first.tokenizer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_copy_computes_the_same_bits_wherever_a_file_has_its_weights(
    dtype: torch.dtype, sources: tuple[CheckpointSource, CheckpointSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight bytes beyond a line of the cache, as in the files of some models: single rows are summed in another way."""
    model = build("gpt-neox", dtype=dtype)
    for parameter in model.parameters():
        room = torch.empty(parameter.numel() + 64, dtype=dtype)
        start = (8 - room.data_ptr()) % 64 // parameter.element_size()
        parameter.data = room[start : start + parameter.numel()].view(parameter.shape).copy_(parameter.detach())
    monkeypatch.setattr(CheckpointSource, "_load", lambda self: Checkpoint(model, name="read"))
    with reused.reuse(sources[0]):
        read, *copies = (sources[0].load() for _ in range(3))
    for copied in copies:
        assert copied.model is not read.model
        assert {parameter.data_ptr() % 64 for parameter in copied.model.parameters()} == {8}
        with torch.no_grad():
            one, other = (each.model(torch.tensor([[3]])).logits for each in (read, copied))
        assert torch.equal(one, other)
    assert len({weight.data_ptr() for each in (read, *copies) for weight in each.model.parameters()}) == 3 * len(
        list(model.parameters())
    )


def test_changed_files_are_another_checkpoint(
    sources: tuple[CheckpointSource, CheckpointSource], loads: list[str]
) -> None:
    before, after = sources
    with reused.reuse(before):
        before.load()
        (Path(before.path) / "model.safetensors").write_bytes((Path(after.path) / "model.safetensors").read_bytes())
        changed = before.load()
    assert loads == ["base", "base"]
    wanted = dict(after.load().model.named_parameters())
    assert all(torch.equal(weight, wanted[name]) for name, weight in changed.model.named_parameters())


def test_two_threads_reuse_two_checkpoints(
    sources: tuple[CheckpointSource, CheckpointSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other thread loads before while this one begins to reuse after."""
    before, after = sources
    real = CheckpointSource._load
    loading, entered, loaded, done = Event(), Event(), Event(), Event()

    def load(self: CheckpointSource) -> Checkpoint:
        if self is before:
            loading.set()
            assert entered.wait(60)
        return real(self)

    def measure_before() -> None:
        with reused.reuse(before):
            before.load()
            loaded.set()
            assert done.wait(60)

    monkeypatch.setattr(CheckpointSource, "_load", load)
    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(measure_before)
        assert loading.wait(60)
        with reused.reuse(after):
            entered.set()
            assert loaded.wait(60)
            found = after.load()
            done.set()  # so that the other ends its block within this one
            other.result()
        wanted = dict(real(after).model.named_parameters())
        assert all(torch.equal(weight, wanted[name]) for name, weight in found.model.named_parameters())
    assert reused._reused.fingerprint is reused._reused.kept is None, "nothing is kept"


def test_a_large_model_is_read_each_time(
    sources: tuple[CheckpointSource, CheckpointSource], loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reused, "LARGEST", 1000)
    with reused.reuse(sources[0]):
        sources[0].load()
        sources[0].load()
    assert loads == ["base", "base"]
