"""The table ``[signs]`` of a pairs file in the pytest plugin: judged as ``rlcircuits compare --output`` judges it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.paths import ROOT
from helpers.plugin_runs import Run
from helpers.tiny_pairs import grade_kindly, save_tiny_pair

from rlcircuits.cli.main import main
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.failures import Failure
from rlcircuits.pytest_session.workers import SharedFolder
from rlcircuits.release import measured_signs
from rlcircuits.release.stored_signs import load_signs

SETTINGS = (
    '[settings]\nquestion_count = 8\nmin_questions = 2\nnoise_draws = 0\ndevice = "cpu"\n'
    "[settings.sampling]\nmax_new_tokens = 4\n"
)
FAILING = '[signs]\ngate = ["unfinished"]\nthresholds.unfinished = {up = -2.0}\n'
"""A threshold that nothing meets."""
PASSING = '[signs]\ngate = ["unfinished"]\nthresholds.unfinished = {up = 2.0}\n'


@pytest.fixture
def kindly(monkeypatch: pytest.MonkeyPatch) -> None:
    grade_kindly(monkeypatch)


def declare(folder: Path, signs: str, names: tuple[str, ...] = ("a",)) -> Path:
    """Write a pairs file with tiny checkpoints, whose metrics and accuracy are only reported."""
    before, after = save_tiny_pair(folder)
    pairs = [
        f'[[pair]]\nname = "{name}"\nbefore = "{before}"\nafter = "{after}"\nprofile = "preference"\n' for name in names
    ]
    file = folder / "release.toml"
    file.write_text(signs + SETTINGS + "".join(pairs))
    return file


@pytest.mark.parametrize(
    "signs", [pytest.param(FAILING, id="fails"), pytest.param(PASSING, id="holds", marks=pytest.mark.slow)]
)
def test_the_same_words_and_exit_code_as_compare(
    kindly: None, run: Run, pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str], signs: str
) -> None:
    file = declare(pytester.path, signs)
    code = main(["compare", f"--pairs={file}", f"--output={pytester.path / 'one'}"])
    assert code == (1 if signs == FAILING else 0)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("signs: ")]
    assert "unfinished" in said[0]
    for output in (["--rlcircuits-output=two"], []):
        result = run(f"--pairs={file}", *output, "--rlcircuits-summary=summary.md")
        summary = (pytester.path / "summary.md").read_text(encoding="utf-8")
        wanted = "❌ rlcircuits: vital signs fail; outcome of the pairs: holds" if code else "✅ rlcircuits: holds"
        assert summary.startswith(f"### {wanted}\n")
        assert result.ret == code
        assert [line for line in result.outlines if line.startswith("signs: ")] == said
        assert "failed" not in result.parseoutcomes()  # all tests pass: the signs are the release's
    assert load_signs(pytester.path / "two" / "a") == load_signs(pytester.path / "one" / "a")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (RLCircuitsError("no log-probabilities"), pytest.ExitCode.USAGE_ERROR, "no log-probabilities"),
        (KeyError("oops"), pytest.ExitCode.INTERNAL_ERROR, "internal error*KeyError*"),
    ],
)
def test_signs_that_cannot_be_measured(
    error: Exception,
    code: pytest.ExitCode,
    said: str,
    kindly: None,
    run: Run,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(measured_signs, "measure_pair_signs", fail)
    result = run(f"--pairs={declare(pytester.path, PASSING)}", "--rlcircuits-summary=summary.md")
    assert result.ret == code
    assert "vital signs not measured" in (pytester.path / "summary.md").read_text(encoding="utf-8").splitlines()[0]
    result.stdout.fnmatch_lines(["signs: no gated sign fails (unfinished)", f"signs of 'a': {said}"])


def test_no_pairs_name_is_the_record_of_another_pairs_signs(tmp_path: Path) -> None:
    shared = SharedFolder(tmp_path)
    shared.record_signs("a", [Failure("no signs")])
    assert not shared.is_done("a.signs")
    shared.record_of("a.signs").parent.mkdir()  # as the pair's lock does
    shared.record("a.signs", None, 1.5)
    assert (shared.read("a.signs"), shared.problems_of_signs("a")) == ((None, 1.5), [Failure("no signs")])
    assert shared.problems_of_signs("a.signs") == []


def test_a_file_without_the_table_has_no_signs(kindly: None, run: Run, pytester: pytest.Pytester) -> None:
    result = run(f"--pairs={declare(pytester.path, '')}")
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*signs:*")


def test_json_has_the_signs(kindly: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [f"--output={tmp_path / 'out'}", "--json"]
    assert main(["compare", f"--pairs={declare(tmp_path, FAILING, ('a', 'b'))}", *arguments]) == 1
    printed = capsys.readouterr()
    documents = json.loads(printed.out)
    assert [document["signs"]["name"] for document in documents] == ["a", "b"]
    for document in documents:
        assert len(document["signs"]["signs"]) == len(load_signs(tmp_path / "out" / document["signs"]["name"]).signs)
        release = document["release"]
        assert release["failing_signs"] == [{"pair": name, "sign": "unfinished"} for name in ("a", "b")]
        assert release["without_signs"] == []
    assert "signs: fails: unfinished of a; unfinished of b" in printed.err
    assert main(["compare", f"--pairs={declare(tmp_path, '')}", *arguments]) == 0
    document = json.loads(capsys.readouterr().out)
    assert "signs" not in document
    assert "failing_signs" not in document["release"]


@pytest.mark.slow
def test_workers_measure_and_the_controller_judges(pytester: pytest.Pytester, run: Run) -> None:
    file = declare(pytester.path, FAILING, ("a", "b"))
    pytester.makeconftest(f"""
        import sys
        import pytest
        sys.path.insert(0, {str(ROOT / "tests")!r})

        @pytest.fixture(autouse=True)
        def kindly(monkeypatch):
            from helpers.tiny_pairs import grade_kindly
            grade_kindly(monkeypatch)
    """)
    result = pytester.runpytest_subprocess("-n2", "-p", "no:cacheprovider", f"--pairs={file}")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["signs: fails: unfinished of a; unfinished of b"])
