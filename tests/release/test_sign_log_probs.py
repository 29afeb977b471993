"""Log-probabilities that the store has are read from it, and nothing else is."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.measured_results import PLAIN, measured_results

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.release import sign_log_probs
from rlcircuits.release.pair_signs import measure_pair_signs
from rlcircuits.release.sign_log_probs import side_tables
from rlcircuits.release.stored_pair import StoredPair
from rlcircuits.vital_signs.from_log_probs import SideTables


class Model:
    """The model before of a measured pair, with a log of what is told."""

    def __init__(self, results: Path) -> None:
        pair = StoredPair(results / PLAIN)
        self.answers, self.source = pair.answers, replace(pair.source("before"), device="cpu")
        self.store, self.told = results / "store", []  # type: ignore[var-annotated]

    def tables(self, **changes: Any) -> SideTables:
        given = {**self.answers, "source": self.source, "store": self.store, **changes}
        return side_tables(side="before", notify=self.told.append, **given)

    @property
    def files(self) -> list[Path]:
        return sorted(self.store.glob("*log-probs*.safetensors"))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return Path(shutil.copytree(measured_results(), tmp_path / "results"))


@pytest.fixture
def model(results: Path) -> Model:
    return Model(results)


def refuse_to_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: CheckpointSource) -> Checkpoint:
        raise AssertionError("loaded")

    monkeypatch.setattr(CheckpointSource, "load", load)


def assert_equal(one: SideTables, other: SideTables) -> None:
    for first, second in ((one.on_before, other.on_before), (one.on_after, other.on_after)):
        assert vars(first).keys() >= vars(second).keys() - {"lengths"}
        for name in ("log_probs", "entropies", "top_log_probs", "features", "distributions", "offsets"):
            found, wanted = getattr(second, name), getattr(first, name)
            assert (found is None) == (wanted is None)
            assert found is None or np.array_equal(found, wanted)
        assert (first.model, first.key, first.temperature) == (second.model, second.key, second.temperature)


def test_a_second_call_loads_no_model(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    first = model.tables()
    assert len(model.files) == 2
    refuse_to_load(monkeypatch)
    assert_equal(model.tables(), first)
    assert model.told == [
        "before is run on all answers",
        "before's log-probabilities of all answers are in the store",
    ]


def test_what_the_numbers_depend_on_is_in_the_key(model: Model, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model.tables()
    after = model.answers["after"]
    fewer = replace(after, items=after.items[:-1])
    cooler = {
        side: replace(each, sampling=replace(each.sampling, temperature=0.5)) for side, each in model.answers.items()
    }
    other = replace(StoredPair(results / PLAIN).source("after"), device="cpu")
    refuse_to_load(monkeypatch)
    for changes in (
        {"after": fewer},
        cooler,
        {"batch_tokens": 64},
        {"source": other},
        {"source": replace(model.source, dtype="float64")},
    ):
        with pytest.raises(AssertionError, match="loaded"):
            model.tables(**changes)


def test_a_damaged_table_is_made_again(model: Model) -> None:
    first = model.tables()
    for file in model.files:
        file.write_bytes(b"x")
    assert_equal(model.tables(), first)
    assert "computed again" in model.told[1]
    model.files[0].write_bytes(model.files[1].read_bytes())  # a table under another's name
    assert_equal(model.tables(), first)


def test_without_a_store_or_with_large_tables_nothing_is_kept(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    first = model.tables(store=model.store / "nowhere")
    assert not (model.store / "nowhere").exists()
    monkeypatch.setattr(sign_log_probs, "STORED_BYTES", 10)
    assert_equal(model.tables(), first)
    assert model.files == []


def test_distributions_that_are_too_large_are_left_out(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_log_probs, "DISTRIBUTION_BYTES", 10)
    first = model.tables()
    assert first.on_after.distributions is None
    refuse_to_load(monkeypatch)
    assert_equal(model.tables(), first)


def test_signs_are_the_same_from_the_store(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = measure_pair_signs(results / PLAIN)
    refuse_to_load(monkeypatch)
    assert measure_pair_signs(results / PLAIN) == first
