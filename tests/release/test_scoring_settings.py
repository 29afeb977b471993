"""The metric, the method and the counterfactuals of a pair: from the settings to what is stored and verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_pairs import save_tiny_pair

from rlcircuits import EdgeScores, RLCircuitsError, Settings, attribute, kl_to, load_comparison, logit_diff, run_pair
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.comparison.storage import to_document
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.release.pair import Pair, make_pair
from rlcircuits.release.pairs_file import PairsFile, load_pairs_file
from rlcircuits.release.plan import make_plan
from rlcircuits.release.plan_cost_table import show_cost
from rlcircuits.release.stored_pair import StoredPair
from rlcircuits.release.verification import verify_pair
from rlcircuits.report.terminal import detail

COUNT = 24


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_tiny_pair(tmp_path_factory.mktemp("models"))


def pair_of(
    models: tuple[Path, Path],
    folder: Path,
    counterfactual: str | None = "other",
    spoilt: bool = False,
    foil: str | None = None,
) -> Pair:
    """A pair with questions of one's own; the tokenizer has a token a character."""
    lines = [
        {"question": f"{n}+{n + 1}?", "answer": "1", "other": f"{n + 1}+{n}?", "wrong": "7"}
        for n in range(20, 20 + COUNT)
    ]
    if spoilt:
        lines[3]["other"] += "?"
    file = folder / "ours.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    questions = {"name": "ours", "file": str(file), "grader": "helpers.tiny_pairs:is_kindly_right"}
    if counterfactual:
        questions["counterfactual"] = counterfactual
    if foil:
        questions["foil"] = foil
    before, after = map(str, models)
    return make_pair(name="tiny", before=before, after=after, algorithm="grpo", questions=questions)


def settings_of(**options: Any) -> Settings:
    how: dict[str, Any] = {"question_count": COUNT, "min_questions": 3, "alpha": 0.5, "balance": 2.0, "noise_draws": 1}
    how |= {"noise_groups": False, "stop_early": False, "device": "cpu", "sampling": sampling()}
    return Settings(**{**how, **options})


def sampling() -> Any:
    from rlcircuits import Sampling

    return Sampling(max_new_tokens=6, n=1)


def test_patched_integrated_gradients_of_a_pair(models: tuple[Path, Path], tmp_path: Path) -> None:
    settings = settings_of(metric="logit_diff", method="eap-ig", steps=2)
    comparison = run_pair(pair_of(models, tmp_path), settings, output=tmp_path / "out")
    stored = StoredPair(tmp_path / "out" / "tiny")
    sequences = stored.sequences("after")
    scores = stored.scores["after"]
    tokenizer = Checkpoint.load(models[1], device="cpu").tokenizer
    others = []
    for sequence in sequences:
        first, second = tokenizer.decode(sequence.prompt_ids, skip_special_tokens=True).split("?")[0].split("+")
        prompt = tuple(tokenizer(f"{second}+{first}?", add_special_tokens=False)["input_ids"])
        others.append(AnswerSequence(sequence.prompt_ids[: -len(prompt)] + prompt, sequence.answer_ids))
    wanted = attribute(
        Checkpoint.load(models[1], device="cpu"),
        sequences,
        corrupted=others,
        metric="logit_diff",
        method="eap-ig",
        steps=2,
    )
    torch.testing.assert_close(scores.values, wanted.values)
    assert scores.how == wanted.how
    assert comparison.scoring == wanted.how.changed
    assert load_comparison(tmp_path / "out" / "tiny") == comparison
    assert ", metric logit_diff, method eap-ig, steps 2, points midpoint, corrupted True" in detail(comparison)
    verified = verify_pair(tmp_path / "out" / "tiny")
    assert {check.agreement for check in verified.checks} <= {"agrees", "rounding", "not checked"}, verified.checks
    assert len(stored.controls) == 1
    assert stored.controls[0].scores is None or stored.controls[0].scores.how == scores.how
    # The default scores of the same answers stand beside them in the store, and are not taken for them.
    plain = run_pair(pair_of(models, tmp_path, None), settings_of(), output=tmp_path / "out")
    assert plain.scoring is None
    assert "scoring" not in to_document(plain)["comparison"]  # type: ignore[operator]
    assert plain.effects["intensity"].before != comparison.effects["intensity"].before


