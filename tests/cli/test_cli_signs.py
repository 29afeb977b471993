"""`rlcircuits signs`: what it prints and writes, and its exit codes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.cli_runs import compare_arguments
from helpers.measured_results import FULL, PLAIN, measured_results

from rlcircuits.cli.main import main
from rlcircuits.common.choices import ANSWERED_ANEW
from rlcircuits.comparison.storage import load_comparison
from rlcircuits.release import measured_signs
from rlcircuits.release.stored_signs import SIGNS_FILE, PairSigns, load_signs
from rlcircuits.vital_signs.names import MEASURED_FROM


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A copy of measured results, which signs writes to."""
    return Path(shutil.copytree(measured_results(), tmp_path / "results"))


def test_a_measured_pair(results: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "signs.png"
    assert main(["signs", str(results / FULL), "--gate", "none", "--plot", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert f"{FULL}: vital signs" in printed
    for name in ("accuracy", "pass@k", "silent_share", "effective_formats", "no sign is gated"):
        assert name in printed
    found = load_signs(results / FULL)
    assert found.name == FULL
    assert found.noise_draws
    assert any(sign.noise for sign in found.signs)
    names = {path.name for path in tmp_path.glob("signs*.png")}
    assert names == {f"signs-{FULL}.png", f"signs-{FULL}-control.png"}


def test_the_report_shows_stored_signs(results: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["signs", str(results / PLAIN), "--gate", "none", "--no-models"]) == 0
    capsys.readouterr()
    page = tmp_path / "page.html"
    assert main(["report", str(results), "--html", str(page), "--verbose"]) == 0
    assert f"{PLAIN}: vital signs" in capsys.readouterr().out
    assert "lost_questions" in page.read_text(encoding="utf-8")


def test_json_holds_everything_and_no_nan(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["signs", str(results / PLAIN), "--json", "--gate", "none"]) == 0

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    document = json.loads(capsys.readouterr().out, parse_constant=refuse)
    (pair,) = document["pairs"]
    assert pair["name"] == PLAIN
    assert {"accuracy", "pass@k", "lost_questions"} <= {sign["name"] for sign in pair["signs"]}
    assert document["failing"] == []


def test_a_pair_is_measured_first(all_right: None, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["signs", *compare_arguments(tiny)[1:], "--gate", "accuracy", "--no-models"]) == 0
    printed = capsys.readouterr().out
    assert "base-to-tuned: vital signs" in printed
    assert "no gated sign fails (accuracy)" in printed


def test_signs_are_compared_with_all_noise(
    all_right: None, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pair without its noise is not measured for them, and one that was is refused."""
    output = tmp_path / "out"
    pair = [*compare_arguments(tiny)[1:], "--noise-if-needed", "--output", str(output)]
    assert main(["signs", *pair, "--no-models"]) == 2
    assert "noise_if_needed is true, and signs are compared with all noise draws" in capsys.readouterr().err
    assert not output.exists()
    main(["compare", *pair])
    assert load_comparison(output / "base-to-tuned").noise_not_needed is not None
    capsys.readouterr()
    assert main(["signs", str(output), "--no-models"]) == 2
    assert "base-to-tuned: not measured, because the verdict cannot depend on it: 1 noise draw; signs are" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(("error", "code"), [(KeyError("oops"), 70), (OSError(28, "disk full"), 2)])
def test_the_other_pairs_are_shown_beside_one_that_fails(
    error: Exception, code: int, results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is computed of one pair is not lost to a fault or a full disk at the next."""
    measure = measured_signs.measure_pair_signs

    def fail_at_one(folder: Path, **how: Any) -> PairSigns:
        if folder.name == FULL:
            raise error
        return measure(folder, **how)

    monkeypatch.setattr(measured_signs, "measure_pair_signs", fail_at_one)
    assert main(["signs", str(results), "--gate", "none", "--no-models"]) == code
    printed = capsys.readouterr()
    assert f"{PLAIN}: vital signs" in printed.out
    assert ("disk full" if code == 2 else f"pair '{FULL}': internal error, a fault of rlcircuits") in printed.err


def test_rollouts_need_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rollouts.jsonl"
    lines = [{"step": step, "input": "1+1?", "output": "1+1=2", "score": score} for step in (1, 2) for score in (0, 1)]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert main(["signs", "--rollouts", str(path)]) == 0
    assert "all wrong" in capsys.readouterr().out
    assert main(["signs", "--rollouts", str(path), "--json"]) == 0
    assert [each["step"] for each in json.loads(capsys.readouterr().out)] == [1, 2]


def test_damaged_signs_are_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (results / PLAIN / SIGNS_FILE).write_text("{}")
    assert main(["report", str(results)]) == 2
    assert f"{SIGNS_FILE}: damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "signs needs a folder of results, or --before and --after, or --pairs FILE.toml"),
        (["DIR", "--before", "a"], "a folder and a pair were both given"),
        (["DIR", "--group", "0"], "key 'group': must be at least 2"),
        (["DIR", "--beta", "-1"], "key 'beta': must be at least 0"),
        (["DIR", "--beta", "nan"], "key 'beta': must be a finite number, not nan"),
        (["DIR", "--format", "x"], "--format is 'x'; NAME=REGEX is wanted"),
        (["DIR", "--format", "a=x", "--format", "a=y"], "'a' is given twice"),
        (["DIR", "--format", "a=("], "no regular expression"),
        (["DIR", "--gate", "beauty"], "there is no sign 'beauty'"),
        (["DIR", "--plot", "x.gif"], "must end in one of .png, .pdf, .svg"),
        (["DIR", "--rollouts", "r.jsonl"], "--rollouts and a pair's results were both given"),
        (["--rollouts", "r.jsonl", "--before", "a"], "needs both --before and --after"),
        (["--rollouts", "r.jsonl", "--before", "a", "--after", "b", "--n", "2"], "--n: given with --rollouts"),
        (["--rollouts", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--rollouts", "nowhere.jsonl", "--no-models"], "--no-models: given with --rollouts"),
        (["--rollouts", "r.jsonl", "--device", "cpu", "--n", "4"], "--device, --n: given with --rollouts"),
        (["--rollouts", "r.jsonl", "--beta", "0", "--output", "out"], "--beta, --output: given with --rollouts"),
        (["DIR", "--gate", "none", "--gate", "accuracy"], "--gate none stands alone"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [str(results / PLAIN) if each == "DIR" else each for each in arguments]
    assert main(["signs", *given, *(["--no-models"] if "--gate" in given else [])]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err


def test_compare_judges_the_signs_of_a_pairs_file(
    all_right: None, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A threshold that nothing meets fails the release, though its pair alone does not."""
    file = tmp_path / "release.toml"
    pair = f'[[pair]]\nname = "a"\nbefore = "{tiny / "base"}"\nafter = "{tiny / "tuned"}"\nprofile = "preference"\n'
    table = '[signs]\ngate = ["unfinished"]\nthresholds.unfinished = {up = -2.0}\n'
    settings = (
        "[settings]\nquestion_count = 8\nmin_questions = 2\nnoise_draws = 0\n[settings.sampling]\nmax_new_tokens = 4\n"
    )
    file.write_text(table + settings + pair)
    assert main(["compare", "--pairs", str(file)]) == 2
    assert "[signs] is given, and signs are read from the results' folder; give --output" in capsys.readouterr().err
    assert main(["compare", "--pairs", str(file), "--output", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("signs: fails: unfinished of a")
    assert load_signs(tmp_path / "out" / "a").signs


def test_signs_of_other_answers_are_stale(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pair that is measured again keeps the signs of its earlier answers in its folder."""
    assert main(["signs", str(results / PLAIN), "--gate", "none", "--no-models"]) == 0
    answers = results / PLAIN / "after.answers.jsonl"
    answers.write_text("".join(answers.read_text().splitlines(keepends=True)[:-1]))
    capsys.readouterr()
    assert main(["report", str(results)]) == 2
    printed = capsys.readouterr()
    assert "signs.json: stale, its signs are of other answers than those beside it" in printed.err
    assert "vital signs" not in printed.out
    assert f"\n{PLAIN}\n" in printed.out


def test_a_report_survives_damaged_signs(results: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (results / PLAIN / SIGNS_FILE).write_text("[" * 100_000)
    page = tmp_path / "page.html"
    assert main(["report", str(results), "--html", str(page)]) == 2
    printed = capsys.readouterr()
    assert printed.out == f"page: {page}\n"
    assert page.exists()
    assert len(printed.err.splitlines()) == 1


def test_signs_that_cannot_be_written_are_printed(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (results / PLAIN / SIGNS_FILE).mkdir()
    assert main(["signs", str(results / PLAIN), "--gate", "none", "--no-models"]) == 2
    printed = capsys.readouterr()
    assert f"{PLAIN}: vital signs" in printed.out
    assert f"{SIGNS_FILE}: cannot be written" in printed.err


def test_all_names_of_signs_are_known_before(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sibling = load_comparison(results / PLAIN).before
    extra = ["--boundary", "[^ ]", "--sibling", str(sibling), "--answer-anew", ",".join(ANSWERED_ANEW)]
    assert main(["signs", str(results / PLAIN), "--gate", "none", *extra]) == 0
    told = [sign.name for sign in load_signs(results / PLAIN).signs]
    assert told == [name for names in MEASURED_FROM.values() for name in names]


def test_patterns_that_match_nothing_are_said(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patterns = ["--format", "digits=[0-9]", "--format", "code=def \\w+", "--boundary", "</tool>"]
    assert main(["signs", str(results / PLAIN), "--gate", "none", *patterns]) == 0
    said = capsys.readouterr().err
    assert re.search(r"format 'code': 'def \\\\w\+' is in none of \d+ answers, such as ", said)
    assert "format 'digits'" not in said
    assert re.search(r"boundary '</tool>' is in none of \d+ answers, or at the end alone", said)
