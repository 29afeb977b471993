"""Circuits in a gate: measured in a run of real tiny models, asked for per file and per pair, planned and verified."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.pairs_file_text import PAIRS
from helpers.planned_pairs import planned
from helpers.synthetic_comparisons import scores_of
from helpers.tiny_pairs import save_tiny_pair

from rlcircuits import EdgeScores, attribute, judge
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.choices import RELP
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.storage import load_comparison
from rlcircuits.graph.how_scored import HowScored
from rlcircuits.release import circuit_scores
from rlcircuits.release.circuit_rules import CircuitRules
from rlcircuits.release.pair import Pair, make_pair
from rlcircuits.release.pair_circuits import measure_pair_circuits
from rlcircuits.release.pairs_file import PairsFile, load_pairs
from rlcircuits.release.plan import make_plan
from rlcircuits.release.plan_work import pair_work
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings
from rlcircuits.release.split_questions import FIND, JUDGE, first_rows, scores_to_find_on
from rlcircuits.release.verification import verify_pair

pytestmark = pytest.mark.usefixtures("kind_grader")

SETTINGS = Settings(
    question_count=40,
    min_questions=5,
    alpha=0.5,
    balance=2.0,  # random answers differ in length
    noise_draws=2,
    noise_groups=False,
    sampling=Sampling(max_new_tokens=6, n=2),
    stop_early=False,
    device="cpu",
)
ASKED = {"minimum_overlap": 0.1, "minimum_faithfulness": 0.01, "size": 0.6}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    base, tuned = save_tiny_pair(tmp_path_factory.mktemp("models"))
    return {"before": str(base), "after": str(tuned)}


def pair_of(models: dict[str, str], **fields: Any) -> Pair:
    return make_pair(**{"name": "mine", "algorithm": "dpo", **models, **fields})


@pytest.fixture(scope="module")
def measured(models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path, list[str]]:
    output, log = tmp_path_factory.mktemp("output"), list[str]()
    return run_pair(pair_of(models, circuits=ASKED), SETTINGS, output=output, notify=log.append), output, log


def test_the_numbers_are_those_of_the_circuits_command(measured: tuple[Comparison, Path, list[str]]) -> None:
    comparison, output, _ = measured
    found = comparison.circuits
    assert found is not None
    wanted = measure_pair_circuits(output / "mine", random_draws=0, resamples=1000)
    (overlap,) = (one for one in wanted.comparison.overlaps if one.size == 0.5)
    assert overlap.n_edges < found.n_edges
    assert len(found.noise) == len(overlap.noise) == 2
    assert found.judged == wanted.judged > 0
    place = wanted.sides["after"].by_size.own.sizes.index(0.6)
    assert found.faithfulness == pytest.approx(wanted.sides["after"].by_size.other.faithfulness[place], abs=1e-6)
    assert found.own_faithfulness == pytest.approx(wanted.sides["after"].by_size.own.faithfulness[place], abs=1e-6)
    assert found.estimates["before"] == (wanted.sides["before"].estimates.top,)  # no edge is left for random ones
    low, high = found.faithfulness_interval
    assert low <= found.faithfulness <= high


def test_resample_finds_circuits_by_scores_of_the_same_replacement(
    models: dict[str, str], measured: tuple[Comparison, Path, list[str]]
) -> None:
    _, output, _ = measured
    log: list[str] = []
    pair = pair_of(models, name="resampled", circuits={**ASKED, "ablation": "resample"})
    found = run_pair(pair, SETTINGS, output=output, notify=log.append).circuits
    assert found is not None
    assert "resampled: before: attributed on " in "\n".join(log)
    wanted = measure_pair_circuits(output / "resampled", "resample", random_draws=0, resamples=2)
    curves = wanted.sides["after"].by_size
    place = curves.own.sizes.index(0.6)
    assert found.faithfulness == pytest.approx(curves.other.faithfulness[place], abs=1e-6)
    assert found.own_faithfulness == pytest.approx(curves.own.faithfulness[place], abs=1e-6)
    assert 0 < found.judged <= measured[0].circuits.judged  # type: ignore[union-attr]


def test_resample_finds_circuits_as_the_settings_say(
    models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scores with others in their place are made by the run's metric, method and rules, in a gate and later."""
    made: list[HowScored] = []

    def kept(*arguments: Any, **options: Any) -> EdgeScores:
        scores = attribute(*arguments, **options)
        made.append(scores.how)
        return scores

    monkeypatch.setattr(circuit_scores, "attribute", kept)
    settings = replace(SETTINGS, metric="logprob", rules="relp", noise_draws=0)
    found = run_pair(pair_of(models, circuits={"ablation": "resample"}), settings, output=tmp_path).circuits
    assert found is not None
    wanted = HowScored(metric="logprob", rules=RELP, rules_version=made[0].rules_version, corrupted=True)
    assert made == [wanted, wanted]
    made.clear()
    measure_pair_circuits(tmp_path / "mine", "resample", random_draws=0, resamples=2)
    assert made == [wanted, wanted]


