"""Output folders at a URL: compare, track, report and verify, from one machine and then from another."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from helpers.output_files import result_bytes
from helpers.paths import FIXTURES, ROOT
from helpers.s3_server import S3Server, s3_server
from helpers.tiny_runs import QUICK, save_run

from rlcircuits.cli.main import main
from rlcircuits.common import remote_folder
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.mirror import SCRATCH_VARIABLE, Mirror, scratch_folder

pytest.importorskip("obstore", reason="obstore is not installed: pip install '.[remote]'")

SEED = FIXTURES / "llama-sums" / "seed-8"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """A function that goes to another machine, by its name: to another scratch folder."""

    def go_to(name: str) -> None:
        monkeypatch.setenv(SCRATCH_VARIABLE, str(tmp_path / "machines" / name))

    go_to("first")
    return go_to


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base, and a folder with two checkpoints."""
    return save_run(tmp_path_factory.mktemp("run"), (10, 20))


def compare(run: tuple[Path, Path], output: object) -> list[str]:
    base, steps = run
    pair = ["--before", str(base), "--after", str(steps / "checkpoint-20"), "--name", "pair"]
    return ["compare", *pair, *QUICK, "--output", str(output)]


def test_compare_and_what_reads_its_results(
    run: tuple[Path, Path], machine: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"file://{tmp_path}/there"
    code = main(compare(run, tmp_path / "alone"))
    alone = capsys.readouterr().out
    assert main(compare(run, url)) == code
    assert capsys.readouterr().out == alone
    assert result_bytes(tmp_path / "there") == result_bytes(tmp_path / "alone")
    machine("second")
    assert main(compare(run, url)) == code
    printed = capsys.readouterr()
    assert printed.out == alone
    assert "pair: measured before, and nothing has changed since" in printed.err
    machine("third")
    assert main(["report", url]) == main(["report", str(tmp_path / "alone")])
    assert main(["report", url, str(tmp_path / "alone")]) == 0
    assert main(["verify", url]) == main(["verify", str(tmp_path / "alone")])
    assert main(["report", f"{url}/pair"]) == 0


def test_a_second_machine_goes_on_from_the_store(
    run: tuple[Path, Path], machine: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pair's results are lost, and what the store has is not made again."""
    url = f"file://{tmp_path}/there"
    code = main(compare(run, url))
    (tmp_path / "there" / "pair" / "comparison.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "there" / "store").rglob("*")}
    machine("second")
    capsys.readouterr()
    assert main(compare(run, url)) == code
    assert (tmp_path / "there" / "pair" / "comparison.json").is_file()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "there" / "store").rglob("*")} == before
    assert not list((tmp_path / "machines" / "second").rglob("pace.jsonl"))  # no model ran


@pytest.mark.parametrize("lost", ["", "store", "pair", "pair/comparison.json"])
def test_what_was_removed_from_the_url_is_uploaded_again(
    lost: str,
    run: tuple[Path, Path],
    machine: Callable[[str], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A bucket was emptied, or a pair removed: the run that has it here ends with all of it at the URL."""
    url, there = f"file://{tmp_path}/there", tmp_path / "there"
    code = main(compare(run, url))
    whole = result_bytes(there)
    (there / lost).unlink() if (there / lost).is_file() else shutil.rmtree(there / lost)
    capsys.readouterr()
    assert main(["report", url]) == 0
    assert ("pair: no longer there; shown as it was when" in capsys.readouterr().err) == (lost != "store")
    assert main(compare(run, url)) == code
    assert "measured before" in capsys.readouterr().err
    assert result_bytes(there) == whole


def test_a_training_run_is_followed_from_two_machines(
    run: tuple[Path, Path], machine: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, steps = run
    url = f"file://{tmp_path}/there"
    arguments = ["track", "--base", str(base), *QUICK, "--no-signs"]
    both = [str(steps / "checkpoint-10"), str(steps / "checkpoint-20")]
    assert main([*arguments, *both, "--output", str(tmp_path / "alone")]) == 0
    alone = capsys.readouterr().out
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "checkpoint-10").symlink_to(steps / "checkpoint-10")
    assert main([*arguments, str(tmp_path / "begun"), "--output", url]) == 0
    machine("second")
    capsys.readouterr()
    assert main([*arguments, *both, "--output", url]) == 0
    printed = capsys.readouterr()
    assert printed.out == alone
    again = [line for line in printed.err.splitlines() if "measured in" in line]
    assert [line.partition(",")[0] for line in again] == ["step 20"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "release.toml", "--output", "s3://bucket/run"],
        ["circuits", "s3://bucket/run"],
        ["signs", "s3://bucket/run"],
        ["attribute", "model", "--answers", "a", "--out", "b", "--store", "s3://bucket/run"],
        ["calibrate", "release.toml", "--output", "s3://bucket/run"],
    ],
)
def test_commands_that_take_no_url(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "'s3://bucket/run' is a URL, and a folder of this machine is wanted" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "runs", "--html", "s3://bucket/run.html"],
        ["report", "runs", "--plot", "s3://bucket/run.html"],
        ["compare", "--pairs", "release.toml", "--summary", "s3://bucket/run.html"],
        ["track", "runs", "--html", "s3://bucket/run.html"],
    ],
)
def test_files_that_have_no_url(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert f"{arguments[-2]}: 's3://bucket/run.html' is a URL, and a file of this machine is wanted" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://bucket/run", "the protocol ftp:// is not known; s3://, gs://, file:// are"),
        ("s3://", "names no bucket and folder; write s3://BUCKET/FOLDER"),
        ("file:run", "names no folder by its whole path; write file:///FOLDER"),
        ("file:///dev/null/run", "not reached"),
    ],
)
def test_a_url_that_cannot_be_written(
    url: str, words: str, run: tuple[Path, Path], machine: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(compare(run, url)) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_url_without_results(
    machine: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", f"file://{tmp_path}/nothing"]) == 2
    assert "there are no results; give the URL that compare --output had" in capsys.readouterr().err
    assert not any(path.is_file() or path.name == "nothing" for path in tmp_path.rglob("*"))
    assert not list((tmp_path / "machines" / "first").iterdir())


@pytest.mark.slow
def test_a_folder_needs_no_obstore(run: tuple[Path, Path], tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['obstore'] = None; from rlcircuits.cli.main import main; "
        f"code = main({compare(run, tmp_path / 'out')!r}); "
        "assert 'rlcircuits.common.mirror' not in sys.modules; raise SystemExit(code)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode in (0, 1, 3)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.mark.slow
def test_a_killed_run_is_resumed_by_another_machine_from_s3(
    server: S3Server, machine: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "s3://bucket/runs/candidate"
    how = "--question-count 160 --min-questions 5 --noise-draws 1 --batch-size 10 --n 2 --device cpu --algorithm grpo"
    pair = ["--before", str(SEED / "sft"), "--after", str(SEED / "grpo"), "--name", "grpo", *how.split()]
    code = main(["compare", *pair, "--output", str(tmp_path / "alone")])
    begun = subprocess.Popen([sys.executable, "-m", "rlcircuits", "compare", *pair, "--output", url], cwd=ROOT)
    looker = Mirror(url, tmp_path / "looker")
    deadline = time.monotonic() + 240
    while not looker._remote.files("store"):
        assert begun.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "nothing was uploaded"
        time.sleep(0.05)
    begun.send_signal(signal.SIGKILL)
    assert begun.wait() == -signal.SIGKILL
    looker.fetch_results()
    assert not (looker.folder / "grpo").exists()
    machine("second")
    assert main(["compare", *pair, "--output", url]) == code
    last = Mirror(url, tmp_path / "last")
    last.fetch_results()
    last.fetch_key("")
    assert result_bytes(last.folder) == result_bytes(tmp_path / "alone")


@pytest.mark.slow
def test_s3_that_is_lost_in_the_middle(
    server: S3Server,
    run: tuple[Path, Path],
    machine: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The run ends, keeps what it has, says so in one sentence, and the next run uploads it without a model."""
    from rlcircuits.release import run as run_module

    url = "s3://bucket/run"
    code = main(compare(run, tmp_path / "alone"))
    monkeypatch.setattr(remote_folder, "PATIENCE", timedelta(seconds=1))
    real = run_module.save_run

    def lose(*arguments: object) -> None:
        server.stop()
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(run_module, "save_run", lose)
    capsys.readouterr()
    assert main(compare(run, url)) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "s3://bucket/run" in line]
    assert "s3://bucket/run: not reached: " in errors[-1]
    assert "results that are not uploaded yet are in " in errors[-1]
    assert "the same command on this machine uploads them" in errors[-1]
    monkeypatch.setattr(run_module, "save_run", real)
    with S3Server(server.port):
        assert main(compare(run, url)) == code
        assert "measured before" in capsys.readouterr().err
        machine("second")
        assert main(["verify", url]) == main(["verify", str(tmp_path / "alone")])


@pytest.mark.slow
def test_a_bucket_that_is_not_there(
    server: S3Server, run: tuple[Path, Path], machine: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(compare(run, "s3://nobody/run")) == 2
    assert "s3://nobody/run: there is no such bucket, or it is not yours" in capsys.readouterr().err


def test_a_note_that_cannot_be_written_is_done_without(
    run: tuple[Path, Path], machine: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a full disk: what is uploaded counts, and the next run uploads or fetches it again."""
    url = f"file://{tmp_path}/there"
    code = main(compare(run, tmp_path / "alone"))
    scratch = scratch_folder(url)
    scratch.mkdir(parents=True)
    (scratch / "synced").write_text("no folder")
    for _ in range(2):
        assert main(compare(run, url)) == code
        assert result_bytes(tmp_path / "there") == result_bytes(tmp_path / "alone")


@pytest.mark.parametrize("server", ["127.0.0.1:9000", "", "http://", "http://host:port", "ftp://host"])
def test_a_server_that_is_no_url(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    with pytest.raises(RLCircuitsError, match=rf"^AWS_ENDPOINT_URL: '{server}' is no server's URL; write https://HOST"):
        remote_folder.RemoteFolder("s3://bucket/run")


def test_a_panic_of_obstore_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "no region")
    with pytest.raises(RLCircuitsError, match=r"^s3://bucket/run: not reached: "):
        remote_folder.RemoteFolder("s3://bucket/run").files()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "Error performing PUT http://169.254.169.254/latest/api/token: timed out",
            "no credentials were found; set AWS",
        ),
        ("Server returned non-2xx status code: 403 Forbidden: AccessDenied", "access is denied"),
        ("Server returned non-2xx status code: 404 Not Found: NoSuchBucket", "there is no such bucket"),
        ("Error performing GET, after 12 retries: connection refused", "not reached: Error performing GET"),
        (
            "Error performing GET http://host:1/bucket?prefix=run%2F in 1s, after 12 retries  - HTTP error: x",
            "not reached: http://host:1: HTTP error: x",
        ),
    ],
)
def test_what_a_store_says_in_words(text: str, words: str) -> None:
    from obstore.exceptions import GenericError

    folder = remote_folder.RemoteFolder("s3://bucket/run")
    assert folder._why(GenericError(f"{text}\n\nDebug source:\nGeneric")).startswith(words)
