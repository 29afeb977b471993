"""The pytest plugin: JUnit XML has the numbers of each test's measure, and how long its pair took."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from helpers.pairs_file_text import PAIRS
from helpers.plugin_runs import Declare, FakePipeline, Run
from helpers.synthetic_comparisons import made_up_comparison

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.report.measure_rows import measure_rows

Properties = dict[str, dict[str, str]]


@pytest.fixture
def junit(run: Run, pytester: pytest.Pytester) -> Callable[..., Properties]:
    """A function that runs pytest, and returns each test's properties by the test's name."""

    def ran(*arguments: str) -> Properties:
        run(*arguments, "--junitxml=junit.xml")
        return read(pytester.path / "junit.xml")

    return ran


def read(path: Path) -> Properties:
    cases = ElementTree.parse(path).iter("testcase")
    return {case.attrib["name"]: {each.attrib["name"]: each.attrib["value"] for each in case.iter("property")}
            for case in cases}  # fmt: skip


def test_each_measure_has_its_numbers(
    junit: Callable[..., Properties], pipeline: FakePipeline, declare: Declare
) -> None:
    declare(PAIRS)
    found = junit("--pairs=pairs.toml")
    assert found.keys() == {f"test_effect[{pair}-{measure}]" for pair in ("one", "two")
                            for measure in ("intensity", "complexity", "kurtosis", "accuracy")}  # fmt: skip
    rows = {row.measure: row for row in measure_rows(made_up_comparison("one"))}
    for measure in ("intensity", "accuracy"):
        properties, row = found[f"test_effect[one-{measure}]"], rows[measure]
        for name in ("before", "after", "change", "low", "high", "p", "outcome", "count"):
            value = getattr(row, name)
            known = not (isinstance(value, float) and math.isnan(value))
            assert properties.get(f"rlcircuits.{name}") == (str(value) if known else None), name
    seconds = {properties["rlcircuits.pair_seconds"] for name, properties in found.items() if "one" in name}
    assert len(seconds) == 1  # the pair's, not the test's
    assert float(seconds.pop()) > 0
    assert "rlcircuits.expected" not in found["test_effect[one-accuracy]"]


def test_a_skipped_measure_and_a_whole_pair_have_theirs(
    junit: Callable[..., Properties], pipeline: FakePipeline, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        test_mine="""
        def test_effect(effect):
            assert effect.holds, effect.message

        def test_pair(pair_comparison):
            assert pair_comparison.k == 40
        """
    )
    found = junit("--before=org/a", "--after=org/b", "--algorithm=dpo")
    skipped = found["test_effect[a-to-b-intensity]"]
    assert skipped["rlcircuits.words"].endswith("(reported)")
    assert "rlcircuits.outcome" not in skipped
    pair = found["test_pair[a-to-b]"]
    assert (pair["rlcircuits.verdict"], pair["rlcircuits.count"]) == ("holds", "40")


def test_a_pair_that_is_not_measured_has_none(
    junit: Callable[..., Properties], pipeline: FakePipeline, declare: Declare
) -> None:
    declare(PAIRS)
    pipeline.error = RLCircuitsError("no tokenizer")
    assert set(map(len, junit("--pairs=pairs.toml").values())) == {0}
