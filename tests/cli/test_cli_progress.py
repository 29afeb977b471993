"""How much a command says while it works: -q nothing but results and errors, -v more."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.cli_runs import compare_arguments

from rlcircuits.attribution import edge_attribution
from rlcircuits.cli.main import main
from rlcircuits.common import progress
from rlcircuits.common.logs import LOGGER


@pytest.mark.usefixtures("all_right")
def test_quiet_and_verbose(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = LOGGER.level, list(LOGGER.handlers)
    arguments = compare_arguments(tiny, "--balance", "2", "--noise-draws", "0")
    assert main([*arguments, "-v"]) == 0
    loud = capsys.readouterr()
    lines = loud.err.splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)
    assert any(re.search(r"base-to-tuned: scores: [\d,]+ tokens in [\d.]+ s, [\d,]+ tokens/s", line) for line in lines)
    assert main([*arguments, "--quiet"]) == 0
    quiet = capsys.readouterr()
    assert quiet.err == ""
    assert quiet.out == loud.out
    assert (LOGGER.level, LOGGER.handlers) == before


def test_a_quiet_command_tells_its_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "none"), "-q"]) == 2
    assert capsys.readouterr().err.startswith("rlcircuits: ")


@pytest.mark.usefixtures("all_right")
def test_a_pipe_gets_lines(tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = edge_attribution._attribute_batch

    def slow(*batch: Any) -> Any:
        time.sleep(0.2)
        return plain(*batch)

    monkeypatch.setattr(edge_attribution, "_attribute_batch", slow)
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0.001)
    assert main(compare_arguments(tiny, "--balance", "2", "--noise-draws", "0")) == 0
    assert re.search(r"^attribution: \d+ of \d+", capsys.readouterr().err, re.MULTILINE)


@pytest.mark.slow
def test_no_library_advises_a_kernel() -> None:
    """Imported within a command, bitsandbytes says nothing of a kernel that no command uses."""
    pytest.importorskip("bitsandbytes")
    code = (
        "from rlcircuits.cli.streams import said_to_stderr\n"
        "with said_to_stderr(quiet=False, verbose=True):\n"
        "    import bitsandbytes\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert "kernels" not in done.stderr
