"""Stored results are recomputed bit by bit, and whatever was changed in a comparison's file is noticed.

`test_verified_files.py` is of the files beside it. The results are three pairs of tiny random models
(`helpers/measured_results.py`), and those of an earlier version in `tests/stored/`.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.edited_results import checks_of, differing, edit, set_at
from helpers.measured_results import FULL, PLAIN, TOO_FEW, measured_results
from helpers.paths import ROOT
from helpers.stored_pairs import STORED
from helpers.tiny_pairs import grade_kindly, save_tiny_pair
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits import RLCircuitsError, Sampling, Settings, load_comparison, run_pair
from rlcircuits.release.differences import leaves
from rlcircuits.release.pair import make_pair
from rlcircuits.release.verification import verify_pair, verify_results

GRPO = ROOT / STORED / "grpo"


@pytest.fixture(autouse=True)
def _kind_grader(monkeypatch: pytest.MonkeyPatch) -> None:
    grade_kindly(monkeypatch)  # the one that the answers were graded by


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the measured results."""
    return Path(shutil.copytree(measured_results(), tmp_path / "out"))


def test_untouched_results_agree_bit_by_bit() -> None:
    found = verify_results(measured_results(), models=True, regrade=True)
    assert [one.name for one in found] == [FULL, f"{FULL}/control", PLAIN, TOO_FEW]
    for one in found:
        assert {check.agreement for check in one.checks} == {"agrees"}, one.checks
        assert one.agrees
        assert one.verified
        assert not one.missing
        assert not one.unchecked
        parts = [
            "pairing", "accuracy", "metrics", "noise control", "supervised control", "weights", "verdict", "scores",
            "checkpoints", "texts", "grades",
        ]  # fmt: skip
        left_out = {FULL: (), TOO_FEW: ("supervised control", "scores", "checkpoints")}.get(
            one.name, ("supervised control",)
        )
        assert [check.part for check in one.checks] == [part for part in parts if part not in left_out]
    stored = load_comparison(measured_results() / FULL)
    assert stored.group_controls
    assert stored.supervised
    assert stored.greedy
    assert not load_comparison(measured_results() / TOO_FEW).is_measured
    assert [claim.measure for claim in stored.claims] == ["claimed-accuracy", "reference-accuracy"]


ASKED = {
    "key", "comparison.name", "comparison.algorithm", "comparison.profile", "comparison.rules", "comparison.engine",
    "comparison.score_on", "comparison.alpha", "comparison.balance", "comparison.trust_remote_code",
    "comparison.claims.0.wanted", "comparison.claims.1.reference", "comparison.requested.k",
    "comparison.requested.noise_draws",
}  # fmt: skip
"""What was asked for: fields that can only be noticed by what follows from them."""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the measured results whose comparison.json is written again for each example."""
    return Path(shutil.copytree(measured_results(), tmp_path_factory.mktemp("scratch") / "out"))


def _another(value: Any, draw: Callable[[Any], Any]) -> Any:
    """Return another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return draw((st.floats(-2, 2) | st.integers(-3, 500)).filter(lambda other: other != value))
    if isinstance(value, str):
        return draw(st.sampled_from(["", "x", f"{value}x", value.swapcase(), value[:-1]]).filter(lambda o: o != value))
    return draw(st.sampled_from([1, "x", 0.5, [], {}, None]).filter(lambda other: other != value))


def check_that_a_changed_value_is_noticed(scratch: Path, name: str, data: st.DataObject) -> None:
    document = json.loads((measured_results() / name / "comparison.json").read_bytes())
    field, value = data.draw(st.sampled_from(list(leaves(document))))
    set_at(document, field, _another(value, data.draw))
    check_that_it_is_noticed(scratch / name / "comparison.json", document, field)


def check_that_it_is_noticed(file: Path, document: dict[str, Any], field: str) -> None:
    file.write_text(json.dumps(document))
    try:
        load_comparison(file)
    except RLCircuitsError:  # the file contradicts itself
        with pytest.raises(RLCircuitsError, match=re.escape(str(file))):
            verify_pair(file.parent)
        return
    # Other checkpoints cannot be read.
    found = verify_pair(file.parent, models=field not in ("comparison.before", "comparison.after"))
    # A value that is not allowed leaves nothing to compare with: the check differs, and its words name the value.
    noticed = [check for check in found.checks if check.agreement == "differs" or check.differences]
    assert not found.verified or field in ASKED
    assert found.verified or noticed, [check.words for check in found.checks]


def test_a_value_that_is_not_allowed_is_named(scratch: Path) -> None:
    document = json.loads((measured_results() / FULL / "comparison.json").read_bytes())
    set_at(document, "comparison.alpha", 0.0)
    (scratch / FULL / "comparison.json").write_text(json.dumps(document))
    found = verify_pair(scratch / FULL, models=False)
    assert not found.verified
    assert checks_of(found)["pairing"].agreement == "differs"
    assert checks_of(found)["pairing"].words.startswith("alpha is 0.0; a number above 0 and at most 1 is wanted")


@settings(max_examples=6)
@given(st.data())
def test_every_changed_value_is_noticed(scratch: Path, data: st.DataObject) -> None:
    check_that_a_changed_value_is_noticed(scratch, FULL, data)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.sampled_from([FULL, PLAIN, TOO_FEW]), st.data())
