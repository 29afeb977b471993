"""Edge scores kept batch by batch: the same numbers as without a store, found again and gone on with."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.held_locks import run_while_held
from helpers.tiny_checkpoints import Unloadable, save_checkpoint, touch_weight
from helpers.tiny_models import random_sequences
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits import AnswerSequence, EdgeScores, attribute
from rlcircuits.attribution import edge_attribution as attribution
from rlcircuits.attribution.cache import attribute_stored
from rlcircuits.attribution.run_files import sequences_hash
from rlcircuits.attribution.stored_runs import stored_scores
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import try_write_lock

SEQUENCES = [AnswerSequence(s.prompt_ids, s.answer_ids) for s in random_sequences(9, seed=5)]
BUDGET = 30  # tokens: a few batches


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> CheckpointSource:
    return CheckpointSource(str(save_checkpoint(tmp_path_factory.mktemp("team") / "model")), device="cpu")


def score(source: Any, store: Path | None, sequences: list[AnswerSequence] = SEQUENCES, **options: Any) -> EdgeScores:
    return attribute_stored(source, sequences, **{"batch_tokens": BUDGET, "store": store, **options})


def run_in(store: Path) -> Path:
    (folder,) = (path for path in store.iterdir() if path.is_dir())
    return folder


def batches_in(store: Path) -> list[Path]:
    return sorted(run_in(store).glob("batch-*.safetensors"))


def same(found: EdgeScores, wanted: EdgeScores) -> bool:
    return (
        torch.equal(found.values, wanted.values)
        and torch.equal(found.loss, wanted.loss)
        and found.graph.same_as(wanted.graph)
        and found.backend == wanted.backend
    )


@pytest.mark.parametrize("granularity", ["sublayer", "head"])
def test_stored_scores_are_the_plain_ones(source: CheckpointSource, tmp_path: Path, granularity: str) -> None:
    wanted = attribute(source.load(), SEQUENCES, granularity, batch_tokens=BUDGET)
    assert same(score(source, tmp_path, granularity=granularity), wanted)
    assert same(score(Unloadable(source), tmp_path, granularity=granularity), wanted)
    assert same(score(Unloadable(source), tmp_path, granularity=granularity, recompute=True), wanted)
    assert same(score(source, tmp_path.with_suffix(".recomputed"), granularity=granularity, recompute=True), wanted)
    assert same(score(source, None, granularity=granularity), wanted)
    assert same(score(source.load(), None, granularity=granularity), wanted)
    team = Path(source.path).parent.name
    assert run_in(tmp_path).name.startswith(f"{team}-model-{granularity}-")
    assert len(batches_in(tmp_path)) > 2


@given(places=st.lists(st.integers(0, len(SEQUENCES) - 1), min_size=1, max_size=12), stored=st.booleans())
@settings(max_examples=6, deadline=None)
def test_a_sequence_that_occurs_again_is_scored_once(
    source: CheckpointSource, tmp_path_factory: pytest.TempPathFactory, places: list[int], stored: bool
) -> None:
    store = tmp_path_factory.mktemp("store") if stored else None
    chosen = list(dict.fromkeys(places))
    once = score(source, None, [SEQUENCES[place] for place in chosen])
    found = score(source, store, [SEQUENCES[place] for place in places])
    rows = [chosen.index(place) for place in places]
    assert torch.equal(found.values, once.values[rows])
    assert torch.equal(found.loss, once.loss[rows])
    if store is not None:
        (run,) = stored_scores(store)
        sequences = [SEQUENCES[place] for place in places]
        assert run.count == len(chosen)
        assert run.sequences == sequences_hash(sequences)
        assert same(run.load(sequences), found)


@pytest.mark.parametrize("missing", [slice(0, 1), slice(1, 3), slice(0, None)])
def test_missing_batches_are_made_and_no_others(source: CheckpointSource, tmp_path: Path, missing: slice) -> None:
    wanted = score(source, tmp_path)
    contents = {file: file.read_bytes() for file in batches_in(tmp_path)}
    kept = [file for file in contents if file not in list(contents)[missing]]
    for file in list(contents)[missing]:
        file.unlink()
    times = {file: file.stat().st_mtime_ns for file in kept}
    assert same(score(source, tmp_path), wanted)
    assert {file: file.read_bytes() for file in batches_in(tmp_path)} == contents
    assert {file: file.stat().st_mtime_ns for file in kept} == times


def test_each_batch_file_holds_edge_scores(source: CheckpointSource, tmp_path: Path) -> None:
    wanted = score(source, tmp_path)
    parts = [EdgeScores.load(file) for file in batches_in(tmp_path)]
    assert sum(len(part) for part in parts) == len(SEQUENCES)
    assert all(part.graph.same_as(wanted.graph) for part in parts)


def test_scores_of_other_weights_or_settings_are_not_reused(source: CheckpointSource, tmp_path: Path) -> None:
    score(source, tmp_path)
    longer = [replace(SEQUENCES[0], answer_ids=(*SEQUENCES[0].answer_ids, 5)), *SEQUENCES[1:]]
    for options in (
        {"batch_tokens": BUDGET + 1},
        {"batch_tokens": None},
        {"granularity": "head"},
        {"backend": "reference"},
        {"sequences": longer},
        {"sequences": SEQUENCES[::-1]},
    ):
        with pytest.raises(AssertionError, match="loaded"):
            score(Unloadable(source), tmp_path, **options)
    with pytest.raises(AssertionError, match="loaded"):
        score(Unloadable(replace(source, dtype="bfloat16")), tmp_path)


def test_a_changed_checkpoint_is_scored_again(tmp_path: Path) -> None:
    changed = CheckpointSource(str(save_checkpoint(tmp_path / "model")), device="cpu")
    first = score(changed, tmp_path / "store")
    touch_weight(tmp_path / "model")
    assert not same(score(changed, tmp_path / "store"), first)


@contextmanager
def memory_for_two_sequences(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let batches of more than two sequences run out of memory, without the warning."""
    plain = attribution._attribute_batch

    def small_memory(checkpoint: Any, sequences: Any, indices: Any, options: Any) -> Any:
        if len(indices) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return plain(checkpoint, sequences, indices, options)

    with monkeypatch.context() as patched, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patched.setattr(attribution, "_attribute_batch", small_memory)
        yield


