"""Which checkpoints of a run are found, and which step each is of."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.release.training_run import default_base, find_steps


def checkpoint(folder: Path) -> Path:
    """Make a folder that looks like a checkpoint; only names are looked at here."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


@given(
    prefix=st.sampled_from(["checkpoint-", "step_", "global_step_", "iter", "", "ckpt.", "epoch-1-step-"]),
    steps=st.lists(st.integers(0, 10**7), min_size=2, max_size=6, unique=True),
    width=st.sampled_from([0, 8]),
    below=st.sampled_from(["", "actor/huggingface"]),
    data=st.data(),
)
@settings(max_examples=25)
def test_steps_are_those_of_the_names_in_ascending_order(
    prefix: str, steps: list[int], width: int, below: str, data: st.DataObject
) -> None:
    with TemporaryDirectory() as folder:
        run = Path(folder)
        for step in steps:
            checkpoint(run / f"{prefix}{step:0{width}}" / below)
        (run / "logs").mkdir()
        found = find_steps([folder])
        assert [each.step for each in found.steps] == sorted(steps)
        folders = [str(run / f"{prefix}{step:0{width}}" / below) for step in sorted(steps)]
        assert [each.folder for each in found.steps] == folders
        assert (found.first, found.left_out) == (None, ())
        listed = data.draw(st.permutations([str(run / f"{prefix}{step:0{width}}") for step in steps]))
        assert find_steps(listed).steps == found.steps
        assert default_base(found) == found.steps[0].folder


def test_a_checkpoint_that_is_being_written_and_one_without_a_step_are_left_out(tmp_path: Path) -> None:
    checkpoint(tmp_path / "checkpoint-5")
    (checkpoint(tmp_path / "checkpoint-10") / "model.safetensors").unlink()
    checkpoint(tmp_path / "best")
    found = find_steps([str(tmp_path)])
    assert [each.step for each in found.steps] == [5]
    assert [line.rpartition(": ")[2] for line in found.left_out] == [
        "a checkpoint whose name has no step",
        "no weights in it (yet)",
    ]


def test_the_final_model_in_the_runs_own_folder_is_no_step(tmp_path: Path) -> None:
    run = checkpoint(tmp_path / "run")
    checkpoint(run / "checkpoint-5")
    found = find_steps([str(run)])
    assert [each.step for each in found.steps] == [5]
    assert found.left_out == (f"{run}: a checkpoint of its own, whose step is not known",)


def test_the_one_checkpoint_of_a_list_without_a_number_is_the_start(tmp_path: Path) -> None:
    paths = [str(checkpoint(tmp_path / name)) for name in ("checkpoint-20", "sft", "checkpoint-10")]
    found = find_steps(paths)
    assert (found.first, [each.step for each in found.steps]) == (paths[1], [10, 20])
    assert default_base(found) == paths[1]


def two_names(run: Path) -> list[str]:
    checkpoint(run / "checkpoint-1")
    checkpoint(run / "step_2")
    return [str(run)]


def test_a_checkpoint_that_is_deleted_meanwhile_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        checkpoint(tmp_path / f"checkpoint-{step}" / "actor")
    iterdir = Path.iterdir

    def deleting(folder: Path) -> Iterator[Path]:
        if folder.name == "checkpoint-1":
            shutil.rmtree(folder)
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", deleting)
    found = find_steps([str(tmp_path)])
    assert [each.step for each in found.steps] == [2]
    assert found.left_out == (f"{tmp_path / 'checkpoint-1'}: no weights in it (yet)",)


def one_step_twice(run: Path) -> list[str]:
    return [str(checkpoint(run / name)) for name in ("checkpoint-7", "step_7")]


def two_in_one(run: Path) -> list[str]:
    checkpoint(run / "step_1" / "actor")
    checkpoint(run / "step_1" / "critic")
    return [str(run)]


def unnamed(run: Path) -> list[str]:
    return [str(checkpoint(run / name)) for name in ("a", "b")]


def unfinished(run: Path) -> list[str]:
    (run / "checkpoint-1").mkdir()
    return [str(run)]


def gone(run: Path) -> list[str]:
    shutil.rmtree(run)
    return [str(run)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (two_names, r"ambiguous, because folders of several names end in a number, checkpoint-\* and step_\*"),
        (one_step_twice, "are both of step 7"),
        (two_in_one, "holds 2 checkpoints, actor and critic"),
        (unnamed, "their names have no step"),
        (unfinished, "no checkpoint of a training step was found; .*checkpoint-1: no weights"),
        (lambda run: [str(run)], "no checkpoint of a training step was found; folders whose names end in a step"),
        (lambda run: [str(checkpoint(run / "checkpoint-1"))], "it is one checkpoint"),
        (gone, "there is no such folder"),
    ],
)
def test_what_is_refused(make: Callable[[Path], list[str]], message: str, tmp_path: Path) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        find_steps(make(tmp_path))
