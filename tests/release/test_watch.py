"""Look into a folder again and again: what is found, what is judged and when it ends."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.release.watch import Bounds, Tried, WatchOptions, by_number, watch
from rlcircuits.release.watched_folder import SeenCheckpoint, look_into


def write(folder: Path, *, weights: str = "weights", name: str = "model.safetensors") -> Path:
    """Write what tells a checkpoint by its names: nothing here reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / name).write_text(weights)
    return folder


@dataclass
class Told:
    """A judge that remembers whom it judged, and a clock that only a pause moves."""

    folder: Path
    between: dict[int, Callable[[], object]] = field(default_factory=dict)
    """What the trainer does in the pause of this number."""
    answers: dict[str, list[Tried]] = field(default_factory=dict)
    judged: list[str] = field(default_factory=list)
    last: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    time: float = 0
    pauses: int = 0

    def judge(self, name: str, seen: SeenCheckpoint, is_last: bool) -> Tried:
        assert seen.is_unchanged()
        self.judged.append(name)
        if is_last:
            self.last.append(name)
        answers = self.answers.get(name)
        return answers.pop(0) if answers else "judged"

    def pause(self, seconds: float) -> None:
        self.time += seconds
        self.pauses += 1
        self.between.get(self.pauses, lambda: None)()
        assert self.pauses < 200, "it does not end"

    def watch(self, bounds: Bounds, *without: Path) -> tuple[str, ...]:
        how = WatchOptions(
            judge=self.judge, interval=10, bounds=bounds, without=frozenset(without), notify=self.lines.append,
            clock=lambda: self.time, pause=self.pause,
        )  # fmt: skip
        return watch(self.folder, how)


def test_checkpoints_are_judged_as_they_appear(tmp_path: Path) -> None:
    write(tmp_path / "step-1000")
    write(tmp_path / "step-200")
    told = Told(tmp_path, {3: lambda: write(tmp_path / "candidate-a"), 5: lambda: write(tmp_path / "step-3")})
    assert told.watch(Bounds(stop_after=4)) == ()
    assert told.judged == ["step-200", "step-1000", "candidate-a", "step-3"]
    assert told.pauses == 6


def test_what_changes_between_two_looks_waits(tmp_path: Path) -> None:
    write(tmp_path / "step-1", weights="w")
    grows = {number: lambda number=number: write(tmp_path / "step-1", weights="w" * number) for number in range(1, 6)}
    told = Told(tmp_path, grows)
    told.watch(Bounds(stop_after=1))
    assert told.pauses == 6
    assert told.judged == ["step-1"]


def test_an_overwritten_checkpoint_is_judged_anew_and_counts_once(tmp_path: Path) -> None:
    write(tmp_path / "step-1")
    told = Told(tmp_path, {3: lambda: write(tmp_path / "step-1", weights="other"), 9: lambda: write(tmp_path / "b")})
    told.watch(Bounds(stop_after=2))
    assert told.judged == ["step-1", "step-1", "b"]


def test_tries_are_bounded_and_the_others_go_on(tmp_path: Path) -> None:
    write(tmp_path / "step-1")
    write(tmp_path / "step-2")
    told = Told(tmp_path, answers={"step-1": ["failed"] * 9})
    assert told.watch(Bounds(seconds=300)) == ()
    assert told.judged == ["step-1", "step-2", "step-1", "step-1"]
    assert told.last == ["step-1"]


def test_a_try_during_which_files_changed_counts_for_nothing(tmp_path: Path) -> None:
    write(tmp_path / "step-1")
    told = Told(tmp_path, answers={"step-1": ["void"] * 5})
    told.watch(Bounds(stop_after=1))
    assert told.judged == ["step-1"] * 6


def test_once_is_two_looks_and_one_try(tmp_path: Path) -> None:
    write(tmp_path / "step-1")
    write(tmp_path / "step-2")
    (tmp_path / "step-4").mkdir()
    (tmp_path / "step-4" / "config.json").write_text("{}")
    told = Told(tmp_path, {1: lambda: write(tmp_path / "step-3")}, answers={"step-1": ["failed"]})
    assert told.watch(Bounds(once=True)) == ("step-3", "step-4")
    assert told.judged == ["step-1", "step-2"]
    assert told.last == told.judged, "a try of --once is the last"
    assert told.pauses == 1


