"""A pair with a supervised control, measured on real tiny models: before's answers made once, and what is refused."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_pairs import save_tiny_pair

from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.comparison.storage import find_comparisons, load_comparison, save_comparison
from rlcircuits.comparison.supervised_control import beyond_supervised
from rlcircuits.release.pair import Pair, make_pair
from rlcircuits.release.pair_folders import find_pair_folders
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings

pytestmark = pytest.mark.usefixtures("kind_grader")

SETTINGS = Settings(
    question_count=50,
    min_questions=5,
    alpha=0.5,
    balance=2.0,  # random answers differ in length
    noise_draws=0,
    sampling=Sampling(max_new_tokens=6),
    device="cpu",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the folders of a base, of a checkpoint trained from it, and of another one."""
    base, tuned = save_tiny_pair(tmp_path_factory.mktemp("models"))
    _, other = save_tiny_pair(tmp_path_factory.mktemp("other"), update=0.05)
    return {"before": str(base), "after": str(tuned), "control": str(other)}


def pair_of(models: dict[str, str], **fields: Any) -> Pair:
    return make_pair(**{"name": "mine", "algorithm": "grpo", **models, **fields})


@pytest.fixture(scope="module")
def measured(models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path, list[str]]:
    """Return the pair's comparison, the output folder of its run, and what was logged."""
    output, log = tmp_path_factory.mktemp("output"), list[str]()
    return run_pair(pair_of(models), SETTINGS, output=output, notify=log.append), output, log


def test_the_control_is_a_pair_of_its_own_within_the_pairs_folder(
    models: dict[str, str], measured: tuple[Comparison, Path, list[str]]
) -> None:
    comparison, output, log = measured
    control = load_comparison(output / "mine" / "control")
    assert (control.before, control.after, control.controls) == (models["before"], models["control"], ())
    assert comparison.supervised == beyond_supervised(comparison, control)
    assert list(comparison.supervised.beyond) == list(GATE_METRICS)
    assert 5 <= comparison.supervised.beyond["intensity"].questions <= comparison.k
    assert load_comparison(output / "mine") == comparison
    assert find_comparisons(output) == (output / "mine" / "comparison.json",)
    assert any(line.startswith("mine: control: after answers") for line in log)


def test_the_control_of_an_earlier_run_is_not_verified(
    measured: tuple[Comparison, Path, list[str]], tmp_path: Path
) -> None:
    comparison, output, _ = measured
    folder = Path(shutil.copytree(output / "mine", tmp_path / "mine"))
    assert find_pair_folders(folder) == (folder, folder / "control")
    save_comparison(replace(comparison, supervised=None), folder)
    assert find_pair_folders(folder) == find_pair_folders(tmp_path) == (folder,)


def test_a_copy_beside_its_original_is_refused(measured: tuple[Comparison, Path, list[str]], tmp_path: Path) -> None:
    for name in ("mine", "mine-copy"):
        shutil.copytree(measured[1] / "mine", tmp_path / name)
    with pytest.raises(RLCircuitsError, match=r"mine-copy/comparison\.json: field 'comparison.name' is .*, as in"):
        find_pair_folders(tmp_path)
    (tmp_path / "mine" / "comparison.json").write_text("{}")  # which is told when it is read for its results
    assert tmp_path / "mine-copy" in find_pair_folders(tmp_path)


def test_a_pair_that_was_not_finished_is_not_taken_for_its_control(
    measured: tuple[Comparison, Path, list[str]], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(measured[1] / "mine", tmp_path / "mine"))
    (folder / "comparison.json").unlink()
    with pytest.raises(RLCircuitsError, match=r"mine: holds a pair's answers and no comparison\.json: .* not finished"):
        find_comparisons(folder)


