"""What a run was asked for is recorded, so that draws or questions that were removed from its file are noticed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.measured_results import FULL, PLAIN, TOO_FEW, measured_results

from rlcircuits import RLCircuitsError, load_comparison
from rlcircuits.comparison.comparison import Requested
from rlcircuits.release.verification import verify_pair


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the measured results."""
    return Path(shutil.copytree(measured_results(), tmp_path / "out"))


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(("name", "kept"), [(FULL, 1), (FULL, 0), (PLAIN, 0)])
def test_noise_draws_that_were_removed_are_an_error(folder: Path, name: str, kept: int) -> None:
    file = folder / name / "comparison.json"
    asked = len(load_comparison(file).controls)
    edit(file, lambda document: document["comparison"].update(controls=document["comparison"]["controls"][:kept]))
    words = rf"'comparison.controls' is .*; a list of {asked} draws, as many as were asked for .*measure the pair again"
    with pytest.raises(RLCircuitsError, match=words):
        verify_pair(folder / name)


@pytest.mark.parametrize(
    ("name", "k", "follows"),
    [
        (FULL, 11, "comparison.question_ids"),  # another sample
        (FULL, None, "comparison.question_ids"),  # all that are left
        (PLAIN, 31, "comparison.note"),
        (PLAIN, None, "comparison.note"),
    ],
)
def test_another_k_than_was_asked_for_is_noticed_by_what_follows(
    folder: Path, name: str, k: int | None, follows: str
) -> None:
    edit(folder / name / "comparison.json", lambda document: document["comparison"]["requested"].update(k=k))
    (pairing,) = (check for check in verify_pair(folder / name).checks if check.part == "pairing")
    assert any(difference.field.startswith(follows) for difference in pairing.differences)


def test_what_was_asked_for_is_recorded_where_nothing_is_compared() -> None:
    assert load_comparison(measured_results() / TOO_FEW).requested == Requested(None, 1)
    assert load_comparison(measured_results() / FULL).requested == Requested(10, 2)
    assert load_comparison(measured_results() / FULL / "control").requested == Requested(None, 0)
