"""`rlcircuits signs --path`: the linearity of a training, and the checkpoint that a straight path gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.paths import SEED_7
from helpers.tiny_checkpoints import tiny_tokenizer
from helpers.tiny_models import build
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.cli.main import main
from rlcircuits.cli.path_signs import _ordered
from rlcircuits.vital_signs.training_path import linearity

STEPS = [20, 40, 60, 80, 100]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of a model that moved along a straight line, and the one that it would reach at step 200."""
    folder = tmp_path_factory.mktemp("straight")
    start = build("llama-gqa", seed=3)
    generator = torch.Generator().manual_seed(0)
    direction = [0.01 * torch.randn(each.shape, generator=generator) for each in start.parameters()]
    for step in (0, *STEPS, 200):
        model = build("llama-gqa", seed=3)
        with torch.no_grad():
            for parameter, towards in zip(model.parameters(), direction, strict=True):
                parameter += step / 100 * towards
        model.save_pretrained(folder / f"checkpoint-{step}")
        tiny_tokenizer().save_pretrained(folder / f"checkpoint-{step}")
    return folder


def path_of(folder: Path, *steps: int) -> list[str]:
    return [str(folder / f"checkpoint-{step}") for step in (0, *(steps or STEPS))]


def test_a_straight_path(straight: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "path.png"
    # As a shell sorts them: 100 before 20.
    assert main(["signs", "--path", *path_of(straight, 100, 20, 40, 60, 80), "--json", "--plot", str(picture)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [place["step"] for place in document["path"]] == STEPS
    before, *path = [CheckpointSource(each, device="cpu") for each in path_of(straight)]
    wanted = linearity(before, path, STEPS)
    assert document["sign"]["change"] == pytest.approx(1, abs=1e-4)
    assert document["sign"]["change"] == wanted.change
    assert document["sign"]["noise"] == list(wanted.noise)
    assert picture.read_bytes()[1:4] == b"PNG"
    assert main(["signs", "--path", *path_of(straight), "--path-steps", "20,40,60,80,100"]) == 0
    printed = capsys.readouterr().out
    assert "path of 5 checkpoints, from step 20 to 100" in printed
    assert "random walks" in printed


def test_a_name_without_a_number_is_told(straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, *path, last = path_of(straight)
    (tmp_path / "final").symlink_to(last)
    assert main(["signs", "--path", before, *path, str(tmp_path / "final")]) == 0
    printed = capsys.readouterr()
    assert (
        f"their steps are 1, 2, 3, … as given, since the name of {tmp_path / 'final'} ends in no number" in printed.err
    )
    assert "from step 1 to 5" in printed.out


def test_an_extrapolated_checkpoint_is_that_of_the_straight_path_and_can_be_gated(
    straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "at-200"
    assert main(["signs", "--path", *path_of(straight), "--extrapolate", "200", str(out)]) == 0
    assert "2 times the update of" in capsys.readouterr().err
    found, wanted = (
        CheckpointSource(str(each), device="cpu").load().model for each in (out, straight / "checkpoint-200")
    )
    for one, other in zip(found.parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    file = tmp_path / "release.toml"
    file.write_text(f'[[pair]]\nname = "a"\nbefore = "{path_of(straight)[0]}"\nafter = "{out}"\nalgorithm = "grpo"\n')
    assert main(["plan", str(file)]) == 0


@given(steps=st.lists(st.integers(0, 10**6), min_size=1, max_size=8, unique=True), data=st.data())
@settings(max_examples=30)
def test_steps_are_those_of_the_names_in_any_order(steps: list[int], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(steps))
    before, path, found, _ = _ordered(["base", *(f"runs/step{step}" for step in shuffled)], None)
    assert (before, found) == ("base", sorted(map(float, steps)))
    assert path == [f"runs/step{step}" for step in sorted(steps)]
    assert _ordered(["base", *(f"runs/{step}-final" for step in shuffled)], None)[2] == list(
        map(float, range(1, len(steps) + 1))
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["PATH", "--gate", "accuracy", "--n", "4"], "--gate, --n: given with --path"),
        (["PATH", "--rollouts", "x.jsonl"], "--rollouts: given with --path"),
        (["PATH", "--path-steps", "1,2,x"], "--path-steps: 'x' is no training step"),
        (["PATH", "--path-steps", "1,2"], "5 checkpoints and 2 steps"),
        (["PATH", "--extrapolate", "-3", "new"], "step -3 is not after the first checkpoint"),
        (["PATH", "--extrapolate", "200", "FULL"], "the extrapolated checkpoint"),
        (["PATH", "nowhere/b/c"], "--path: there is no folder"),
        (["--path", "base", "a/step-5", "b/step-5"], "the names of a/step-5 and b/step-5 both end in 5"),
        (["--path", "base", "a/step-5", "a/step-5"], "the names of a/step-5 and a/step-5 both end in 5"),
        (["--path", str(SEED_7 / "sft"), str(SEED_7 / "grpo")], "linearity of 1 checkpoints; at least 5"),
        (["--path-steps", "1"], "--path-steps is of the checkpoints of --path"),
        (["--extrapolate", "1", "new"], "--extrapolate is of the checkpoints of --path"),
    ],
)
def test_bad_arguments(
    arguments: list[str], message: str, straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "a.txt").write_text("a")
    known = {"PATH": ["--path", *path_of(straight)], "FULL": [str(full)], "new": [str(tmp_path / "new")]}
    assert main(["signs", *(each for one in arguments for each in known.get(one, [one]))]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert not (tmp_path / "new").exists()
