"""Several answers to each question, on a shipped pair: from the command line, pytest and Python."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.interrupt_run import CutOffError, cut_off
from helpers.paths import SEED_7

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.types import Sampling
from rlcircuits.cli.main import main
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.pairing import pair as pair_answers
from rlcircuits.comparison.storage import load_comparison, to_json
from rlcircuits.graph import metrics
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.release.pair import Pair, make_pair
from rlcircuits.release.pairs_file import load_pairs_file
from rlcircuits.release.plan import make_plan
from rlcircuits.release.run import run_pair, run_variants
from rlcircuits.release.settings import Settings

pytestmark = pytest.mark.slow

SHIPPED = SEED_7
BEFORE, AFTER = str(SHIPPED / "sft"), str(SHIPPED / "grpo")
PAIR = make_pair(name="release", before=BEFORE, after=AFTER, algorithm="grpo")
SETTINGS = Settings(k=20, question_count=40, noise_draws=1, sampling=Sampling(max_new_tokens=32, n=2), device="cpu")
OPTIONS = ("k", "20", "question-count", "40", "noise-draws", "1", "n", "2", "device", "cpu")
CHOICES = list(zip(OPTIONS[::2], OPTIONS[1::2], strict=True))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path, list[str]]:
    """Return the comparison, the output folder of its run, which tests must not write to, and the log."""
    told: list[str] = []
    output = tmp_path_factory.mktemp("output")
    return run_pair(PAIR, SETTINGS, output=output, notify=told.append), output, told


def test_from_init_to_the_verdict_and_the_same_by_every_way(
    measured: tuple[Comparison, Path, list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    pytester: pytest.Pytester,
) -> None:
    wanted = json.loads(to_json(measured[0]))
    file, output = tmp_path / "release.toml", tmp_path / "out"
    assert main(["init", str(file), "--before", BEFORE, "--after", AFTER, "--questions", "arithmetic"]) == 0
    written = file.read_text(encoding="utf-8")
    for old, new in (
        ("# k = 200", "k = 20"), ("# noise_draws = 3", "noise_draws = 1"), ("# n = 8 ", "n = 2 "),
        ("# question_count = 400", "question_count = 40"), ("# max_new_tokens = 512", "max_new_tokens = 32"),
        ('# device = "cuda"', 'device = "cpu"'),
    ):  # fmt: skip
        assert written.count(old) == 1
        written = written.replace(old, new)
    file.write_text(written, encoding="utf-8")

    capsys.readouterr()
    assert main(["plan", str(file)]) == 0
    # 40 questions twice by before, after and one noise draw, of at most 32 tokens.
    assert " 40 × 2 " in (planned := capsys.readouterr().out)
    assert f"To do: {3 * 80 * 32:,} answer tokens at most" in planned

    assert main(["compare", "--pairs", str(file), "--output", str(output), "--json"]) in (0, 1, 3)
    found = json.loads(capsys.readouterr().out)
    assert found.pop("release")["outcome"] == wanted["verdict"]["outcome"]
    assert found == wanted
    assert main(["report", str(output)]) == 0
    shown = capsys.readouterr().out
    assert "grpo, K = 20, n = 2" in shown
    assert "answers by transformers, 2 to every question" in shown

    by_options = [part for name, value in CHOICES for part in (f"--{name}", value)]
    single = ["compare", "--before", BEFORE, "--after", AFTER, "--algorithm", "grpo", "--name", "release"]
    assert main([*single, *by_options, "--json"]) in (0, 1, 3)
    assert json.loads(capsys.readouterr().out)["comparison"] == wanted["comparison"]

    pairs = load_pairs_file(file)
    assert json.loads(to_json(run_pair(pairs.pairs[0], pairs.make_settings()))) == wanted

    pytester.makepyfile("def test_effect(effect):\n    assert effect.holds, effect.message")
    plugin = () if metadata.entry_points(group="pytest11", name="rlcircuits") else ("-p", "rlcircuits.pytest_plugin")
    typed = [part for name, value in CHOICES for part in (f"--rlcircuits-{name}", value)]
    by_pytest = ("--before", BEFORE, "--after", AFTER, "--algorithm", "grpo", "--rlcircuits-output", "kept", *typed)
    pytester.runpytest_inprocess("-p", "no:cacheprovider", *plugin, *by_pytest)
    (found,) = (pytester.path / "kept").glob("*/comparison.json")
    assert json.loads(found.read_text())["comparison"] == wanted["comparison"] | {"name": found.parent.name}


def test_the_numbers_are_means_over_the_answers_kept(measured: tuple[Comparison, Path, list[str]]) -> None:
    comparison, output, told = measured
    answers = [Answers.load(output / "release" / f"{side}.answers.jsonl") for side in ("before", "after")]
    assert [len(each) for each in answers] == [80, 80]
    paired = pair_answers(*answers, k=20)
    assert len(set(paired.places)) == comparison.k == 20
    assert len(paired.places) > 20
    assert "release: before answers 40 questions of arithmetic, 2 times each" in told
    assert f"release: after is attributed on {len(paired.places)} answers" in told
    for side in ("before", "after"):
        rows = metrics.activation_intensity(EdgeScores.load(output / "release" / f"{side}.scores.safetensors"))
        values = getattr(comparison.effects["intensity"], f"{side}_values")
        assert values == pytest.approx([rows[np.array(paired.places) == place].mean() for place in range(20)])
    assert comparison.accuracy.asked == 40
    assert (comparison.accuracy.before, comparison.accuracy.after) == pytest.approx([a.accuracy for a in answers])
    assert comparison.controls[0].k <= 20


@pytest.mark.parametrize("where", ["after answers", "noise 0 is attributed", "before is attributed"])
def test_a_run_that_was_cut_off_ends_as_an_uninterrupted_one(
    measured: tuple[Comparison, Path, list[str]], tmp_path: Path, where: str
) -> None:
    with pytest.raises(CutOffError):
        run_pair(PAIR, SETTINGS, output=tmp_path, notify=cut_off(where))
    assert to_json(run_pair(PAIR, SETTINGS, output=tmp_path)) == to_json(measured[0])
    for name in ("before.answers.jsonl", "after.scores.safetensors", "comparison.json"):
        assert (tmp_path / "release" / name).read_bytes() == (measured[1] / "release" / name).read_bytes()


def recorded(folder: Path, answers: dict[str, Answers]) -> Pair:
    """Return the pair with these answers recorded in files, all samples of a question on one line."""
    files = {}
    for side, found in answers.items():
        samples: dict[str, list[Any]] = {}
        for item in found.items:
            samples.setdefault(item.question_id, []).append(item)
        lines = [
            {"id": name, "prompt_token_ids": each[0].prompt_ids, "outputs": [item.answer_ids for item in each]}
            for name, each in samples.items()
        ]
        files[f"recorded_{side}"] = folder / f"{side}.jsonl"
        files[f"recorded_{side}"].write_text("".join(json.dumps(line) + "\n" for line in lines))
    return PAIR.model_copy(update=files)


def test_recorded_answers_give_the_same_comparison(
    measured: tuple[Comparison, Path, list[str]], tmp_path: Path
) -> None:
    wanted, output, _ = measured
    answers = {side: Answers.load(output / "release" / f"{side}.answers.jsonl") for side in ("before", "after")}
    found = run_pair(recorded(tmp_path, answers), SETTINGS)
    assert to_json(replace(found, engine=wanted.engine, prompting=wanted.prompting)) == to_json(wanted)

    # The first of each line alone, and the same twice over: the same effects, up to how batches fall.
    first = {
        side: replace(each, items=tuple(item for item in each.items if item.sample == 0))
        for side, each in answers.items()
    }
    again = {
        side: replace(each, items=tuple(replace(item, sample=j) for item in each.items for j in range(2)))
        for side, each in first.items()
    }
    bare = replace(SETTINGS, noise_draws=0)
    once = run_pair(recorded(tmp_path, answers), replace(bare, sampling=replace(SETTINGS.sampling, n=1)))
    twice = run_pair(recorded(tmp_path, again), bare)
    assert once.n == 1
    assert twice.accuracy == once.accuracy
    for metric, effect in once.effects.items():
        assert twice.effects[metric].before_values == pytest.approx(effect.before_values, rel=1e-3)
        assert twice.effects[metric].p_up == pytest.approx(effect.p_up, rel=0.05)


def test_every_variant_takes_several_answers(measured: tuple[Comparison, Path, list[str]]) -> None:
    wanted, output, _ = measured
    variants = run_variants(PAIR, SETTINGS, output=output)
    assert to_json(variants[0]) == to_json(wanted)
    assert len({one.question_ids for one in variants}) == 1
    own, on_before, on_after, on_gold = (one.effects["intensity"] for one in variants)
    assert on_before.before_values == own.before_values
    assert on_after.after_values == own.after_values
    assert on_before.after_values != own.after_values
    own_rows, gold_rows = (
        len(EdgeScores.load(output / name / "after.scores.safetensors")) for name in ("release", "release-on-gold")
    )
    assert gold_rows == 20 < own_rows
    assert on_gold.questions == 20


def test_a_plan_knows_what_is_there(measured: tuple[Comparison, Path, list[str]], tmp_path: Path) -> None:
    output = measured[1]
    (tmp_path / "pairs.toml").write_text(
        f'[[pair]]\nname = "release"\nbefore = "{BEFORE}"\nafter = "{AFTER}"\nalgorithm = "grpo"\n'
    )
    file = load_pairs_file(tmp_path / "pairs.toml")
    plan = make_plan(file, SETTINGS, output)
    assert [(each.answers, each.stored, each.tokens_left) for each in plan.pairs[0].answering] == [(80, 80, 0)] * 3
    assert plan.pairs[0].measured
    assert plan.answer_tokens == 0
    once = make_plan(file, replace(SETTINGS, sampling=replace(SETTINGS.sampling, n=1)), output)
    assert [each.stored for each in once.pairs[0].answering] == [0, 0, 0]
    assert not once.pairs[0].measured
    fresh, gold = (make_plan(file, replace(SETTINGS, score_on=score_on)).pairs[0] for score_on in ("own", "gold"))
    assert fresh.scored_tokens == 2 * (once.pairs[0].scored_tokens or 0) == 2 * (gold.scored_tokens or 0)
    assert fresh.answering[0].prompt_tokens == 2 * (once.pairs[0].answering[0].prompt_tokens or 0)
    assert fresh.answering[0].answer_tokens == 2 * once.pairs[0].answering[0].answer_tokens
    assert load_comparison(output / "release").n == 2


@pytest.mark.parametrize("command", ["compare", "answer"])
def test_help_says_how_to_ask_for_several(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "--n N" in capsys.readouterr().out


def test_several_answers_by_the_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers, scores = str(tmp_path / "answers.jsonl"), str(tmp_path / "scores.safetensors")
    assert main(["answer", BEFORE, "--count", "6", "--n", "3", "--out", answers]) == 0
    assert "18 answers, accuracy" in capsys.readouterr().out
    assert main(["attribute", BEFORE, "--answers", answers, "--wrong-too", "--out", scores]) == 0
    assert len(EdgeScores.load(scores)) == 18
    assert main(["answer", BEFORE, "--n", "2", "--temperature", "0", "--out", answers]) == 2
    assert "sampling n is 2 at temperature 0" in capsys.readouterr().err
