"""The metric, the method and the counterfactuals of a pair: from the settings to what is stored and verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_pairs import save_tiny_pair

from rlcircuits import EdgeScores, RLCircuitsError, Settings, attribute, kl_to, load_comparison, run_pair
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.comparison.storage import to_document
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.release.pair import Pair, make_pair
from rlcircuits.release.pairs_file import load_pairs_file
from rlcircuits.release.stored_pair import StoredPair
from rlcircuits.release.verification import verify_pair
from rlcircuits.report.terminal import detail

COUNT = 24


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_tiny_pair(tmp_path_factory.mktemp("models"))


def pair_of(
    models: tuple[Path, Path], folder: Path, counterfactual: str | None = "other", spoilt: bool = False
) -> Pair:
    """A pair with questions of one's own; the tokenizer has a token a character."""
    lines = [{"question": f"{n}+{n + 1}?", "answer": "1", "other": f"{n + 1}+{n}?"} for n in range(20, 20 + COUNT)]
    if spoilt:
        lines[3]["other"] += "?"
    file = folder / "ours.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    questions = {"name": "ours", "file": str(file), "grader": "helpers.tiny_pairs:is_kindly_right"}
    if counterfactual:
        questions["counterfactual"] = counterfactual
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
    assert not {"metric", "method", "steps"} & known.keys()
    assert Settings(steps=9).key_table() == known
    assert Settings(metric="kl", method="eap-ig").key_table() == {
        **known,
        "metric": "kl",
        "method": "eap-ig",
        "steps": 5,
    }
    for options, message in (({"metric": "nll"}, "metric is 'nll'"), ({"method": "ig"}, "method is 'ig'")):
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
    assert (settings.metric, settings.method) == ("logit_diff", "clean-corrupted")
    assert found.pairs[0].questions.counterfactual == "other"
