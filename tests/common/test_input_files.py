"""Files that a user gives: what is read, and what may be no file to read."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from helpers.tiny_checkpoints import save_checkpoint

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.types import Answer, Sampling
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.input_files import check_readable, read_lines, read_text
from rlcircuits.common.json_files import parse_json_object
from rlcircuits.release.pairs_file import load_pairs


def test_a_byte_order_mark_is_read_over_in_every_kind_of_file(tmp_path: Path) -> None:
    """As editors on Windows write it. Questions and recorded answers are tested with their own."""
    stored = Answers("m", "s", "test", Sampling(), (Answer("q0", (1,), (2,), "2", True, True),))
    stored.save(tmp_path / "answers.jsonl")
    base = save_checkpoint(tmp_path / "base")
    pairs = tmp_path / "pairs.toml"
    pairs.write_text(f'[[pair]]\nname = "x"\nbefore = "{base}"\nafter = "{base}"\nalgorithm = "sft"\n')
    for file in (tmp_path / "answers.jsonl", pairs):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert Answers.load(tmp_path / "answers.jsonl") == stored
    assert [pair.name for pair in load_pairs(pairs)] == ["x"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty; answers are wanted, one JSON object a line"),
        (b" \n\t\n", "it is empty"),
        (b"a\n\xff\n", r"file:2: it is not UTF-8: invalid start byte at byte 0; save it as UTF-8"),
    ],
)
def test_lines_that_cannot_be_read_are_named(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(RLCircuitsError, match=message):
        list(read_lines(tmp_path / "file", "answers"))


def test_lines_come_with_their_places(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbfone\r\n\ntwo")
    found = list(read_lines(tmp_path / "file", "answers"))
    assert found == [(f"{tmp_path / 'file'}:{n}", text) for n, text in enumerate(["one\r", "", "two"], start=1)]


def test_what_may_never_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for file, kind in ((tmp_path, "a folder"), (tmp_path / "pipe", "a named pipe"), ("/dev/zero", "a device")):
        with pytest.raises(RLCircuitsError, match=f"cannot be read as text: it is {kind}; a file is wanted"):
            read_text(file, "text")


def test_a_pipe_of_the_shell_is_read() -> None:
    """``--few-shot <(command)``."""
    start, end = os.pipe()
    writer = threading.Thread(target=lambda: (os.write(end, b"1+1? 2."), os.close(end)))
    writer.start()
    try:
        assert read_text(f"/dev/fd/{start}", "worked examples") == "1+1? 2."
    finally:
        writer.join()
        os.close(start)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 1}}', "field 'c' stands twice in one object"),
        ('{"a": ' + "9" * 5_000 + "}", "a whole number of more than 4,300 digits"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "too many lists or objects within one another"),
        ("[1]", "found a list; a JSON object is wanted"),
        ('{"a": 1', "it is no JSON: Expecting ',' delimiter at column 8"),
        ('{"a":\n"b', "it is no JSON: Unterminated string at line 2, column 1"),
    ],
)
def test_anything_but_an_object_is_an_error(text: str, message: str) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        parse_json_object(text)


def test_what_is_an_object_is_read_as_json_reads_it() -> None:
    text = '{"a": [1, 2.5, "x", null], "b": {"a": true}}'
    assert parse_json_object(text) == {"a": [1, 2.5, "x", None], "b": {"a": True}}
    assert parse_json_object('{"n": ' + "9" * 4_000 + "}")["n"] == int("9" * 4_000)


@pytest.mark.parametrize(("name", "reason"), [("gone", "No such file"), ("file/below", "Not a directory")])
def test_what_cannot_be_opened_is_named_with_the_reason(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").touch()
    for readable in (tmp_path, tmp_path / "file"):
        check_readable(readable)
    with pytest.raises(RLCircuitsError, match=f"{name} cannot be read: {reason}"):
        check_readable(tmp_path / name)


def test_a_file_without_the_right_to_read_it_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(file))

    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(Path, "open", refuse)  # root may read every file
    monkeypatch.setattr(Path, "iterdir", refuse)
    for name in ("file", "folder"):
        with pytest.raises(RLCircuitsError, match=f"{name} cannot be read: Permission denied; give yourself the right"):
            check_readable(tmp_path / name)
