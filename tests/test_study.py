"""The studies of the zoo: their tables say what the comparisons say, and what they write reads back."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import made_up_comparison
from scipy import stats

from rlcircuits.comparison import Comparison
from rlcircuits.errors import RLCircuitsError
from rlcircuits.expectations import GATE_METRICS, judge
from rlcircuits.pairs import load_pairs
from rlcircuits.questions import load_questions
from rlcircuits.report.json import save_comparison

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from fixtures.recipe.settings import FAMILIES, FamilySettings  # noqa: E402
from fixtures.study import declaration, overview, results, sensitivity  # noqa: E402
from fixtures.study.measure import arrows, score_pair  # noqa: E402

TINY = replace(FAMILIES["llama-sums"], seeds=(1, 2))
SECTIONS = "# Zoo\n\n<!-- overview -->\nstale table\n<!-- /overview -->\n\nend\n"


def make_only(monkeypatch: pytest.MonkeyPatch, family: FamilySettings) -> None:
    for module in (declaration, overview, sensitivity):
        monkeypatch.setattr(module, "FAMILIES", {"tiny": family})


def save_all(folder: Path, falling: tuple[str, ...] = ()) -> dict[str, Comparison]:
    """Keep a comparison of every pair of the tiny family; those of the algorithms in `falling` go the other way."""
    found = {}
    for seed, algorithm in declaration.pairs_of("tiny"):
        name = declaration.pair_name("tiny", seed, algorithm)
        found[name] = made_up_comparison(name, algorithm, rise=algorithm not in falling)
        save_comparison(found[name], folder / name)
    return found


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=8))
def test_an_interval_is_students(values: list[float]) -> None:
    mean, low, high = overview.interval(values)
    assert mean == pytest.approx(np.mean(values), abs=1e-9)
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=1e-9)


@pytest.mark.parametrize("rise", [True, False])
def test_an_effect_is_positive_in_online_rls_direction(rise: bool) -> None:
    comparison = made_up_comparison(rise=rise)
    assert all((overview.effect_size(comparison, metric) > 0) == rise for metric in GATE_METRICS)


def test_overview_says_what_the_comparisons_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_only(monkeypatch, TINY)
    (tmp_path / "README.md").write_text(SECTIONS)
    found = save_all(tmp_path / "out", falling=("dpo", "sft-more"))
    text = overview.study_overview(tmp_path, tmp_path / "out")
    written = (tmp_path / "README.md").read_text()
    assert text in written
    assert "stale" not in written
    assert written.startswith("# Zoo\n")
    assert written.endswith("<!-- /overview -->\n\nend\n")
    for comparison in found.values():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {comparison.name} ")]
        assert judge(comparison).words in row
    numbers = json.loads((tmp_path / "results" / "overview.json").read_text())
    assert [row["pair"] for row in numbers["pairs"]] == list(found)
    offline = next(row for row in numbers["contrasts"] if row["contrast"] == "GRPO or offline DPO")
    both = [overview.effect_size(made_up_comparison(rise=rise), "intensity") for rise in (True, False)]
    assert offline["metrics"]["intensity"]["mean"] == pytest.approx(both[0] - both[1])


def test_overview_names_a_missing_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_only(monkeypatch, TINY)
    save_all(tmp_path)
    (tmp_path / "tiny-seed-2-rft" / "comparison.json").unlink()
    with pytest.raises(RLCircuitsError, match="holds no comparison 'tiny-seed-2-rft'"):
        overview.study_overview(tmp_path, tmp_path)


def test_declaration_expects_what_failed_and_reads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_only(monkeypatch, TINY)
    found = save_all(tmp_path / "out", falling=("grpo",))
    for seed, algorithm in [(seed, "sft") for seed in TINY.seeds] + declaration.pairs_of("tiny"):
        (tmp_path / "tiny" / f"seed-{seed}" / algorithm).mkdir(parents=True)
    pairs = {pair.name: pair for pair in load_pairs(declaration.declare(tmp_path, found))}
    assert list(pairs) == list(found)
    for name, comparison in found.items():
        assert tuple(pairs[name].does_not_hold) == judge(comparison).failed
    assert set(pairs["tiny-seed-1-grpo"].does_not_hold) == set(GATE_METRICS)
    # A made-up rise of all three is what a control must not show.
    assert set(pairs["tiny-seed-1-sft-more"].does_not_hold) == {"not-online-rl"}
    assert not pairs["tiny-seed-1-ppo"].does_not_hold


def test_a_section_needs_its_two_lines(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("<!-- overview -->\n")
    with pytest.raises(RLCircuitsError, match=r"README.md: one line <!-- overview -->"):
        results.write_section(tmp_path, "overview", "text")


def test_the_usual_choice_is_the_gates() -> None:
    assert sensitivity.USUAL.words == "as in the gate"
    assert len({choice.words for choice in sensitivity.CHOICES}) == len(sensitivity.CHOICES)


def test_a_pair_with_itself_goes_nowhere(tmp_path: Path) -> None:
    family = next(iter(FAMILIES))
    base = ROOT / "fixtures" / family / f"seed-{FAMILIES[family].seeds[0]}" / "sft"
    scored = score_pair(base, base, load_questions("arithmetic", count=60), tmp_path, k=20)
    assert arrows(scored.effects()) == "···"
    assert scored.accuracy_before == scored.accuracy_after
    assert scored.effects()["intensity"].before > 0
    assert set(scored.effects(bins=8)) == {"loss", *GATE_METRICS}
