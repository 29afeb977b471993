"""`rlcircuits circuits`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.cli_runs import compare_arguments
from helpers.measured_results import FULL, PLAIN, TOO_FEW, measured_results
from safetensors.torch import load_file, save_file

from rlcircuits import EdgeScores
from rlcircuits.circuits import Circuit
from rlcircuits.cli.main import main

QUICK = ("--random-draws", "2", "--resamples", "20")


def test_a_measured_pair(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = measured_results() / FULL
    saved = tmp_path / "circuits"
    assert main(["circuits", str(folder), "--edges", "3", "--save-circuits", str(saved), *QUICK]) == 0
    printed = capsys.readouterr().out
    for words in ("overlap of the two circuits", "f_after(C_before)", "CPR (by score)", "exact effects of removing"):
        assert words in printed
    pair, control = printed.split(f"{FULL}/control: circuits")
    assert "not measured" not in pair  # the store has the noise draws
    assert "not measured" in control  # the supervised control has none
    names = {f"{name}-{side}.circuit.json" for name in (FULL, f"{FULL}-control") for side in ("before", "after")}
    assert {path.name for path in saved.iterdir()} == names
    assert Circuit.load(saved / f"{FULL}-after.circuit.json").n_edges > 0


def test_json_holds_everything_and_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["circuits", str(measured_results() / PLAIN), "--json", "--ablation", "zero", *QUICK]) == 0

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    document = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert (document["format"], document["version"]) == ("rlcircuits-circuits", 1)
    (pair,) = document["pairs"]
    assert (pair["name"], pair["ablation"], pair["noise_draws"], pair["resamples"]) == (PLAIN, "zero", 1, 20)
    assert {"q", "k", "v", "mlp", "logits", "layer 0"} <= pair["parts"].keys()
    own = pair["sides"]["after"]["absolute"]["own"]
    assert own["faithfulness"][-1] == 1
    assert len(own["sizes"]) == 10


def test_resample_finds_circuits_by_scores_of_the_same_replacement(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["circuits", str(measured_results() / PLAIN), "--ablation", "resample", *QUICK]) == 0
    printed = capsys.readouterr()
    assert "resample ablation, on " in printed.out
    assert "answers, with others in their place" in printed.err


def test_the_other_pairs_are_shown_beside_one_that_was_not_scored(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["circuits", str(measured_results()), *QUICK]) == 2
    printed = capsys.readouterr()
    assert f"{FULL}: circuits" in printed.out
    assert f"{PLAIN}: circuits" in printed.out
    assert f"{TOO_FEW}: too few questions were left to compare" in printed.err


def test_a_pair_is_measured_first(all_right: None, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["circuits", *compare_arguments(tiny)[1:], *QUICK]
    assert main(arguments) == 0
    assert "base-to-tuned: circuits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "circuits needs a folder of results, or --before and --after, or --pairs FILE.toml"),
        (["DIR", "--before", "a"], "a folder and a pair were both given"),
        (["DIR", "--judged", "0"], "--judged is 0"),
        (["DIR", "--granularity", "head"], "--granularity: given with a folder of results"),
        (["DIR", "--questions", "arithmetic", "--n", "2"], "--questions, --n: given with a folder of results"),
        (["--before", "a", "--after", "b", "--algorithm", "grpo", "--score-on", "gold"], "score_on is 'gold'"),
        (["no-such-folder"], "no-such-folder: there is no such folder"),
        (["DIR", "--ablation", "noise"], "invalid choice: 'noise'"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(measured_results())
    try:
        code = main(["circuits", *(folder if each == "DIR" else each for each in arguments)])
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == 2
    assert message in capsys.readouterr().err


def test_scores_of_another_run_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(measured_results() / PLAIN, tmp_path / "pair"))
    shutil.copy(measured_results() / FULL / "after.scores.safetensors", folder)
    assert main(["circuits", str(folder), *QUICK]) == 2
    assert "copy the files from one run, or measure the pair again" in capsys.readouterr().err


def test_a_checkpoint_with_other_weights_than_were_scored_is_refused(
    all_right: None, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint that was trained on at the same path would be run by the scores of the earlier one."""
    base, out = tmp_path / "base", tmp_path / "out"
    shutil.copytree(tiny / "base", base)
    arguments = compare_arguments(tiny)
    arguments[arguments.index(str(tiny / "base"))] = str(base)
    assert main([*arguments, "--output", str(out)]) in (0, 1, 3)
    weights = load_file(base / "model.safetensors")
    save_file({name: 1.5 * tensor for name, tensor in weights.items()}, base / "model.safetensors", {"format": "pt"})
    capsys.readouterr()
    assert main(["circuits", str(out), *QUICK]) == 2
    assert "has other weights than those that were scored" in capsys.readouterr().err


def test_scores_that_the_checkpoint_does_not_give_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(measured_results() / PLAIN, tmp_path / "pair"))
    file = folder / "after.scores.safetensors"
    scores = EdgeScores.load(file)
    EdgeScores(scores.values, scores.loss + 1, scores.graph, scores.backend).save(file)
    assert main(["circuits", str(folder), *QUICK]) == 2
    printed = capsys.readouterr().err
    assert str(file) in printed
    assert "they are not of one run" in printed


def test_scores_of_another_granularity_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(measured_results() / PLAIN, tmp_path / "pair"))
    file = folder / "comparison.json"
    file.write_text(file.read_text().replace('"granularity": "sublayer"', '"granularity": "head"'))
    assert main(["circuits", str(folder), *QUICK]) == 2
    assert "the scores are of the sublayer graph" in capsys.readouterr().err


def test_a_few_judged_answers_are_replaced_by_those_that_are_not_judged(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["circuits", str(measured_results() / PLAIN), "--ablation", "resample", "--judged", "1", *QUICK]
    assert main(arguments) == 0
    assert "resample ablation, on 1 sequences that no circuit was found on" in capsys.readouterr().out


def test_the_tables_are_printed_although_no_circuit_can_be_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / f"{PLAIN}-after.circuit.json").mkdir()
    assert main(["circuits", str(measured_results() / PLAIN), "--save-circuits", str(tmp_path), *QUICK]) == 2
    printed = capsys.readouterr()
    assert f"{PLAIN}: circuits" in printed.out
    assert f"{PLAIN}-after.circuit.json cannot be written" in printed.err
    assert (tmp_path / f"{PLAIN}-before.circuit.json").is_file()
