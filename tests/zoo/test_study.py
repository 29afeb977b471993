"""The studies of the zoo: their tables say what the comparisons say, and what they write reads back."""

from __future__ import annotations

import importlib
import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.paths import ROOT
from helpers.synthetic_comparisons import made_up_comparison
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.comparison.storage import save_comparison
from rlcircuits.comparison.verdict import judge
from rlcircuits.questions import load_questions
from rlcircuits.release.pairs_file import load_pairs, load_pairs_file

ZOO = ROOT / "fixtures"
README = (ZOO / "README.md").read_text(encoding="utf-8")
COLUMNS = ("intensity", "intensity_over_loss", "complexity", "kurtosis")
"""The overview's, between loss and verdict."""
sys.path.insert(0, str(ROOT))

from fixtures.recipe.provenance import folder_of  # noqa: E402
from fixtures.recipe.settings import BASE, FAMILIES, DPOSettings, FamilySettings, GRPOSettings  # noqa: E402
from fixtures.study import declaration, dynamics, overview, results, sensitivity  # noqa: E402
from fixtures.study.measure import SETTINGS, arrows, score_pair  # noqa: E402

pytestmark = pytest.mark.slow

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
    # A made-up rise of all three is what training without RL must not show.
    assert set(pairs["tiny-seed-1-sft-more"].does_not_hold) == {"not-online-rl"}
    assert not pairs["tiny-seed-1-ppo"].does_not_hold
    # Each reason says from what to what the metric went, as measured.
    for metric, reason in pairs["tiny-seed-1-grpo"].does_not_hold.items():
        effect = found["tiny-seed-1-grpo"].effects[metric]
        assert reason.startswith(f"{effect.before:#.3g} to {effect.after:#.3g}, rose on ")
    assert all(metric in pairs["tiny-seed-1-sft-more"].does_not_hold["not-online-rl"] for metric in GATE_METRICS)


def test_a_section_needs_its_two_lines(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("<!-- overview -->\n")
    with pytest.raises(RLCircuitsError, match=r"README.md: one line <!-- overview -->"):
        results.write_section(tmp_path, "overview", "text")


def test_the_studies_measure_as_the_gate_does() -> None:
    gate = load_pairs_file(ZOO / "zoo.toml").make_settings()
    assert (SETTINGS.k, SETTINGS.sampling.n) == (200, 1)  # as the README says of the stored tables
    assert replace(SETTINGS, k=gate.k, batch_size=gate.batch_size, sampling=gate.sampling) == gate
    assert sensitivity.USUAL.words == "as in the gate"


def test_one_choice_is_varied_at_a_time_and_none_left_out() -> None:
    choices = sensitivity.CHOICES
    assert len({choice.words for choice in choices}) == len(choices)
    for temperature in (0.0, 1.0):
        assert {each.alpha for each in choices if each.temperature == temperature} == {0.1, 0.3, 0.5, 1.0}
    for name in ("k", "bins"):
        changed = [each for each in choices if getattr(each, name) != getattr(sensitivity.USUAL, name)]
        assert len(changed) >= 3
        assert {replace(each, **{name: getattr(sensitivity.USUAL, name)}) for each in changed} == {sensitivity.USUAL}


def test_training_is_followed_every_ten_steps_at_three_temperatures() -> None:
    assert dynamics.EVERY == 10
    assert {run.algorithm for run in dynamics.RUNS} == {"grpo", "ppo", "dpo"}
    usual = GRPOSettings().temperature
    assert {run.temperature or usual for run in dynamics.RUNS if run.algorithm == "grpo"} == {0.7, 1.0, 1.3}


def kept(name: str) -> Any:
    return json.loads((ZOO / "results" / f"{name}.json").read_text(encoding="utf-8"))


def arrow(effect: dict[str, float]) -> str:
    return "↑" if effect["p_up"] < 0.01 else "↓" if effect["p_down"] < 0.01 else "·"


def test_the_readme_shows_the_stored_overview() -> None:
    numbers = kept("overview")
    bases = [(family, seed) for family, settings in FAMILIES.items() for seed in settings.seeds]
    sizes: dict[str, dict[str, float]] = {}
    for row in numbers["pairs"]:
        (line,) = [line for line in README.splitlines() if line.startswith(f"| {row['pair']} ")]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1] == "{:.3f} → {:.3f}".format(*row["accuracy"])
        assert cells[-1] == row["verdict"]
        for cell, metric in zip(cells[2:-1], ("loss", *COLUMNS), strict=True):
            effect = row["effects"][metric]
            change = effect["after"] / effect["before"] - 1
            if metric in GATE_METRICS:
                ends = "…".join(f"{100 * end / effect['before']:+.0f}" for end in effect["interval_of_difference"])
                assert cell.startswith(f"{change:+.1%} [{ends}] (")
                assert cell[-1] == "?" or cell[-1] == arrow(effect)
            else:
                assert cell == f"{change:+.0%}"
        effects = {metric: (row["effects"][metric]["before"], row["effects"][metric]["after"]) for metric in COLUMNS}
        sizes[row["pair"]] = {
            "intensity": math.log(effects["intensity"][1] / effects["intensity"][0]),
            "complexity": effects["complexity"][1] - effects["complexity"][0],
            "kurtosis": -math.log(effects["kurtosis"][1] / effects["kurtosis"][0]),
        }
    assert overview.algorithms_table(bases, sizes) in README
    for contrasts in (numbers["contrasts"], [overview.contrast_of(*each, bases, sizes) for each in overview.CONTRASTS]):
        assert overview.contrasts_table(contrasts) in README


