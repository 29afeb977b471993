"""``--rlcircuits-output`` at a URL: each pair's results are there when its test ends, another machine reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.output_files import result_bytes
from helpers.plugin_runs import Run
from helpers.tiny_pairs import QUICK_SETTINGS
from helpers.tiny_runs import save_run

from rlcircuits.common.mirror import SCRATCH_VARIABLE
from rlcircuits.release.pairs_file import load_pairs_file
from rlcircuits.release.run import run_pair

pytest.importorskip("obstore", reason="obstore is not installed: pip install '.[remote]'")

PAIRS = f"""{QUICK_SETTINGS}
[[pair]]
name = "pair"
before = "{{base}}"
after = "{{after}}"
algorithm = "grpo"
questions = "arithmetic"
"""


@pytest.fixture
def pairs(pytester: pytest.Pytester) -> Path:
    base, run = save_run(pytester.path, (10,))
    file = pytester.path / "release.toml"
    file.write_text(PAIRS.format(base=base, after=run / "checkpoint-10"))
    return file


def test_results_are_at_the_url(run: Run, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = load_pairs_file(pairs)
    run_pair(file.pairs[0], file.make_settings(), output=tmp_path / "alone")
    options = (f"--pairs={pairs}", f"--rlcircuits-output=file://{tmp_path}/there", "-v")
    monkeypatch.setenv(SCRATCH_VARIABLE, str(tmp_path / "first"))
    first = run(*options)
    assert result_bytes(tmp_path / "there") == result_bytes(tmp_path / "alone")
    monkeypatch.setenv(SCRATCH_VARIABLE, str(tmp_path / "second"))
    second = run(*options)
    second.stdout.fnmatch_lines(["*pair: measured before, and nothing has changed since"])
    assert (first.ret, first.parseoutcomes()) == (second.ret, second.parseoutcomes())
    assert not list((tmp_path / "second").rglob("store/*"))


def test_a_protocol_that_is_not_known(run: Run, pairs: Path) -> None:
    result = run(f"--pairs={pairs}", "--rlcircuits-output=ftp://bucket/run")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*ftp://bucket/run: the protocol ftp:// is not known; s3://, gs://, file:// are"])


def test_a_url_that_cannot_be_written(run: Run, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("no folder")
    result = run(f"--pairs={pairs}", f"--rlcircuits-output=file://{tmp_path}/there")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*file://{tmp_path}/there: not reached: *"])


def test_a_summary_has_no_url(run: Run, pairs: Path) -> None:
    result = run(f"--pairs={pairs}", "--rlcircuits-summary=s3://bucket/summary.md")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--rlcircuits-summary: 's3://bucket/summary.md' is a URL, and a file *"])
    assert not Path("s3:").exists()
