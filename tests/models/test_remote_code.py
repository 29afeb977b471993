"""A repository's Python code runs only if the caller trusts it, and no prompt ever asks."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.core_inputs import fixed_sequences
from helpers.tiny_checkpoints import save_checkpoint

from rlcircuits import Checkpoint, CheckpointSource, attribute
from rlcircuits.common.errors import RLCircuitsError

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path({marker!r}).touch()
class OwnConfig(LlamaConfig):
    model_type = {model_type!r}
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


def bring_code(folder: Path, model_type: str) -> Path:
    """Save a checkpoint whose config names its own code, which creates the marker file when it runs."""
    marker = folder.parent / "has-run"
    save_checkpoint(folder)
    (folder / "own_code.py").write_text(CODE.format(marker=str(marker), model_type=model_type))
    config = json.loads((folder / "config.json").read_text())
    code = {"AutoConfig": "own_code.OwnConfig", "AutoModelForCausalLM": "own_code.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": model_type, "auto_map": code}))
    return marker


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


def test_code_that_is_not_trusted_is_not_run(tmp_path: Path) -> None:
    marker = bring_code(tmp_path / "model", "own")
    message = r"config\.json: model_type 'own' needs the repository's own Python code.*--trust-remote-code"
    for call in (lambda: Checkpoint.load(tmp_path / "model"), CheckpointSource(str(tmp_path / "model")).architecture):
        with pytest.raises(RLCircuitsError, match=message):
            call()
    assert not marker.exists()


def test_a_family_that_is_known_needs_no_code(tmp_path: Path) -> None:
    marker = bring_code(tmp_path / "model", "llama")
    assert type(Checkpoint.load(tmp_path / "model").model).__name__ == "LlamaForCausalLM"
    assert not marker.exists()


def test_trusted_code_is_run_and_known(tmp_path: Path) -> None:
    marker = bring_code(tmp_path / "model", "llama")
    plain, trusted = (CheckpointSource(str(tmp_path / "model"), trust_remote_code=trust) for trust in (False, True))
    first = trusted.fingerprint()
    assert first != plain.fingerprint()
    loaded = trusted.load()
    assert type(loaded.model).__name__ == "OwnModel"
    assert marker.exists()
    assert len(attribute(loaded, fixed_sequences())) == 3
    with (tmp_path / "model" / "own_code.py").open("a") as file:
        file.write("\n")
    assert trusted.fingerprint() != first


def test_code_of_another_repository_is_refused(tmp_path: Path) -> None:
    bring_code(tmp_path / "model", "own")
    file = tmp_path / "model" / "config.json"
    file.write_text(file.read_text().replace("own_code.OwnConfig", "team/other--own_code.OwnConfig"))
    with pytest.raises(RLCircuitsError, match="field 'auto_map' names code of another repository"):
        Checkpoint.load(tmp_path / "model", trust_remote_code=True)


@pytest.mark.slow
def test_nobody_is_asked_on_a_terminal(tmp_path: Path) -> None:
    marker = bring_code(tmp_path / "model", "own")
    ours, theirs = pty.openpty()
    os.write(ours, b"y\ny\ny\n")
    command = [sys.executable, "-m", "rlcircuits.cli.main", "answer", str(tmp_path / "model"), "--count", "1"]
    try:
        run = subprocess.run(
            [*command, "--out", str(tmp_path / "answers.jsonl")],
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert (run.returncode, run.stdout) == (2, "")
    assert "needs the repository's own Python code" in run.stderr
    assert "[y/N]" not in run.stderr
    assert not marker.exists()
