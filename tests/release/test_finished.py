"""Which results of an earlier run are taken for those of this one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.tiny_pairs import save_tiny_pair

from rlcircuits.answers.types import Sampling
from rlcircuits.release.pair import Pair, make_pair
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings

pytestmark = pytest.mark.usefixtures("kind_grader")

SETTINGS = Settings(
    question_count=24,
    min_questions=5,
    alpha=0.5,
    balance=2.0,  # random answers differ in length
    noise_draws=1,
    noise_groups=False,
    sampling=Sampling(max_new_tokens=6),
    device="cpu",
)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    before, after = map(str, save_tiny_pair(tmp_path))
    return make_pair(name="mine", before=before, after=after, algorithm="grpo")


@pytest.fixture
def output(pair: Pair, tmp_path: Path) -> Path:
    """Return the output folder of a finished run."""
    run_pair(pair, SETTINGS, output=tmp_path / "output")
    return tmp_path / "output"


def test_what_an_interrupted_run_with_other_settings_left_is_not_taken_for_finished(pair: Pair, output: Path) -> None:
    """Its answers lie where those of the finished comparison were."""
    expected = {file.name: file.read_bytes() for file in (output / pair.name).iterdir() if file.name != "run.json"}
    other = replace(SETTINGS, sampling=replace(SETTINGS.sampling, seed=1))

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("rlcircuits.release.run.pair_answers", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_pair(pair, other, output=output)
    assert (output / pair.name / "before.answers.jsonl").read_bytes() != expected["before.answers.jsonl"]
    run_pair(pair, SETTINGS, output=output)
    assert {name: (output / pair.name / name).read_bytes() for name in expected} == expected


def test_a_comparison_with_all_noise_is_found_where_only_needed_noise_is_wanted(pair: Pair, output: Path) -> None:
    file = output / pair.name / "comparison.json"
    stored = file.read_bytes()
    told: list[str] = []
    run_pair(pair, replace(SETTINGS, noise_if_needed=True), output=output, notify=told.append)
    assert told == [f"{pair.name}: measured before, and nothing has changed since"]
    assert file.read_bytes() == stored