def test_a_batch_halved_for_lack_of_memory_is_resumed(
    source: CheckpointSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = score(source, None)
    with memory_for_two_sequences(monkeypatch):
        score(source, tmp_path, batch_tokens=1000)
    batches_in(tmp_path)[1].unlink()
    found = score(source, tmp_path, batch_tokens=1000)
    torch.testing.assert_close(found.values, wanted.values)
    torch.testing.assert_close(found.loss, wanted.loss)


@pytest.mark.parametrize("size", [0, 7, 100, -4])
def test_a_truncated_file_is_scored_again(source: CheckpointSource, tmp_path: Path, size: int) -> None:
    wanted = score(source, tmp_path)
    first, second, *_ = batches_in(tmp_path)
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[0][:size])
    EdgeScores.load(second).save(second)  # without its places among the sequences
    with pytest.warns(UserWarning, match="is damaged; its scores are computed again") as told:
        assert same(score(source, tmp_path), wanted)
    assert [str(one.message).split(" ")[0] for one in told] == [str(first), str(second)]
    assert (first.read_bytes(), second.read_bytes()) == contents


def test_a_damaged_manifest_is_one_error(source: CheckpointSource, tmp_path: Path) -> None:
    score(source, tmp_path)
    batches_in(tmp_path)[1].unlink()
    manifest = run_in(tmp_path) / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"backend"', '"background"'))
    with pytest.raises(RLCircuitsError, match=r"manifest\.json, key 'backend': missing; remove the folder"):
        score(source, tmp_path)
    manifest.write_text(text.replace('"key":"', '"key":"0'))
    with pytest.raises(RLCircuitsError, match=r"manifest\.json: these scores were computed with other settings"):
        score(source, tmp_path)


def test_batches_of_two_graphs_are_one_error(source: CheckpointSource, tmp_path: Path) -> None:
    score(source, tmp_path / "sublayer")
    score(source, tmp_path / "head", granularity="head")
    file = batches_in(tmp_path / "sublayer")[-1]
    file.write_bytes((run_in(tmp_path / "head") / file.name).read_bytes())
    with pytest.raises(RLCircuitsError, match=rf"{file.name} is of another run than the other files in its folder"):
        score(source, tmp_path / "sublayer")


