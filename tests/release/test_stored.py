"""Answers, scores and comparisons that an earlier version stored are still found: same keys, same bytes.

The comparisons are of version 3. Version 4 writes the profile ``control`` as ``not-rl``, and has more fields, which a
comparison of version 3 leaves at their defaults. It is made again from the stored answers and scores. The noise control
has changed since, so that these tests measure none. ``version-4/`` has a comparison of version 4, from the same answers
and scores, with the noise control of its day, which is not found again. Version 5 adds how many questions and noise
draws were asked for.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.paths import ROOT
from helpers.stored_pairs import GRADERS, PAIRS, SETTINGS, STORED, graded_answers

from rlcircuits import (
    Checkpoint,
    CheckpointSource,
    Comparison,
    Pair,
    RLCircuitsError,
    judge,
    load_comparison,
    run_pair,
    save_comparison,
)
from rlcircuits.answers import cache as answer_cache
from rlcircuits.comparison.comparison import Requested
from rlcircuits.comparison.storage import to_document
from rlcircuits.release import finished
from rlcircuits.release.circuit_rules import CircuitRules
from rlcircuits.release.differences import compare_documents
from rlcircuits.release.finished import measurement_key
from rlcircuits.release.measurement import prepare
from rlcircuits.release.settings import Settings
from rlcircuits.release.verification import verify_pair

VERSION_4 = STORED / "version-4" / "grpo" / "comparison.json"

NEW_SINCE_VERSION_3 = {
    "rules": None,
    "claims": [],
    "group_controls": [],
    "weights": None,
    "differences": [],
    "supervised": None,
    "greedy": None,
    "requested": None,
}


@pytest.fixture(autouse=True)
def _no_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Checkpoint:
        raise AssertionError("a model was loaded, though what it would make is stored")

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(CheckpointSource, "load", refuse)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a copy of the stored files, and check after the test that the stored answers and scores are the same."""
    shutil.copytree(STORED, tmp_path, dirs_exist_ok=True)
    yield tmp_path
    assert _contents(tmp_path / "store") == _contents(ROOT / STORED / "store")