def test_the_divergence_from_the_other_model_of_the_pair(models: tuple[Path, Path], tmp_path: Path) -> None:
    run_pair(pair_of(models, tmp_path, None), settings_of(metric="kl"), output=tmp_path / "out")
    stored = StoredPair(tmp_path / "out" / "tiny")
    before, after = (Checkpoint.load(path, device="cpu") for path in models)
    for side, model, other in (("before", before, after), ("after", after, before)):
        scores: EdgeScores = stored.scores[side]  # type: ignore[index]
        wanted = attribute(model, stored.sequences(side), metric=kl_to(other))  # type: ignore[arg-type]
        torch.testing.assert_close(scores.values, wanted.values)
        assert (scores.metric_values > 0).all()
    verified = verify_pair(tmp_path / "out" / "tiny")
    assert {check.agreement for check in verified.checks} <= {"agrees", "rounding", "not checked"}, verified.checks


def test_the_rules_of_a_pair(models: tuple[Path, Path], tmp_path: Path) -> None:
    comparison = run_pair(pair_of(models, tmp_path, None), settings_of(rules="gim"), output=tmp_path / "out")
    stored = StoredPair(tmp_path / "out" / "tiny")
    wanted = attribute(Checkpoint.load(models[1], device="cpu"), stored.sequences("after"), rules="gim")
    torch.testing.assert_close(stored.scores["after"].values, wanted.values)
    assert comparison.scoring == {"rules": list(wanted.how.rules), "rules_version": 2}
    assert ", rules norm_scale, gate_half, softmax_temperature, qkv_shares, rules_version 2" in detail(comparison)
    assert load_comparison(tmp_path / "out" / "tiny") == comparison
    verified = verify_pair(tmp_path / "out" / "tiny")
    assert {check.agreement for check in verified.checks} <= {"agrees", "rounding", "not checked"}, verified.checks


@pytest.mark.parametrize(
    ("options", "counterfactual", "wanted"),
    [
        ({}, None, 1),
        ({"rules": "relp"}, None, 1),
        ({}, "other", 1.5),
        ({"metric": "kl"}, None, 1.5),
        ({"method": "clean-corrupted"}, "other", 2),
        ({"method": "eap-ig"}, "other", 6),
        ({"method": "eap-ig", "steps": 3, "points": "left"}, "other", 3.5),
        ({"method": "eap-ig", "steps": 3, "points": "right"}, "other", 3.5),
    ],
)
def test_a_plan_charges_what_scoring_takes(
    options: dict[str, Any], counterfactual: str | None, wanted: float, models: tuple[Path, Path], tmp_path: Path
) -> None:
    def planned(folder: Path, counterfactual: str | None, **options: Any) -> Any:
        return make_plan(PairsFile((pair_of(models, folder, counterfactual),)), settings_of(**options))

    plain, plan = planned(tmp_path, None), planned(tmp_path, counterfactual, **options)
    assert plan.scored_tokens == wanted * plain.scored_tokens
    noted = [line for line in show_cost(plan) if line.startswith("To score an answer takes")]
    assert bool(noted) == (wanted != 1)
    assert not noted or f" {wanted:g} forwards and backwards" in noted[0]