@pytest.mark.parametrize("finishes", [True, False])
def test_a_run_that_another_process_makes_is_waited_for(
    source: CheckpointSource, tmp_path: Path, finishes: bool
) -> None:
    """And then read where it is whole, or gone on with where that process died."""
    wanted = score(source, tmp_path)
    batch = batches_in(tmp_path)[0]
    content = batch.read_bytes()
    batch.unlink()
    scored = Unloadable(source) if finishes else source
    found = run_while_held(
        run_in(tmp_path),
        lambda notify: score(scored, tmp_path, notify=notify),
        lambda: finishes and batch.write_bytes(content),
    )
    assert same(found, wanted)
    assert batch.read_bytes() == content


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"granularity": "layer"}, "granularity is 'layer'"),
        ({"backend": "abacus"}, "backend is 'abacus'"),
        ({"batch_tokens": 0}, "batch_tokens is 0"),
        ({"sequences": []}, "there are no sequences to score"),
        ({"sequences": [AnswerSequence((1, 61), (3,))]}, "token id 61 at prompt position 1, outside the model's voc"),
    ],
)
def test_what_cannot_be_scored(source: CheckpointSource, tmp_path: Path, options: Any, message: str) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        score(source, tmp_path, **options)


def test_a_store_needs_a_source(source: CheckpointSource, tmp_path: Path) -> None:
    with pytest.raises(RLCircuitsError, match="is a loaded checkpoint; give a source, such as"):
        score(source.load(), tmp_path)


def test_loaded_scores_do_not_change_with_their_file(source: CheckpointSource, tmp_path: Path) -> None:
    """As they would, or end the process, were they the file's own pages."""
    file = tmp_path / "scores.safetensors"
    scores = score(source, None)
    scores.save(file)
    loaded = EdgeScores.load(file)
    loaded.save(file)
    file.write_bytes(b"\0" * file.stat().st_size)
    assert same(loaded, scores)


@pytest.mark.parametrize("missing", [slice(0), slice(1), slice(1, None), slice(None)])
def test_shared_scores_are_the_same_files(source: CheckpointSource, tmp_path: Path, missing: slice) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    wanted = score(source, alone)
    score(source, shared)
    for file in batches_in(shared)[missing]:
        file.unlink()
    assert same(score(source, shared, share=True), wanted)
    assert {path.name for path in run_in(shared).iterdir()} == {path.name for path in run_in(alone).iterdir()}
    assert [file.read_bytes() for file in batches_in(shared)] == [file.read_bytes() for file in batches_in(alone)]


def test_a_shared_batch_that_another_process_makes_is_left_to_it(source: CheckpointSource, tmp_path: Path) -> None:
    score(source, tmp_path)
    first, *others = batches_in(tmp_path)
    content = first.read_bytes()
    for file in (first, *others):
        file.unlink()

    def make_first() -> None:
        while not all(file.exists() for file in others):
            time.sleep(0.01)
        first.write_bytes(content)

    with try_write_lock(first) as free:
        assert free
        other = threading.Thread(target=make_first)
        other.start()
        found = threading.Thread(target=score, args=(source, tmp_path), kwargs={"share": True})
        found.start()
        other.join(60)
    found.join(60)
    assert not found.is_alive()
    assert same(score(Unloadable(source), tmp_path), score(source, None))


def test_processes_that_share_load_the_model_at_the_same_time(
    source: CheckpointSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score(source, tmp_path)
    for file in batches_in(tmp_path):
        file.unlink()
    loaded, plain = threading.Event(), CheckpointSource.load

    def load(self: CheckpointSource) -> Any:
        made = plain(self)
        loaded.set()
        return made

    monkeypatch.setattr(CheckpointSource, "load", load)
    found = threading.Thread(target=score, args=(source, tmp_path), kwargs={"share": True})
    with try_write_lock(run_in(tmp_path)) as free:  # another process begins
        assert free
        found.start()
        assert loaded.wait(60)
    found.join(60)
    assert same(score(Unloadable(source), tmp_path), score(source, None))


def test_a_shared_batch_that_is_halved_for_lack_of_memory(
    source: CheckpointSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = score(source, None)
    with memory_for_two_sequences(monkeypatch):
        found = score(source, tmp_path, batch_tokens=1000, share=True)
    torch.testing.assert_close(found.values, wanted.values)
    batches_in(tmp_path)[0].unlink()
    found = score(source, tmp_path, batch_tokens=1000, share=True)
    torch.testing.assert_close(found.values, wanted.values)
