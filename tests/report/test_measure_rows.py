"""A comparison as rows of numbers: every measure once, with the numbers that it stores, and as CSV."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import fields, replace

import numpy as np
import pytest
from helpers.synthetic_comparisons import made_up_comparison

from rlcircuits.comparison.circuit_checks import CircuitChecks
from rlcircuits.comparison.comparison import LABELS, Comparison
from rlcircuits.comparison.effects import AccuracyClaim
from rlcircuits.comparison.verdict import judge
from rlcircuits.report.measure_rows import MeasureRow, measure_rows, noise_change, rows_as_csv

CLAIM = AccuracyClaim("claimed-accuracy", None, 0.97, 1.0, 60, 0.02, (-0.01, 0.05), 0.9)
CIRCUITS = CircuitChecks(
    0.5, "zero", 0.5, None, n_edges=7, judged=9, overlap=0.6, overlap_interval=(0.5, 0.7), noise=(0.8, 0.7)
)


def everything() -> Comparison:
    found = made_up_comparison("a,b", "sft")
    return replace(found, claims=(CLAIM,), circuits=CIRCUITS, greedy=found.accuracy)


def test_every_measure_has_one_row_with_its_numbers() -> None:
    comparison = everything()
    rows = {row.measure: row for row in measure_rows(comparison)}
    assert len(rows) == len(measure_rows(comparison))
    assert rows.keys() == {*judge(comparison).all_findings, *LABELS, "greedy-accuracy"}
    for metric, effect in comparison.effects.items():
        row = rows[metric]
        values = np.array([effect.before_values, effect.after_values], dtype=np.float64)
        before, after = values[:, ~np.isnan(values).any(0)].mean(1)
        assert (row.before, row.after) == pytest.approx((before, after))
        assert row.change == pytest.approx((after - before) / abs(before))
        assert (row.low, row.high, row.rose_on) == (*effect.interval, effect.win_share)
    claim, overlap = rows["claimed-accuracy"], rows["circuit-overlap"]
    assert (claim.before, claim.after, claim.low, claim.high, claim.count) == (0.97, 1.0, -0.01, 0.05, 60)
    assert (overlap.before, overlap.after, overlap.outcome) == (pytest.approx(0.35), 0.6, "holds")
    assert math.isnan(rows["not-online-rl"].before)
    assert {row.verdict for row in rows.values()} == {"does not hold"}


def test_findings_are_those_of_the_verdict() -> None:
    comparison = everything()
    rows = {row.measure: row for row in measure_rows(comparison)}
    for measure, finding in judge(comparison).all_findings.items():
        row = rows[measure]
        assert (row.outcome, row.expected, row.words) == (finding.outcome, finding.expected, finding.words)
        assert row.p == finding.p


def test_noise_is_the_mean_over_the_draws() -> None:
    comparison = made_up_comparison(controls=(1.0, 1.1, 0))  # the last draw has no right answer
    shifts = [control.shifts["intensity"].change for control in comparison.controls if control.shifts]
    assert len(shifts) == 2
    assert noise_change(comparison, "intensity") == pytest.approx(np.mean(shifts))
    assert math.isnan(noise_change(made_up_comparison(controls=()), "intensity"))
    assert math.isnan(noise_change(made_up_comparison(controls=()), "accuracy"))


def test_csv_reads_back() -> None:
    comparison = everything()
    read = list(csv.DictReader(io.StringIO(rows_as_csv([comparison, made_up_comparison()]))))
    assert list(read[0]) == [field.name for field in fields(MeasureRow)]
    rows = measure_rows(comparison)
    assert len(read) == len(rows) + len(measure_rows(made_up_comparison()))
    for found, row in zip(read, rows, strict=False):
        assert found["pair"] == "a,b"
        assert found["after"] == ("" if math.isnan(row.after) else repr(row.after))
        assert found["outcome"] == (row.outcome or "")