def test_foils_that_no_file_holds_are_not_guessed(models: dict[str, str], tmp_path: Path) -> None:
    run_pair(pair_of(models), replace(SETTINGS, metric="logit_diff", noise_draws=0), output=tmp_path)
    with pytest.raises(RLCircuitsError, match="by the metric logit_diff, which may compare answers with foils"):
        measure_pair_circuits(tmp_path / "mine", "resample", random_draws=0, resamples=2)


def test_it_is_judged_stored_and_found_again(
    models: dict[str, str], measured: tuple[Comparison, Path, list[str]]
) -> None:
    comparison, output, log = measured
    findings = judge(comparison).all_findings
    assert {"circuit-overlap", "circuit-faithfulness"} < findings.keys()
    assert tuple(findings) == pair_of(models, circuits=ASKED).measures
    assert load_comparison(output / "mine") == comparison
    assert "mine: after: circuits are run on" in "\n".join(log)
    again: list[str] = []
    run_pair(pair_of(models, circuits=ASKED), SETTINGS, output=output, notify=again.append)
    assert again == ["mine: measured before, and nothing has changed since"]


def test_without_the_table_nothing_is_measured_and_no_model_is_loaded_again(
    models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    load = Checkpoint.load.__func__  # type: ignore[attr-defined]

    def noted(cls: type[Checkpoint], source: Any, **options: Any) -> Checkpoint:
        loaded.append(str(source))
        return load(cls, source, **options)  # type: ignore[no-any-return]

    monkeypatch.setattr("rlcircuits.checkpoints.reused.LARGEST", 0)  # as with large models, which are loaded each time
    monkeypatch.setattr(Checkpoint, "load", classmethod(noted))
    quick = replace(SETTINGS, noise_draws=0)
    assert run_pair(pair_of(models), quick).circuits is None
    assert loaded == [models[side] for side in ("before", "after", "before")]
    loaded.clear()
    found = run_pair(pair_of(models, circuits=True), quick).circuits
    assert loaded == [models[side] for side in ("before", "after", "before", "before", "after")]
    assert found is not None
    assert (found.assertions, found.noise) == ((), ())


def test_a_pair_with_too_few_questions_is_inconclusive(models: dict[str, str]) -> None:
    found = run_pair(pair_of(models, circuits=ASKED), replace(SETTINGS, min_questions=41))
    assert not found.is_measured
    findings = judge(found).all_findings
    for measure in ("circuit-overlap", "circuit-faithfulness"):
        assert (findings[measure].outcome, findings[measure].words) == ("inconclusive", "not measured")


def test_an_overlap_beside_noise_needs_noise(models: dict[str, str]) -> None:
    quiet = replace(SETTINGS, noise_draws=0)
    pair = pair_of(models, circuits=ASKED)
    with pytest.raises(RLCircuitsError, match=r"minimum_overlap is a share .* and noise_draws is 0; measure noise"):
        run_pair(pair, quiet)
    (problem,) = make_plan(PairsFile((pair,)), quiet).problems
    assert "minimum_overlap is a share" in problem
    assert not make_plan(PairsFile((pair_of(models, circuits={"minimum_faithfulness": 0.5}),)), quiet).problems


def test_a_plan_counts_what_circuits_cost() -> None:
    def scored(**fields: Any) -> list[int]:
        works = pair_work(planned(asked=40, settings={"noise_draws": 1}, **fields), [10] * 40, ())
        return [work.scored for work in works if work.part == "circuits"]

    assert scored() == []
    # Twenty of the forty questions are judged, each without 100 single edges; after runs five circuits too.
    assert scored(circuits=True) == [2000, 2000 + 5 * 20]
    assert scored(circuits={"ablation": "resample"}) == [2000 + 30, 2000 + 30 + 5 * 20]


def test_a_plan_knows_that_the_pair_is_measured(
    models: dict[str, str], measured: tuple[Comparison, Path, list[str]]
) -> None:
    def is_measured(**fields: Any) -> bool:
        return make_plan(PairsFile((pair_of(models, **fields),)), SETTINGS, measured[1]).pairs[0].measured

    assert is_measured(circuits=ASKED)
    assert not is_measured()
    assert not is_measured(circuits={**ASKED, "size": 0.5})


def test_verify_says_what_it_cannot_recompute(measured: tuple[Comparison, Path, list[str]]) -> None:
    found = verify_pair(measured[1] / "mine")
    (check,) = (check for check in found.checks if check.part == "circuits")
    assert (check.agreement, "only its checkpoints show it" in check.words) == ("not checked", True)
    assert found.agrees
    assert found.depends_on_unchecked


def test_questions_are_split_and_weigh_the_same() -> None:
    places = (0, 0, 0, 1, 2, 2, 3)
    assert first_rows(places, FIND) == [0, 4]
    assert first_rows(places, JUDGE) == [3, 6]
    generator = np.random.default_rng(0)
    scores: EdgeScores = scores_of(generator.normal(size=(7, 5)))
    found = scores_to_find_on(scores, places)
    assert found.values[0].allclose(scores.values[:3].mean(0))
    assert found.values[1].allclose(scores.values[4:6].mean(0))


def write(folder: Path, text: str) -> Path:
    (folder / "base").mkdir(exist_ok=True)
    file = folder / "pairs.toml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("head", "tail", "wanted"),
    [
        ("", "", (None, None)),
        ("[circuits]\n", "", (CircuitRules(), CircuitRules())),
        ("[circuits]\nsize = 0.2\n", "circuits = false", (CircuitRules(size=0.2), None)),
        ("[circuits]\nsize = 0.2\n", "circuits = true", (CircuitRules(size=0.2), CircuitRules(size=0.2))),
        (
            "[circuits]\nsize = 0.2\nminimum_faithfulness = 0.5\n",
            "[pair.circuits]\nminimum_faithfulness = 0.7",
            (
                CircuitRules(size=0.2, minimum_faithfulness=0.5),
                CircuitRules(size=0.2, minimum_faithfulness=0.7),
            ),
        ),
        ("", "circuits = true", (None, CircuitRules())),
        ("", "[pair.circuits]\nablation = 'zero'", (None, CircuitRules(ablation="zero"))),
    ],
)
def test_a_file_says_it_of_all_pairs_and_a_pair_of_itself(
    head: str, tail: str, wanted: tuple[CircuitRules | None, ...], tmp_path: Path
) -> None:
    assert tuple(pair.circuits for pair in load_pairs(write(tmp_path, head + PAIRS + tail))) == wanted


