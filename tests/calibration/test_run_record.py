"""Runs kept as lines: read back as they were, gone on with after a kill, refused where they are damaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.calibration.run_record import Run, append_run, read_runs
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.outcome import OUTCOMES, Outcome

RUN = Run(
    key="a", part="sabotage", name="noise-1x", base="l8", kind="noise", tag="damaged", seed=1000, n=4,
    outcome="does not hold", findings={"accuracy": "holds", "reference-accuracy": "does not hold"}, pattern=False,
    before=0.9, after=0.95, reference=0.97, compared=390, seconds=1.5, by_k={50: "holds"},
)  # fmt: skip


def test_what_was_appended_is_read(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    assert read_runs(file) == {}
    other = replace(RUN, key="b", reference=None, by_k={})
    append_run(file, RUN)
    append_run(file, other)
    assert read_runs(file) == {"a": RUN, "b": other}


@given(cut=st.integers(1, 400))
def test_a_line_cut_by_a_kill_is_left_out_and_replaced(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    file = tmp_path_factory.mktemp("runs") / "runs.jsonl"
    append_run(file, RUN)
    append_run(file, replace(RUN, key="b"))
    text = file.read_bytes()
    first = text.index(b"\n") + 1
    file.write_bytes(text[: min(first + cut, len(text) - 1)])
    read = read_runs(file)
    assert read.keys() in ({"a"}, {"a", "b"})  # the whole line without its end is whole
    append_run(file, replace(RUN, key="c"))
    assert set(read_runs(file)) >= {"a", "c"}


def test_another_line_that_is_no_run_is_named(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    file.write_text('{"key": 3}\n')
    append_run(file, RUN)
    with pytest.raises(RLCircuitsError, match=r"runs.jsonl, line 1.*remove the line"):
        read_runs(file)


FINDINGS = '{"accuracy": "holds", "reference-accuracy": "does not hold"}'


@pytest.mark.parametrize(
    "change", [("0.9", "7.5"), ("0.95", "NaN"), ("390", "-1"), (FINDINGS, "{"), (FINDINGS, "{}"), ("noise-1x", "\xff")]
)
def test_a_line_that_was_changed_is_named(tmp_path: Path, change: tuple[str, str]) -> None:
    file = tmp_path / "runs.jsonl"
    append_run(file, RUN)
    file.write_bytes(file.read_bytes().replace(change[0].encode(), change[1].encode("latin-1"), 1))
    with pytest.raises(RLCircuitsError, match=r"runs.jsonl, line 1.*remove the line"):
        read_runs(file)


@pytest.mark.parametrize("metric", OUTCOMES)
def test_the_outcome_without_the_claim(metric: Outcome) -> None:
    findings: dict[str, Outcome] = {"intensity": metric, "accuracy": "holds", "reference-accuracy": "does not hold"}
    assert replace(RUN, findings=findings).without_claim == metric


def test_a_pair_that_was_not_measured_is_inconclusive_at_best() -> None:
    unmeasured = replace(RUN, compared=0, findings={"accuracy": "holds"})
    assert unmeasured.without_claim == "inconclusive"
    assert replace(unmeasured, findings={"accuracy": "does not hold"}).without_claim == "does not hold"
