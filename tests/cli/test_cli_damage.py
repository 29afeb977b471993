"""`rlcircuits fixtures damage` writes a damaged copy of a shipped checkpoint, which the other commands read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.paths import SEED_7

from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.cli.main import main
from rlcircuits.common.files import partial_path

GRPO, SFT = str(SEED_7 / "grpo"), str(SEED_7 / "sft")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--kind", "zero", "--target", "1.2"], "attn.1.h2 zeroed; 1 of 39 tensors changed"),
        (["--kind", "quantise", "--strength", "4"], "int4; 30 of 39 tensors changed"),
        (["--kind", "scale", "--strength", "1.25", "--target", "final-norm"], "final-norm × 1.25; 1 of 39"),
        (["--kind", "swap", "--target", "0,2"], "layers 0 and 2 swapped; 18 of 39 tensors changed"),
        (
            ["--kind", "noise", "--strength", "4", "--reference", SFT, "--seed", "5"],
            "noise of 4 × the update to seed-7-sft (seed 5); 39 of 39 tensors changed",
        ),
        (["--kind", "delta", "--strength", "-1", "--reference", SFT, "--target", "attn"], "in attn; 16 of 39"),
    ],
)
def test_a_shipped_checkpoint_is_damaged(
    options: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # no checkout is needed
    assert main(["fixtures", "damage", GRPO, *options, "--out", "new/folder"]) == 0
    assert says in capsys.readouterr().out
    damaged, origin = (CheckpointSource(path, device="cpu").load().model for path in ("new/folder", GRPO))
    moved = [
        name
        for (name, one), other in zip(damaged.named_parameters(), origin.parameters(), strict=True)
        if not torch.equal(one, other)
    ]
    assert json.loads(Path("new/folder/damage.json").read_text(encoding="utf-8"))["changed"] == moved


def test_damage_of_a_damaged_folder_is_recorded_with_its_history(tmp_path: Path) -> None:
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    assert main(["fixtures", "damage", GRPO, "--kind", "quantise", "--strength", "4", "--out", first]) == 0
    assert main(["fixtures", "damage", first, "--kind", "swap", "--target", "0,1", "--out", second]) == 0
    record = json.loads((tmp_path / "second" / "damage.json").read_text(encoding="utf-8"))
    assert [step["kind"] for step in record["steps"]] == ["swap"]
    assert [step["kind"] for step in record["base"]["damage"]["steps"]] == ["quantise"]
    assert record["base"]["damage"]["base"]["name"] == GRPO


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--kind", "scale", "--target", "mlp.0"], "damage scale needs a strength (factor)"),
        (["--kind", "zero", "--target", "mlp.7"], "layer 7, but"),
        (
            ["--kind", "sharpen", "--strength", "2", "--target", "norms"],
            "damage sharpen: norms has no weight matrix in",
        ),
        (["--kind", "quantise", "--strength", "4", "--target", "final-norm"], "final-norm has no weight matrix in"),
        (["--kind", "noise"], "damage noise needs a reference"),
        (["--kind", "swap", "--target", "0,1", "--seed", "1"], "--seed: nothing in damage swap is random"),
        (["--kind", "noise", "--reference", SFT, "--seed", "-1"], "damage noise: seed is -1; a whole number from 0"),
        (["--kind", "melt"], "invalid choice: 'melt'"),
        (["--kind", "zero", "--target", ""], "--target is empty"),
        (["--kind", "delta", "--reference", "gone/away/far"], "gone/away/far"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    try:
        code = main(["fixtures", "damage", GRPO, *options, "--out", str(out)])
    except SystemExit as error:
        code = int(error.code or 0)
    complaint = capsys.readouterr().err
    assert (code, complaint.count("\n")) == (2, 1)
    assert says in complaint
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--out", "."], ". is the working folder, which cannot be replaced; name a new folder in it"),
        (["--out", "link"], "link is a link; name the folder that it leads to"),
        (["--out", "n" * 256], "File name too long; name another folder"),
        (["--out", "file/sub/out"], "/file is a file; name another folder"),
        (["--out", "broken/sub/out"], "broken/sub/out is in the checkpoint broken; name a folder outside of it"),
        (["--out", "sft/out", "--kind", "delta", "--reference", "sft"], "sft/out is in the checkpoint sft"),
        (["--out", "out"], "broken/damage.json holds no JSON object"),
        (
            ["--out", "out", "--kind", "scale", "--strength", "1", "--target", "mlp"],
            "mlp × 1 changes nothing",
        ),
        (
            ["--out", "out", "--kind", "delta", "--strength", "0", "--reference", "sft"],
            "a strength of 0 is none",
        ),
        (["--out", "out", "--kind", "permute", "--reference", "sft", "--origin", "sft"], "so the update is 0"),
    ],
)
def test_what_is_known_beforehand_is_said_before_anything_is_loaded(
    options: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "empty"
    place.mkdir()
    monkeypatch.chdir(place if "." in options else tmp_path)
    if "." not in options:
        Path("file").touch()
        Path("link").symlink_to("empty")
        shutil.copytree(GRPO, "broken")
        Path("broken/damage.json").write_text("{", encoding="utf-8")
        shutil.copytree(SFT, "sft")
    monkeypatch.setattr(CheckpointSource, "load", lambda _: pytest.fail("loaded"))
    source = GRPO if "." in options else "broken"
    kind = [] if "--kind" in options else ["--kind", "zero", "--target", "mlp.0"]
    there = sorted(tmp_path.rglob("*"))
    assert main(["fixtures", "damage", source, *kind, *options]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert says in complaint
    assert sorted(tmp_path.rglob("*")) == there


def test_a_long_name_is_written_and_what_a_killed_run_left_is_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / ("n" * 230)
    left = partial_path(out)
    (left / "weights").mkdir(parents=True)
    assert main(["fixtures", "damage", GRPO, "--kind", "zero", "--target", "mlp.0", "--out", str(out)]) == 0
    assert "which a run that was killed had left" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_with_files_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    command = ["fixtures", "damage", GRPO, "--kind", "zero", "--target", "mlp.0", "--out", str(tmp_path)]
    assert main(command) == 2
    assert "is not empty, it holds mine.txt" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_help_explains_kinds_and_targets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["fixtures", "damage", "--help"])
    shown = capsys.readouterr().out
    for line in ("  quantise   round every row", "  mlp.2  attn.2  attn.2.h1 ", "--kind zero --target attn.1.h2 --out"):
        assert line in shown