def test_every_changed_value_is_noticed_in_many_examples(scratch: Path, name: str, data: st.DataObject) -> None:
    check_that_a_changed_value_is_noticed(scratch, name, data)


NEWER = ["rules", "claims", "group_controls", "weights", "differences", "supervised", "greedy", "requested"]


@pytest.mark.parametrize("field", [*NEWER, "unfinished", "note", "controls", "accuracy"])
def test_a_field_that_was_removed_is_noticed(scratch: Path, field: str) -> None:
    document = json.loads((measured_results() / FULL / "comparison.json").read_bytes())
    del document["comparison"][field]
    check_that_it_is_noticed(scratch / FULL / "comparison.json", document, f"comparison.{field}")


@pytest.mark.parametrize(
    ("field", "value", "follows"), [("alpha", 0.9, "t_cut"), ("balance", 0.0, "funnel.lengths balanced")]
)
def test_a_changed_setting_is_noticed_by_what_follows(tmp_path: Path, field: str, value: float, follows: str) -> None:
    pair_folder = Path(shutil.copytree(GRPO, tmp_path / "grpo"))
    edit(pair_folder / "comparison.json", lambda document: document["comparison"].update({field: value}))
    found = verify_pair(pair_folder)
    assert f"comparison.{field}" in found.taken
    assert f"comparison.{follows}" in {difference.field for difference in checks_of(found)["pairing"].differences}


def test_a_note_is_recomputed(folder: Path) -> None:
    note = "30 questions were wanted and 22 were left, so all are compared"
    assert load_comparison(folder / PLAIN).note == note
    assert "comparison.requested" in verify_pair(folder / PLAIN).taken
    for other in (note.replace("22", "23"), f"{note}; trust this", "all is well"):
        edit(
            folder / PLAIN / "comparison.json", lambda document, other=other: document["comparison"].update(note=other)
        )
        pairing = checks_of(verify_pair(folder / PLAIN))["pairing"]
        assert "comparison.note" in {difference.field for difference in pairing.differences}


def test_the_last_bit_of_a_number_is_told_as_rounding(folder: Path) -> None:
    edit(folder / PLAIN / "comparison.json", lambda document: nudge(document["comparison"]["effects"]["intensity"]))
    found = verify_pair(folder / PLAIN)
    metrics = checks_of(found)["metrics"]
    assert metrics.agreement == "rounding"
    assert re.search(r"1 of \d+ values differ by [12]\.\de-16 at most", metrics.words)
    assert found.agrees


def nudge(effect: dict[str, Any]) -> None:
    effect["after"] = math.nextafter(effect["after"], math.inf)


def test_a_larger_change_than_rounding_differs(folder: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["comparison"]["effects"]["intensity"]["after"] *= 1 + 1e-8

    edit(folder / PLAIN / "comparison.json", change)
    found = verify_pair(folder / PLAIN)
    assert differing(found) == {"metrics"}
    (difference,) = checks_of(found)["metrics"].differences
    assert difference.field == "comparison.effects.intensity.after"
    assert difference.found == pytest.approx(difference.recomputed * (1 + 1e-8), rel=1e-14)


def test_a_verdict_that_was_changed_by_hand_differs(folder: Path) -> None:
    edit(folder / PLAIN / "comparison.json", lambda document: document["verdict"].update(holds="certainly"))
    found = verify_pair(folder / PLAIN)
    assert differing(found) == {"verdict"}
    assert "verdict.holds: file 'certainly', recomputed" in checks_of(found)["verdict"].words


def test_an_earlier_version_is_judged_by_todays_rule_and_not_verified() -> None:
    found = verify_pair(ROOT / STORED / "grpo")
    assert found.agrees
    assert not found.verified
    assert "comparison.supervised" in found.taken
    words = "the file is of version 3, whose verdict follows an earlier rule; by today's rule the same numbers give: "
    assert checks_of(found)["verdict"].words.startswith(words)


@pytest.mark.parametrize("name", ["before.answers.jsonl", "after.scores.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / PLAIN / name).unlink()
    with pytest.raises(RLCircuitsError, match=re.escape(name)):
        verify_pair(folder / PLAIN)


def test_noise_that_was_not_needed_is_verified(tmp_path: Path) -> None:
    """Its absence is no difference, and draws that were taken out of a file are noticed."""
    base, tuned = map(str, save_tiny_pair(tmp_path / "models"))
    how = Settings(
        question_count=24, min_questions=5, alpha=0.5, balance=2.0, noise_draws=2, noise_if_needed=True,
        sampling=Sampling(max_new_tokens=6, n=1), device="cpu",
    )  # fmt: skip
    pair = make_pair(name="es", algorithm="es", before=base, after=tuned)
    found = run_pair(pair, how, output=tmp_path / "out")
    assert found.noise_not_needed is not None
    (verified,) = verify_results(tmp_path / "out")
    assert {check.agreement for check in verified.checks} == {"agrees", "not checked"}
    unchecked = {check.part for check in verified.checks if check.agreement == "not checked"}
    assert unchecked == {"weights"}  # which need the models
    edit(tmp_path / "out/es/comparison.json", lambda document: document["comparison"].update(algorithm="grpo"))
    edit(tmp_path / "out/es/comparison.json", lambda document: document["comparison"].update(profile="online-rl"))
    with pytest.raises(RLCircuitsError, match="noise_not_needed"):
        verify_results(tmp_path / "out")
