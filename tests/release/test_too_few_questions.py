"""A pair with too few questions left to compare: accuracy is measured, kept and judged, and the metrics are not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.tiny_pairs import save_tiny_pair

from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.cli.main import main
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.evidence import evidence_against, judge_comparisons
from rlcircuits.comparison.profiles import GATE_METRICS, PROFILES
from rlcircuits.comparison.storage import load_comparison, to_json
from rlcircuits.comparison.verdict import judge, reads_as_online_rl
from rlcircuits.release.pair import Pair, make_pair
from rlcircuits.release.pairs_file import PairsFile
from rlcircuits.release.plan import make_plan
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings
from rlcircuits.release.verification import verify_pair

pytestmark = pytest.mark.usefixtures("kind_grader")

SETTINGS = Settings(
    question_count=50, min_questions=51, balance=2.0, noise_draws=1, sampling=Sampling(max_new_tokens=6), device="cpu"
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    before, after = save_tiny_pair(tmp_path_factory.mktemp("models"))
    return make_pair(
        name="few", before=str(before), after=str(after), algorithm="dpo", claimed_accuracy=1.0, margin=0.001
    )


@pytest.fixture(scope="module")
def measured(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path]:
    output = tmp_path_factory.mktemp("output")
    return run_pair(pair, SETTINGS, output=output), output


def test_accuracy_and_claims_are_measured_and_nothing_else(measured: tuple[Comparison, Path]) -> None:
    comparison, output = measured
    assert (comparison.k, comparison.question_ids) == (0, ())
    assert comparison.accuracy.asked == 50
    assert 0 < comparison.accuracy.before < 1
    assert len(comparison.claims) == 1
    left = list(comparison.funnel.values())[-1]
    assert comparison.note == (
        f"{left} questions are left to compare and at least 51 are needed, so the metrics were not measured"
    )
    assert comparison.controls == comparison.group_controls == ()
    assert all(effect.questions == 0 for effect in comparison.effects.values())
    assert sorted(path.name for path in (output / "few").iterdir()) == [
        "after.answers.jsonl",
        "before.answers.jsonl",
        "comparison.json",
        "run.json",
    ]


def test_it_is_kept_found_again_and_verified(
    pair: Pair, measured: tuple[Comparison, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison, output = measured

    def load(self: CheckpointSource) -> None:
        raise AssertionError(f"{self.name} was loaded")

    monkeypatch.setattr(CheckpointSource, "load", load)
    told: list[str] = []
    again = run_pair(pair, SETTINGS, output=output, notify=told.append)
    assert told == ["few: measured before, and nothing has changed since"]
    assert to_json(again) == to_json(comparison) == to_json(load_comparison(output / "few"))
    found = verify_pair(output / "few")
    assert {check.part: check.agreement for check in found.checks if check.agreement == "differs"} == {}
    assert {"pairing", "accuracy"} <= {check.part for check in found.checks if check.agreement == "agrees"}


def test_a_plan_knows_that_it_is_finished(pair: Pair, measured: tuple[Comparison, Path]) -> None:
    file = PairsFile((pair,))
    assert make_plan(file, SETTINGS, output=measured[1]).pairs[0].measured
    assert not make_plan(file, replace(SETTINGS, alpha=0.4), output=measured[1]).pairs[0].measured


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_no_profile_holds_of_a_pair_whose_metrics_are_not_known(
    profile: object, measured: tuple[Comparison, Path]
) -> None:
    name = profile.name  # type: ignore[attr-defined]
    comparison = replace(measured[0], profile=name, rules=None, claims=())
    good = replace(comparison.accuracy, before=0.5, after=0.9, lost=0, gained=20, p_fall=1.0, interval=(0.3, 0.5))
    same = replace(comparison.accuracy, before=0.5, after=0.5, lost=0, gained=0, p_fall=1.0, interval=(-0.01, 0.01))
    best = judge(replace(comparison, accuracy=same if name == "same-as" else good))
    assert best.accuracy.outcome == "holds"
    assert best.outcome == "inconclusive"
    assert set(GATE_METRICS) <= set(best.inconclusive)
    assert all("questions are left to compare" in best.findings[metric].message for metric in GATE_METRICS)
    fallen = replace(comparison.accuracy, before=0.9, after=0.5, lost=20, gained=0, p_fall=1e-6, interval=(-0.5, -0.3))
    bad = replace(comparison, accuracy=fallen)
    assert judge(bad).failed == ("accuracy",)
    assert not reads_as_online_rl(bad)
    against = evidence_against(bad)
    assert all(p == 1 for measure, p in against.items() if measure != "accuracy")
    assert judge_comparisons([bad]).outcome == "does not hold"


def test_a_missed_claim_fails_it_and_every_report_shows_it(
    measured: tuple[Comparison, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    comparison, output = measured
    assert judge(comparison).words == "does not hold: claimed-accuracy"
    pages = ["--html", str(output / "page.html"), "--plot", str(output / "plot.png"), "-v"]
    assert main(["report", str(output), *pages]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("outcome: does not hold\nwhy:     accuracy is below the claimed 1.000 by more than ")
    assert "below the claim" in shown
    assert "nan" not in shown.lower()
    document = json.loads(to_json(comparison))
    assert document["comparison"]["effects"]["loss"]["before"] is None
