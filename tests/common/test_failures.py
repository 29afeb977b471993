"""Failures: what is a fault of rlcircuits, and what is the input's or the environment's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.full_disk import largest_file
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rlcircuits.common.failures import describe_failure


def test_a_full_disk_under_safetensors_is_no_fault(tmp_path: Path) -> None:
    with largest_file(100), pytest.raises(SafetensorError) as caught:
        save_file({"one": torch.zeros(1_000)}, tmp_path / "file")
    failure = describe_failure(caught.value, tmp_path)
    assert not failure.is_fault
    assert "File too large" in failure.message


def test_another_error_of_safetensors_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no header")
    with pytest.raises(SafetensorError) as caught:
        safe_open(tmp_path / "file", "pt")
    failure = describe_failure(caught.value, tmp_path)
    assert failure.is_fault
    assert "SafetensorError" in failure.message