@pytest.mark.parametrize(
    ("head", "tail", "message"),
    [
        ("circuits = 3\n", "", r"pairs\.toml: key 'circuits' must be one \[circuits\] table"),
        ("[[circuits]]\n", "", "key 'circuits' must be one"),
        ("[circuits]\nsizes = 0.2\n", "", r"\[circuits\], key 'sizes': unknown; known keys are minimum_overlap, "),
        ("[circuits]\nsize = 2\n", "", r"\[circuits\], key 'size': must be at most 0\.99, not 2"),
        ("[circuits]\nsize = nan\n", "", r"\[circuits\], key 'size': "),
        ("[circuits]\nsize = true\n", "", r"\[circuits\], key 'size': must be a number, not True"),
        ("[circuits]\nminimum_overlap = 0\n", "", r"key 'minimum_overlap': .*greater than 0"),
        ("[circuits]\nminimum_faithfulness = 1.5\n", "", r"key 'minimum_faithfulness': must be at most 1"),
        ("[circuits]\nminimum_faithfulness = '1'\n", "", r"key 'minimum_faithfulness': must be a number, not '1'"),
        ("[circuits]\nablation = 'noise'\n", "", r"key 'ablation': must be one of 'zero', 'mean', "),
        ("", "circuits = 3", r"pair 2, key 'circuits': must be a table, not 3"),
        ("", "[pair.circuits]\nsize = -1", r"pair 2, key 'circuits\.size': .*greater than 0"),
        ("", "[pair.circuits]\ncolour = 1", r"pair 2, key 'circuits\.colour': unknown"),
        (
            "[circuits]\n",
            "[pair.does_not_hold]\ncircuit-overlap = 'x'",
            "does_not_hold names circuit-overlap, of which the table circuits asserts nothing",
        ),
    ],
)
def test_a_bad_value_is_one_error_that_names_the_key(head: str, tail: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RLCircuitsError, match=message) as raised:
        load_pairs(write(tmp_path, head + PAIRS + tail))
    assert "\n" not in str(raised.value)


def test_what_is_known_not_to_hold_may_be_declared(tmp_path: Path) -> None:
    text = "[circuits]\nminimum_overlap = 1.0\n" + PAIRS + "[pair.does_not_hold]\ncircuit-overlap = 'training moved it'"
    _, pair = load_pairs(write(tmp_path, text))
    assert pair.does_not_hold == {"circuit-overlap": "training moved it"}
    assert "circuit-overlap" in pair.asserted


def test_nothing_that_was_found_is_infinite(measured: tuple[Comparison, Path, list[str]]) -> None:
    found = measured[0].circuits
    assert found is not None
    assert all(map(math.isfinite, (found.overlap, found.faithfulness, found.own_faithfulness, *found.noise)))