def _contents(folder: Path) -> dict[Path, bytes]:
    """Return the bytes of each file."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def _compare(pair: Pair, folder: Path, lines: list[str]) -> Comparison:
    return run_pair(pair, replace(SETTINGS, noise_draws=0, noise_groups=False), output=folder, notify=lines.append)


def _key(pair: Pair, settings: Settings = SETTINGS) -> str:
    return measurement_key(prepare(pair, settings, folder=None, store=None, notify=lambda _: None, progress=False))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_stored_answers_and_scores_give_the_same_comparison(pair: Pair, folder: Path) -> None:
    before = load_comparison(folder / pair.name)
    lines: list[str] = []
    now = _compare(pair, folder, lines)
    assert now.question_ids == before.question_ids
    # Another processor computes a logarithm with another last bit.
    made, stored = (to_document(each)["comparison"]["effects"] for each in (now, before))  # type: ignore[index]
    differences = [each for each in compare_documents(stored, made, lambda _: False).values() if each]
    assert all(each.is_rounding for each in differences), [each.words for each in differences]
    assert replace(now.accuracy, interval=None) == before.accuracy
    assert now.accuracy.interval is not None
    assert load_comparison(folder / pair.name) == now
    assert now.requested == Requested(SETTINGS.k, noise_draws=0)
    lines.clear()
    assert _compare(pair, folder, lines) == now
    assert lines == [f"{pair.name}: measured before, and nothing has changed since"]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_comparison_is_written_as_it_was(pair: Pair, tmp_path: Path) -> None:
    stored = STORED / pair.name / "comparison.json"
    document = json.loads(stored.read_bytes())
    saved = save_comparison(load_comparison(stored), tmp_path, document["key"])
    old, new = document["comparison"], json.loads(saved.read_bytes())["comparison"]
    today = {"control": "not-rl"}.get(old["profile"], old["profile"])
    accuracy = {**old["accuracy"], "interval": None}
    assert new == {**NEW_SINCE_VERSION_3, **old, "profile": today, "accuracy": accuracy}


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_comparison_of_version_3_is_judged(pair: Pair, tmp_path: Path) -> None:
    stored = STORED / pair.name / "comparison.json"
    assert json.loads(stored.read_bytes())["version"] == 3
    comparison = load_comparison(stored)
    verdict = judge(comparison)
    assert comparison.accuracy.interval is None
    assert all("Wilcoxon" in finding.message for finding in verdict.findings.values())
    assert "McNemar" in verdict.accuracy.message
    assert "interval" not in verdict.accuracy.message
    # 16 questions are few, so that most of them leave much open.
    assert verdict.accuracy.outcome == "holds"
    assert (verdict.not_online_rl is not None) == (pair.name == "sft-clean")
    saved = save_comparison(comparison, tmp_path)
    assert json.loads(saved.read_bytes())["version"] == 5
    assert load_comparison(saved) == comparison
    assert judge(load_comparison(saved)) == verdict


def test_a_comparison_of_version_4_is_read_and_judged_and_not_found_again() -> None:
    document = json.loads(VERSION_4.read_bytes())
    assert document["version"] == 4
    comparison = load_comparison(VERSION_4)
    assert comparison.requested is None
    assert [draw.draw for draw in comparison.controls] == [0]
    # The rule is today's, so that the verdict is still the stored one.
    now = to_document(comparison, document["key"])
    assert now["verdict"] == document["verdict"]
    assert now["comparison"] == {**document["comparison"], "requested": None}
    # Its noise did not sharpen, so that the pair is measured again, with today's.
    assert document["key"] != _key(PAIRS[0])


def test_a_comparison_of_version_4_is_verified(folder: Path) -> None:
    shutil.copyfile(VERSION_4, folder / "grpo" / "comparison.json")
    found = verify_pair(folder / "grpo")
    assert found.agrees
    agreement = {check.part: check.agreement for check in found.checks}
    # The store lacks its noise. All the rest is made again, the verdict by the rule of its version.
    assert agreement["noise control"] == "not checked"
    assert {agreement[part] for part in ("pairing", "accuracy", "scores")} == {"agrees"}
    assert agreement["metrics"] in ("agrees", "rounding")  # on another processor
    assert "an earlier rule" not in next(check.words for check in found.checks if check.part == "verdict")
    assert "comparison.controls (the number of noise draws wanted)" in found.taken


def test_an_earlier_version_has_nothing_of_a_later_one(tmp_path: Path) -> None:
    document = json.loads(VERSION_4.read_bytes())
    document["comparison"]["requested"] = {"k": 16, "noise_draws": 1}
    file = tmp_path / "comparison.json"
    file.write_text(json.dumps(document))
    with pytest.raises(RLCircuitsError, match="field 'version' is 4; 5 is wanted, since it has 'requested'"):
        load_comparison(file)
    file.write_text(json.dumps({**document, "version": 5}))
    assert load_comparison(file).requested == Requested(16, 1)


def test_the_former_name_of_a_profile_is_read() -> None:
    stored = STORED / "sft-clean" / "comparison.json"
    assert json.loads(stored.read_bytes())["comparison"]["profile"] == "control"
    comparison = load_comparison(stored)
    assert comparison.profile == judge(comparison).profile.name == "not-rl"


def test_a_pair_held_against_the_renamed_profile_keeps_its_key() -> None:
    def key(profile: str) -> str:
        # Without an algorithm, the profile's name is in the key twice.
        pair = Pair(name="sft-clean", before=PAIRS[1].before, after=PAIRS[1].after, profile=profile)
        return _key(pair)

    assert key("control") == key("not-rl") != key("preference")


def test_a_comparison_whose_engine_now_computes_otherwise_is_not_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def keys() -> dict[str, str]:
        return {engine: _key(PAIRS[0], replace(SETTINGS, engine=engine)) for engine in ("transformers", "vllm")}

    now = keys()
    monkeypatch.setattr(answer_cache, "_ARITHMETIC", {})
    earlier = keys()
    assert now["transformers"] == earlier["transformers"]
    assert now["vllm"] != earlier["vllm"]


def test_a_comparison_of_circuits_under_zero_ablation_is_not_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def keys() -> dict[str, str]:
        rules = {ablation: CircuitRules(ablation=ablation) for ablation in ("zero", "mean")}
        return {name: _key(PAIRS[0].model_copy(update={"circuits": each})) for name, each in rules.items()}

    now = keys()
    monkeypatch.setattr(finished, "_ZERO_ABLATION", 1)
    earlier = keys()
    assert now["mean"] == earlier["mean"]
    assert now["zero"] != earlier["zero"]


@pytest.mark.parametrize("grader", GRADERS)
def test_graded_answers_are_read(grader: str, folder: Path) -> None:
    assert len(graded_answers(grader, folder, lambda _: None)) == 40