def test_before_is_asked_once(models: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    load = Checkpoint.load.__func__  # type: ignore[attr-defined]

    def noted(cls: type[Checkpoint], source: Any, **options: Any) -> Checkpoint:
        loaded.append(str(source))
        return load(cls, source, **options)  # type: ignore[no-any-return]

    monkeypatch.setattr(Checkpoint, "load", classmethod(noted))
    run_pair(pair_of(models), SETTINGS)
    assert loaded == [models[name] for name in ("before", "after", "control")]  # copies of before serve the rest


def test_the_control_is_not_asked_greedily(models: dict[str, str], tmp_path: Path) -> None:
    log: list[str] = []
    found = run_pair(pair_of(models), replace(SETTINGS, greedy=True), output=tmp_path, notify=log.append)
    assert [line for line in log if "greedily" in line] == [
        f"mine: {side}, greedily, answers 50 questions of arithmetic" for side in ("after", "before")
    ]
    assert found.greedy is not None
    assert load_comparison(tmp_path / "mine" / "control").greedy is None


def test_the_updates_direction_is_compared_with_the_controls(measured: tuple[Comparison, Path, list[str]]) -> None:
    comparison, _, _ = measured
    assert comparison.weights is not None
    assert comparison.weights.reference_cosine == pytest.approx(1, abs=0.01)  # the same noise, only larger


def test_the_same_without_any_folder(
    models: dict[str, str], measured: tuple[Comparison, Path, list[str]], tmp_path: Path
) -> None:
    assert run_pair(pair_of(models), SETTINGS) == measured[0]


def test_another_control_is_measured_anew_and_the_same_one_is_found(
    models: dict[str, str], measured: tuple[Comparison, Path, list[str]]
) -> None:
    _, output, _ = measured
    log: list[str] = []
    run_pair(pair_of(models), SETTINGS, output=output, notify=log.append)
    assert log == ["mine: measured before, and nothing has changed since"]
    without = run_pair(pair_of(models, control=None), SETTINGS, output=output)
    assert without.supervised is None
    assert run_pair(pair_of(models), SETTINGS, output=output) == measured[0]


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_control_that_is_one_of_the_pairs_own_checkpoints_is_refused(models: dict[str, str], side: str) -> None:
    with pytest.raises(RLCircuitsError, match=f"is the same checkpoint as {side}, .*; name one that was trained from"):
        run_pair(pair_of(models, control=models[side]), SETTINGS)


def test_a_control_of_another_architecture_is_refused_before_any_model_runs(
    models: dict[str, str], tmp_path: Path
) -> None:
    other, _ = save_tiny_pair(tmp_path, architecture="gpt2")
    log: list[str] = []
    with pytest.raises(RLCircuitsError, match=f"{re.escape(str(other))} is no other training of"):
        run_pair(pair_of(models, control=str(other)), SETTINGS, notify=log.append)
    assert not any("answers" in line for line in log)


def test_a_control_with_too_few_questions_left_is_named(
    models: dict[str, str], measured: tuple[Comparison, Path, list[str]]
) -> None:
    comparison, output, _ = measured
    control = load_comparison(output / "mine" / "control")
    assert comparison.k < control.k  # so that the two swapped leave too few for the control alone
    swapped = pair_of(models, after=models["control"], control=models["after"])
    settings = replace(SETTINGS, min_questions=control.k)
    with pytest.raises(RLCircuitsError, match=r"^the supervised control .* share 0 of the questions compared"):
        run_pair(swapped, settings, store=output / "store")


def test_recorded_answers_of_both_in_one_file_leave_none_for_the_control(models: dict[str, str]) -> None:
    with pytest.raises(RLCircuitsError, match="record before's answers in a file of their own"):
        pair_of(models, recorded_before="both.jsonl", recorded_after="both.jsonl")
    pair_of(models, recorded_before="before.jsonl", recorded_after="after.jsonl")


@pytest.mark.parametrize("key", ["control", "reference"])
def test_an_empty_checkpoint_is_refused(models: dict[str, str], key: str) -> None:
    with pytest.raises(RLCircuitsError, match=f"key '{key}': .*it is empty; a folder or a hub id is wanted"):
        pair_of(models, **{key: " "})