def test_counterfactuals_of_another_length_are_refused(models: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(RLCircuitsError, match=r"question set ours: .* for 1 \(4 \(\d and \d\)\) of \d+ questions"):
        run_pair(pair_of(models, tmp_path, spoilt=True), settings_of())


def test_a_method_without_counterfactuals_is_refused_before_a_model_runs(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    lines: list[str] = []
    with pytest.raises(RLCircuitsError, match="method is 'eap-ig', which needs a counterfactual of each question"):
        run_pair(pair_of(models, tmp_path, None), settings_of(method="eap-ig"), notify=lines.append)
    assert not lines


def test_default_settings_have_the_keys_of_earlier_versions() -> None:
    known = Settings().key_table()
    assert not {"metric", "method", "steps", "points", "rules", "rules_version"} & known.keys()
    assert Settings(metric="kl", method="eap-ig").key_table() == {
        **known,
        "metric": "kl",
        "method": "eap-ig",
        "steps": 5,
    }
    path = {**known, "method": "eap-ig", "steps": 5}
    assert Settings(method="eap-ig", steps=5, points="midpoint").key_table() == path
    assert Settings(method="eap-ig", points="left").key_table() == {**path, "points": "left"}
    ruled = {**known, "rules": ["norm_scale", "activation", "gate_half", "attention"], "rules_version": 2}
    for rules in ("relp", "attention, gate_half,activation,norm_scale"):
        assert Settings(rules=rules).key_table() == ruled
    for options, message in (
        ({"metric": "nll"}, "metric is 'nll'"),
        ({"method": "ig"}, "method is 'ig'"),
        ({"method": "eap-ig", "points": "middle"}, "points"),
        ({"steps": 9}, "steps is 9, and the method is 'eap', which takes no steps on a path; leave steps out"),
        ({"method": "clean-corrupted", "steps": 9}, "steps is 9, and the method is 'clean-corrupted'"),
        ({"points": "left"}, "points is 'left', and the method is 'eap'"),
        ({"method": "eap-ig", "steps": 0}, "steps is 0"),
        ({"rules": "lrp"}, "rules holds 'lrp'"),
        ({"rules": "relp,qkv_shares"}, "rules holds attention and qkv_shares"),
    ):
        with pytest.raises(RLCircuitsError, match=message):
            Settings(**options)


def test_a_pairs_file_says_how_edges_are_scored(models: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = models
    (tmp_path / "ours.jsonl").write_text('{"question": "1+1?", "answer": "2", "other": "2+1?"}\n')
    (tmp_path / "release.toml").write_text(
        f"""
        [settings]
        metric = "logit_diff"
        method = "clean-corrupted"
        rules = "gim"
        [[questions]]
        name = "ours"
        file = "ours.jsonl"
        counterfactual = "other"
        [[pair]]
        name = "tiny"
        before = "{before}"
        after = "{after}"
        algorithm = "grpo"
        questions = "ours"
        """
    )
    found = load_pairs_file(tmp_path / "release.toml")
    settings = found.make_settings()
    assert (settings.metric, settings.method, settings.rules) == ("logit_diff", "clean-corrupted", "gim")
    assert found.pairs[0].questions.counterfactual == "other"


def test_the_foils_of_a_pairs_questions(models: tuple[Path, Path], tmp_path: Path) -> None:
    """The answer's first token is compared with the foil's, here of reference answers."""
    settings = settings_of(metric="logit_diff", score_on="gold", alpha=1.0)
    pair = pair_of(models, tmp_path, counterfactual=None, foil="wrong")
    comparison = run_pair(pair, settings, output=tmp_path / "out")
    checkpoint = Checkpoint.load(models[1], device="cpu")
    one, seven = (tuple(checkpoint.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in "17")
    questions = [f"{int(line) + 19}+{int(line) + 20}?" for line in comparison.question_ids]  # ids are line numbers
    prompts = settings.prompting.prompts(checkpoint.tokenizer, questions)
    metric = logit_diff(foil=seven[0])
    wanted = attribute(checkpoint, [AnswerSequence(prompt, one) for prompt in prompts], metric=metric)
    torch.testing.assert_close(StoredPair(tmp_path / "out" / "tiny").scores["after"].values, wanted.values)
    with pytest.raises(RLCircuitsError, match="names foils, and metric is 'cross_entropy', which takes none"):
        run_pair(pair, settings_of(), output=tmp_path / "other")
