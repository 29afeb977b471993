"""Completion in bash: the shell asks the program how a line goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("argcomplete", reason="argcomplete is not installed (pip install 'rlcircuits[completion]')")

BASH = shutil.which("bash")
ASK = """
eval "$(register-python-argcomplete rlcircuits)"
COMP_LINE="$1" COMP_POINT=${#1} COMP_TYPE=9
read -ra COMP_WORDS <<< "$1"
[[ "$1" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
function_name=$(complete -p rlcircuits | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"$function_name" rlcircuits "${COMP_WORDS[COMP_CWORD]}" ""
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A search path with a command ``rlcircuits`` of this checkout, whatever is installed."""
    script = tmp_path / "rlcircuits"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rlcircuits "$@"\n# PYTHON_ARGCOMPLETE_OK\n')
    script.chmod(0o755)
    return os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.mark.slow
@pytest.mark.skipif(BASH is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("rlcircuits comp", {"compare"}),
        ("rlcircuits report --ht", {"--html"}),
        ("rlcircuits compare --granularity su", {"sublayer"}),
        ("rlcircuits fixtures ver", {"verify"}),
        ("rlcircuits compare --no-such", set()),
    ],
)
def test_bash_completes_commands_options_and_choices(line: str, wanted: set[str], path: str) -> None:
    assert BASH is not None
    environment = {**os.environ, "PATH": path, "PYTHONPATH": os.getcwd()}
    done = subprocess.run([BASH, "-c", ASK, "bash", line], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert {word.strip() for word in done.stdout.split()} == wanted