def test_the_gate_expects_the_failures_that_the_overview_shows() -> None:
    verdicts = {row["pair"]: row["verdict"] for row in kept("overview")["pairs"]}
    pairs = load_pairs(ZOO / "zoo.toml")
    assert [pair.name for pair in pairs] == list(verdicts)
    for pair in pairs:
        outcome, _, measures = verdicts[pair.name].partition(": ")
        failed = measures.split(", ") if outcome == "does not hold" else []
        assert failed == list(pair.does_not_hold)


def test_the_readme_shows_the_stored_sensitivity_and_dynamics() -> None:
    choices = {choice.words: choice for choice in sensitivity.CHOICES}
    rows: dict[sensitivity.Choice, dict[str, str]] = {choice: {} for choice in sensitivity.CHOICES}
    for row in kept("sensitivity"):
        family, algorithm = row["pair"].split(f"-seed-{FAMILIES['llama-sums'].seeds[0]}-")
        rows[choices[row["choice"]]][f"{family} {algorithm}"] = "".join(
            arrow(row["effects"][metric]) for metric in GATE_METRICS
        )
    assert sensitivity.table(rows) in README
    numbers = kept("dynamics")
    assert dynamics.summary(numbers) in README
    assert {(row["run"], row["step"]) for row in numbers} == {
        (run.words, step)
        for run in dynamics.RUNS
        for step in range(0, FAMILIES["llama-sums"].settings_of(run.algorithm).steps + 1, 10)
    }


def test_a_pair_with_itself_goes_nowhere(tmp_path: Path) -> None:
    family = next(iter(FAMILIES))
    base = ROOT / "fixtures" / family / f"seed-{FAMILIES[family].seeds[0]}" / "sft"
    questions = load_questions("arithmetic", count=60)
    scored = score_pair(base, base, questions, tmp_path, k=20)
    effects = scored.effects()
    assert arrows(effects) == "···"
    assert effects["intensity"].questions == 20
    assert scored.accuracy_before == scored.accuracy_after
    assert scored.effects()["intensity"].before > 0
    assert set(scored.effects(bins=8)) == {"loss", *GATE_METRICS}


@pytest.fixture
def one_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of one family's seed with empty sections in the README, and a recipe of a few steps."""
    pytest.importorskip("trl")
    family = FAMILIES["llama-sums"]
    few: dict[str, Any] = {
        "grpo": GRPOSettings(steps=20, prompts_per_step=4, answers_per_prompt=4),
        "dpo": DPOSettings(steps=10, pairs_per_step=4, pairs=16),
    }
    families = {"llama-sums": replace(family, seeds=family.seeds[:1], special=few)}
    recipe_train = importlib.import_module("fixtures.recipe.train")
    for module in (dynamics, sensitivity, recipe_train):
        monkeypatch.setattr(module, "FAMILIES", families)
    root = tmp_path / "zoo"
    for algorithm in (BASE, "grpo"):
        stored, copied = (folder_of(each, "llama-sums", algorithm, family.seeds[0]) for each in (ZOO, root))
        shutil.copytree(stored, copied)
    sections = (f"<!-- {name} -->\n<!-- /{name} -->\n" for name in (dynamics.NAME, sensitivity.NAME))
    (root / "README.md").write_text("".join(sections))
    return root


def test_sensitivity_measures_every_choice(one_family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choices = (replace(sensitivity.USUAL, k=20), replace(sensitivity.USUAL, k=20, bins=8))
    monkeypatch.setattr(sensitivity, "CHOICES", choices)
    monkeypatch.setattr(sensitivity, "ALGORITHMS", ("grpo",))
    text = sensitivity.study_sensitivity(one_family, tmp_path / "store")
    assert text in (one_family / "README.md").read_text()
    numbers = json.loads((one_family / "results" / "sensitivity.json").read_text())
    assert [(row["choice"], row["questions"]) for row in numbers] == [(choice.words, 20) for choice in choices]
    intensity, complexity = ([row["effects"][metric]["after"] for row in numbers] for metric in GATE_METRICS[:2])
    assert intensity[0] == intensity[1]
    assert complexity[0] != complexity[1]  # the histogram's alone


def test_dynamics_follows_each_training(one_family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamics, "RUNS", (dynamics.Run("grpo", 1.3), dynamics.Run("dpo")))
    picture = dynamics.study_dynamics(one_family, "llama-sums", 7, tmp_path / "work")
    assert picture.read_bytes().startswith(b"\x89PNG")
    numbers = json.loads((one_family / "results" / "dynamics.json").read_text())
    assert [(row["run"], row["step"]) for row in numbers] == [
        ("grpo-1.3", 0), ("grpo-1.3", 10), ("grpo-1.3", 20), ("dpo", 0), ("dpo", 10),
    ]  # fmt: skip
    for row in numbers:
        same = [row[metric]["base"] == row[metric]["model"] for metric in GATE_METRICS]
        assert same == [row["step"] == 0] * 3
    assert dynamics.summary(numbers) in (one_family / "README.md").read_text()
