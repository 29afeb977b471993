"""`rlcircuits init` and `plan`: from the file that is written to the verdict."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest
from helpers.plugin_runs import PLUGIN
from helpers.tiny_checkpoints import save_checkpoint, touch_weight

from rlcircuits.cli.main import main
from rlcircuits.comparison.storage import to_json
from rlcircuits.release.pairs_file import load_pairs_file
from rlcircuits.release.run import run_pair


@pytest.mark.usefixtures("all_right")
def test_from_init_to_the_verdict_and_the_same_by_pytest_and_python(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], pytester: pytest.Pytester
) -> None:
    file, output = tmp_path / "here" / "release.toml", tmp_path / "out"
    init = ["init", str(file), "--before", str(tiny / "base"), "--after", str(tiny / "tuned"), "--algorithm", "sft"]
    assert main([*init, "--questions", "arithmetic"]) == 0
    written = file.read_text(encoding="utf-8")
    for old, new in (
        ("# k = 200", "k = 20"), ("# balance = 0.5", "balance = 2"), ("# noise_draws = 3", "noise_draws = 1"),
        ("# question_count = 400", "question_count = 30"),
        ("# max_new_tokens = 512 ", "max_new_tokens = 9 "), ("# n = 8 ", "n = 1 "),
    ):  # fmt: skip
        assert written.count(old) == 1
        written = written.replace(old, new)
    file.write_text(written, encoding="utf-8")
    assert main(init) == 2
    assert capsys.readouterr().err == f"rlcircuits: {file} is there already; --force replaces it\n"
    assert file.read_text(encoding="utf-8") == written

    assert main(["plan", str(file), "--output", str(output)]) == 0
    planned = capsys.readouterr().out
    # 30 questions by before, after and one noise draw, of at most 9 tokens.
    assert [cell for cell in planned.splitlines()[2].split() if cell][1:6] == ["arithmetic", "30", "3", "270", "810"]
    assert planned.endswith("time: unknown until the first answers.\n")

    code = main(["compare", "--pairs", str(file), "--output", str(output), "--json"])
    by_cli = json.loads(capsys.readouterr().out)
    assert code == {"holds": 0, "does not hold": 1, "inconclusive": 3}[by_cli["verdict"]["outcome"]]
    assert main(["plan", str(file), "--output", str(output)]) == 0
    planned = capsys.readouterr().out
    assert planned.splitlines()[2].endswith("measured")
    assert "To do: 0 answer tokens at most, 0 tokens to score" in planned

    pairs = load_pairs_file(file)
    by_python = run_pair(pairs.pairs[0], pairs.make_settings())
    assert json.loads(to_json(by_python))["comparison"] == by_cli["comparison"]

    # By the test that init wrote beside the pairs file.
    arguments = (file.with_name("test_release.py"), "--pairs", file, "--rlcircuits-output", tmp_path / "by-pytest")
    pytester.runpytest_inprocess("-p", "no:cacheprovider", *PLUGIN, *arguments)
    by_pytest = json.loads((tmp_path / "by-pytest" / "release" / "comparison.json").read_text(encoding="utf-8"))
    assert by_pytest["comparison"] == by_cli["comparison"]
    assert by_pytest["verdict"] == by_cli["verdict"]


def test_init_replaces_only_when_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert load_pairs_file("release.toml").pairs[0].algorithm == "grpo"
    assert capsys.readouterr().out.splitlines()[-1].endswith("pytest test_release.py --pairs=release.toml")
    for name in ("release.toml", "test_release.py"):
        Path(name).write_text("mine")
    assert main(["init"]) == 2
    assert Path("release.toml").read_text() == "mine"
    assert main(["init", "--force", "--algorithm", "dpo", "--before", 'odd"name\\here']) == 0
    assert Path("test_release.py").read_text() == "mine"
    (pair,) = tomllib.loads(Path("release.toml").read_text())["pair"]
    assert (pair["algorithm"], pair["before"], pair["after"]) == ("dpo", 'odd"name\\here', "checkpoints/rl")
    # A question set's name is no path, whatever lies there; a file of questions is.
    Path("gsm8k").mkdir()
    Path("ours.jsonl").write_text("")
    for questions, written in (("gsm8k", "gsm8k"), ("ours.jsonl", "../ours.jsonl")):
        assert main(["init", "elsewhere/release.toml", "--force", "--questions", questions]) == 0
        (pair,) = tomllib.loads(Path("elsewhere/release.toml").read_text())["pair"]
        assert pair["questions"] == written
    # What the file says of how to run it names the file as it is called.
    assert main(["init", "mine.toml"]) == 0
    assert "release.toml" not in Path("mine.toml").read_text()
    assert "pytest test_release.py --pairs=mine.toml" in Path("mine.toml").read_text()
    capsys.readouterr()


def test_a_plan_says_what_cannot_be_found_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pairs.toml").write_text(
        '[settings]\nnoise_draws = 0\n[[pair]]\nname = "far"\nbefore = "no/such-base"\nafter = "no/such"\n'
        'algorithm = "grpo"\n'
    )
    # What is known is shown; a checkpoint that a run could not have is an error.
    assert main(["plan", str(tmp_path / "pairs.toml"), "--only", "fa?"]) == 2
    shown = capsys.readouterr()
    assert "no/such-base" in shown.out
    assert "unknown tokens to score" in shown.out
    errors = shown.err.splitlines()
    for name, error in zip(("no/such-base", "no/such"), errors, strict=True):
        assert error.startswith(
            f"rlcircuits: checkpoint {name}: is no folder here, and the hub does not say what it holds: "
        )
        assert error.endswith(f"; if a folder is meant, there is none at {tmp_path / name}")


def test_a_plan_says_that_a_method_lacks_counterfactuals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(tmp_path / "base")
    shutil.copytree(tmp_path / "base", tmp_path / "tuned")
    touch_weight(tmp_path / "tuned")
    (tmp_path / "pairs.toml").write_text(
        '[settings]\nmethod = "eap-ig"\nnoise_draws = 0\n[settings.sampling]\nmax_new_tokens = 4\n'
        '[[pair]]\nname = "p"\nbefore = "base"\nafter = "tuned"\nalgorithm = "dpo"\nquestions = "arithmetic"\n'
    )
    assert main(["plan", str(tmp_path / "pairs.toml")]) == 2
    shown = capsys.readouterr()
    assert "p: method is 'eap-ig', which needs a counterfactual of each question" in shown.err
    assert not shown.out  # of no use with another method

    # A pair whose questions have them is planned all the same.
    rows = [
        f'{{"id": "{k}", "question": "{k}+1=", "answer": "#### {k + 1}", "counterfactual": "{k + 1}+1="}}\n'
        for k in range(4)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(rows))
    with (tmp_path / "pairs.toml").open("a") as file:
        file.write(
            '[[pair]]\nname = "q"\nbefore = "base"\nafter = "tuned"\nalgorithm = "dpo"\nquestions = "mine"\n'
            '[[questions]]\nname = "mine"\nfile = "pairs.jsonl"\ncounterfactual = "counterfactual"\n'
        )
    assert main(["plan", str(tmp_path / "pairs.toml")]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("needs a counterfactual of each question") == 1
    assert "rlcircuits: p: method is 'eap-ig'" in shown.err
    assert re.search(r"^q +mine +4 ", shown.out, re.MULTILINE)
    assert not re.search(r"^p +arithmetic", shown.out, re.MULTILINE)
    assert shown.out.rstrip().endswith("Not counted: p, which cannot be planned.")


def test_a_plan_says_that_a_model_has_no_such_nodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(tmp_path / "base", "qwen3-5")
    shutil.copytree(tmp_path / "base", tmp_path / "tuned")
    touch_weight(tmp_path / "tuned")
    for granularity, why in (("head", "mixer.0 is a layer that mixes"), ("expert", "it has no mixture of experts")):
        (tmp_path / "pairs.toml").write_text(
            f'[settings]\ngranularity = "{granularity}"\nnoise_draws = 0\n[settings.sampling]\nmax_new_tokens = 4\n'
            '[[pair]]\nname = "p"\nbefore = "base"\nafter = "tuned"\nalgorithm = "dpo"\nquestions = "arithmetic"\n'
        )
        assert main(["plan", str(tmp_path / "pairs.toml")]) == 2
        assert f"p: granularity is '{granularity}', which " in (error := capsys.readouterr().err)
        assert f"cannot have: {why}" in error