@given(st.integers(10, 500))
def test_the_time_is_bounded_and_no_two_looks_are_closer_than_the_interval(seconds: int) -> None:
    told = Told(Path(__file__).parent)
    told.watch(Bounds(seconds=seconds))
    assert told.time == 10 * (seconds // 10)


def test_a_folder_that_vanishes_for_a_while_is_looked_at_again(tmp_path: Path) -> None:
    folder, away = tmp_path / "run", tmp_path / "away"
    write(folder / "step-1")
    told = Told(
        folder, {2: lambda: folder.rename(away), 5: lambda: away.rename(folder), 6: lambda: write(folder / "b")}
    )
    told.watch(Bounds(stop_after=2))
    assert told.judged == ["step-1", "b"]
    assert len(told.lines) == 1
    assert told.lines[0].endswith("looked at again")
    with pytest.raises(RLCircuitsError, match="cannot be read"):
        Told(tmp_path / "nowhere").watch(Bounds(once=True))


def test_a_checkpoint_that_was_deleted_meanwhile_is_not_judged(tmp_path: Path) -> None:
    write(tmp_path / "step-1")
    write(tmp_path / "step-2")
    told = Told(tmp_path)
    judge = told.judge

    def deletes(name: str, seen: SeenCheckpoint, is_last: bool) -> Tried:
        if name == "step-1":
            shutil.rmtree(tmp_path / "step-2")
        return judge(name, seen, is_last)

    told.judge = deletes  # type: ignore[method-assign]
    told.watch(Bounds(once=True))
    assert told.judged == ["step-1"]


def test_a_folder_that_gets_no_weights_which_load_is_named_once(tmp_path: Path) -> None:
    folder = tmp_path / "step-1"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_text("weights")
    told = Told(tmp_path)
    assert told.watch(Bounds(seconds=60)) == ("step-1",)
    assert told.lines == []
    told = Told(tmp_path)
    told.watch(Bounds(seconds=300))
    (line,) = told.lines
    assert line.startswith(f"not judged yet: {folder} has no *.safetensors file that is loaded")
    assert "there is pytorch_model.bin" in line


def test_what_is_found_in_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "step-1")
    write(tmp_path / "global_step_2" / "actor" / "huggingface")
    adapter = tmp_path / "lora"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_text("w")
    for name in (".hidden", "tmp-checkpoint-3", "step-4.part", "rlcircuits-watch", "base"):
        write(tmp_path / name)
    (tmp_path / "latest").symlink_to(tmp_path / "step-1")
    (tmp_path / "newest").symlink_to(tmp_path / "global_step_2" / "actor" / "huggingface")
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "of-all").symlink_to(tmp_path / "step-1")
    (tmp_path / "itself").symlink_to(tmp_path)
    elsewhere = write(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    (tmp_path / "step-6").symlink_to(elsewhere)
    write(tmp_path / "two" / "a")
    write(tmp_path / "two" / "b")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "events").write_text("x")
    (tmp_path / "step-5").mkdir()
    (tmp_path / "step-5" / "config.json").write_text("{}")
    (tmp_path / "optimizer-only").mkdir()
    (tmp_path / "optimizer-only" / "optimizer.pt").write_text("x")
    look = look_into(tmp_path, {tmp_path / "rlcircuits-watch", tmp_path / "base"})
    assert set(look.checkpoints) == {"step-1", "global_step_2", "lora", "step-6"}
    assert look.checkpoints["global_step_2"].folder == tmp_path / "global_step_2" / "actor" / "huggingface"
    assert look.unfinished == ("step-5",)
    assert set(look.left_out) == {"two"}
    assert "holds 2 checkpoints, a and b among them" in look.left_out["two"]
    write(tmp_path)
    assert set(look_into(tmp_path).left_out) == {".", "two"}


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("tokenizer.json", True), ("model-00002-of-00002.safetensors", True), ("parts/model.safetensors", True),
        ("generation_config.json", True), ("trainer_state.json", False), ("optimizer.pt", False), ("README.md", False),
        ("modeling.py", False),
    ],
)  # fmt: skip
def test_a_change_is_noticed_by_the_files_that_results_depend_on(name: str, counts: bool, tmp_path: Path) -> None:
    folder = write(tmp_path / "step-1")
    (before,) = look_into(tmp_path).checkpoints.values()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("new")
    (now,) = look_into(tmp_path).checkpoints.values()
    assert (now.files != before.files) == counts
    assert before.is_unchanged() is not counts
    (with_code,) = look_into(tmp_path, code=True).checkpoints.values()
    assert before.is_unchanged(code=True) is (with_code.files == before.files)


@given(st.lists(st.integers(0, 10**6), unique=True), st.sampled_from(["step-", "global_step_", ""]))
def test_names_are_in_the_order_of_their_numbers(numbers: list[int], prefix: str) -> None:
    names = sorted((f"{prefix}{number}" for number in numbers), key=by_number)
    assert names == [f"{prefix}{number}" for number in sorted(numbers)]
