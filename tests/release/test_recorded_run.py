"""The record of a run: what it says of the pair, and what becomes of a damaged one."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from helpers.measured_results import FULL, TOO_FEW, measured_results
from helpers.page_parts import read_page

from rlcircuits.answers.answer_file import Answers
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.storage import load_comparison
from rlcircuits.release.result_files import answers_file
from rlcircuits.release.run_record import RUN_FILE, load_run
from rlcircuits.report.page.payload import unpack
from rlcircuits.report.page.write import to_html


@pytest.mark.parametrize("name", [FULL, TOO_FEW])
def test_it_says_how_the_pair_was_measured(name: str) -> None:
    folder = measured_results() / name
    record, comparison = load_run(folder), load_comparison(folder)
    assert record.command == tuple(sys.argv)
    assert record.started < datetime.now(UTC)
    assert record.seconds > 0
    assert record.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert record.settings["question_count"] == 24
    assert record.fingerprints == {
        side: CheckpointSource(path).fingerprint()
        for side, path in (("before", comparison.before), ("after", comparison.after))
    }
    asked = {item.question_id for item in Answers.load(answers_file(folder, "before")).items}
    assert {question.id for question in record.questions} == asked
    assert all(question.text and question.gold for question in record.questions)
    assert record.pool is None


def test_the_page_shows_it() -> None:
    folder = measured_results() / FULL
    record, comparison = load_run(folder), load_comparison(folder)
    page = read_page(to_html([comparison], folders=[folder]))
    provenance = page.by_id("pair-1-provenance").text
    for words in (
        record.fingerprints["after"],
        record.versions["torch"],
        "question_count = 24",
        Path(sys.argv[0]).name,
    ):
        assert words in provenance
    packed = unpack(page.all("script", class_="payload")[0].text)
    questions = {question.id: question for question in record.questions}
    shown = [f"{questions[each].text}\nreference answer: {questions[each].gold}" for each in comparison.question_ids]
    assert packed["texts"] == shown


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "damaged"),
        (b"\xff", "UTF-8"),
        (b'{"format": "rlcircuits-run"', "damaged"),
        (b"[]", "damaged"),
        ("field", "run.command"),
        ("version", "version 2"),
    ],
)
def test_a_damaged_record_is_named_with_what_to_do(content: bytes | str, says: str, tmp_path: Path) -> None:
    if isinstance(content, str):
        document = json.loads((measured_results() / FULL / RUN_FILE).read_text(encoding="utf-8"))
        if content == "version":
            document["version"] = 2
        else:
            document["run"]["command"] = 3
        content = json.dumps(document).encode()
    (tmp_path / RUN_FILE).write_bytes(content)
    with pytest.raises(RLCircuitsError, match=says) as error:
        load_run(tmp_path)
    assert RUN_FILE in str(error.value)


def test_a_pair_without_a_record_is_no_error(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(measured_results() / FULL, tmp_path / FULL))
    (folder / RUN_FILE).unlink()
    provenance = read_page(to_html([load_comparison(folder)], folders=[folder])).by_id("pair-1-provenance").text
    assert "no number depends on them" in provenance
    assert "earlier version" in provenance
    assert "does not exist" not in provenance
