"""A calibration of real tiny models, from the command line: what it runs, goes on with, and writes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.synthetic_comparisons import made_up_comparison

from rlcircuits.answers.types import Sampling
from rlcircuits.attribution.edge_attribution import attribute
from rlcircuits.calibration.execute import execute, judged_draws
from rlcircuits.calibration.null_pair import null_scores
from rlcircuits.calibration.run_record import Run, read_runs
from rlcircuits.calibration.tasks import Task, nulls, repeated, sabotage
from rlcircuits.checkpoints.damage.source import DamagedSource
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.cli.main import main
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.release.loaded_once import LoadedOnce
from rlcircuits.release.measurement import prepare
from rlcircuits.release.pair import Pair, make_pair
from rlcircuits.release.pairs_file import load_pairs
from rlcircuits.release.settings import Settings

ZOO = Path(__file__).parents[2] / "fixtures" / "zoo.toml"
SETTINGS = Settings(
    question_count=20, alpha=0.5, balance=2.0, min_questions=5, noise_draws=2, noise_groups=False,
    sampling=Sampling(n=2), batch_size=200, device="cpu",
)  # fmt: skip


def zoo_pair(name: str) -> Pair:
    return next(pair for pair in load_pairs(ZOO) if pair.name == name)


GRPO = zoo_pair("llama-sums-seed-7-grpo")


def pairs_file(folder: Path, n: int) -> Path:
    """Write a pairs file of one shipped pair with so many answers to each question."""
    file = folder / "pairs.toml"
    file.write_text(
        f"[settings]\nquestion_count = 40\nnoise_draws = 0\nbatch_size = 200\n[settings.sampling]\nn = {n}\n"
        f'[[pair]]\nname = "one"\nbefore = "{GRPO.before}"\nafter = "{GRPO.after}"\nalgorithm = "grpo"\n'
    )
    return file


def test_a_run_does_not_depend_on_where_the_checkpoints_lie(tmp_path: Path) -> None:
    (here,) = repeated([GRPO], SETTINGS, 1)
    folders = {"before": tmp_path / "one", "after": tmp_path / "two"}
    for side, folder in folders.items():
        folder.symlink_to(Path(getattr(GRPO, side)))
    elsewhere = GRPO.model_copy(update={side: str(folder) for side, folder in folders.items()})
    (there,) = repeated([elsewhere], SETTINGS, 1)
    assert there.key == here.key
    swapped = GRPO.model_copy(update={"before": GRPO.after, "after": GRPO.before})
    keys = {task.key for task in repeated([GRPO, swapped], SETTINGS, 3)}
    assert len(keys) == 6
    assert here.key not in {task.key for task in repeated([GRPO], replace(SETTINGS, alpha=0.4), 3)}


def test_the_sabotage_of_one_base_claims_the_undamaged_accuracy() -> None:
    pairs = [zoo_pair(f"llama-sums-seed-7-{name}") for name in ("grpo", "ppo", "sft-more", "rft")]
    tasks = list(sabotage([*pairs, zoo_pair("llama-sums-seed-8-grpo")], SETTINGS, 2, only=["*-seed-7-*"]))
    assert {task.pair.before for task in tasks} == {GRPO.before}
    assert {task.settings.sampling.seed for task in tasks} == {1000, 1001}
    for task in tasks:
        assert (task.pair.reference == GRPO.after) == (task.tag in ("damaged", "harmless", "along-update"))
    kinds = {task.kind for task in tasks}
    assert {"update of another seed", "supervised, sharpened or extrapolated", "noise"} <= kinds
    assert len({task.key for task in tasks}) == len(tasks)


def test_all_checkpoints_of_the_sabotage_are_loaded_alike() -> None:
    pairs = [zoo_pair(f"llama-sums-seed-7-{name}") for name in ("grpo", "sft-more")]
    trusting = replace(SETTINGS, trust_remote_code=True)
    roots = [
        source.root if isinstance(source, DamagedSource) else source
        for task in sabotage(pairs, trusting, 1)
        for source in task.sources
    ]
    assert any(root.name.endswith("sft-more") for root in roots)
    assert all(root.trust_remote_code for root in roots if isinstance(root, CheckpointSource))


def test_the_sabotage_of_a_revision_is_refused() -> None:
    revised = GRPO.model_copy(update={"revision_after": "main"})
    with pytest.raises(RLCircuitsError, match="'llama-sums-seed-7-grpo' names a revision, and the sabotage suite"):
        list(sabotage([revised], SETTINGS, 1))


def test_nulls_are_each_checkpoint_with_two_seeds() -> None:
    tasks = list(nulls([GRPO, zoo_pair("llama-sums-seed-7-ppo")], SETTINGS, seeds=3, each=2))
    assert len(tasks) == 3 * 2
    for task in tasks:
        assert task.pair.before == task.pair.after
        assert task.other_seed != task.settings.sampling.seed


def test_nulls_are_asked_no_more_answers_than_they_need() -> None:
    for asked, used in ((8, 4), (2, 2)):
        settings = replace(SETTINGS, sampling=Sampling(n=asked))
        assert {task.settings.sampling.n for task in nulls([GRPO], settings, 3, 3)} == {used}


def test_nulls_of_one_repository_are_each_of_its_revisions() -> None:
    pair = GRPO.model_copy(
        update={"before": "org/model", "after": "org/model", "revision_before": "sft", "revision_after": "rl"}
    )
    found = [(task.pair.revision_before, task.pair.revision_after) for task in nulls([pair], SETTINGS, 2, 1)]
    assert found == [("sft", "sft"), ("rl", "rl")]


def test_a_run_depends_on_what_is_in_the_files_that_the_pair_names(tmp_path: Path) -> None:
    profile, questions = tmp_path / "ours.toml", tmp_path / "asked.jsonl"
    profile.write_text('name = "ours"\n[accuracy]\nrule = "rose"\nminimum = 0.01\nlevel = 0.01\n')
    questions.write_text('{"question": "1+1?", "answer": "#### 2"}\n')
    pair = make_pair(
        name="one", before=GRPO.before, after=GRPO.after, control=GRPO.before, profile=str(profile),
        questions=str(questions), recorded_before=questions,
    )  # fmt: skip

    def key() -> str:
        return next(repeated([pair], SETTINGS, 1)).key

    first = key()
    assert key() == first
    profile.write_text(profile.read_text().replace("minimum = 0.01", "minimum = 0.02"))
    second = key()
    questions.write_text('{"question": "1+2?", "answer": "#### 3"}\n')
    assert len({first, second, key()}) == 3


def test_the_scores_of_a_null_are_of_its_own_granularity() -> None:
    (checkpoint, _), sequences = GRPO.sources("cpu"), [AnswerSequence((5, 6, 7), (8, 9))]
    with LoadedOnce(checkpoint) as loaded:
        for granularity in ("sublayer", "head", "sublayer"):
            measurement = prepare(GRPO, replace(SETTINGS, granularity=granularity), None, None, lambda _: None, False)
            found = null_scores(loaded, measurement, sequences)
            assert found.graph.granularity == granularity
            assert torch.equal(found.values, attribute(loaded.load(), sequences, granularity).values)


@pytest.mark.parametrize("scoring", [{"metric": "logprob"}, {"metric": "logit_diff"}, {"rules": "relp"}])
def test_the_scores_of_a_null_are_made_as_the_settings_say(scoring: dict[str, str]) -> None:
    (checkpoint, _), sequences = GRPO.sources("cpu"), [AnswerSequence((7, 6, 5), (8, 9)), AnswerSequence((7, 6), (8,))]
    with LoadedOnce(checkpoint) as loaded:
        for options in ({}, scoring):
            measurement = prepare(GRPO, replace(SETTINGS, **options), None, None, lambda _: None, False)
            found = null_scores(loaded, measurement, sequences)
            wanted = attribute(loaded.load(), sequences, **options)
            assert found.how == wanted.how
            for name in ("values", "loss", "metric_values"):
                assert torch.equal(getattr(found, name), getattr(wanted, name)), name


def test_the_fields_of_a_pair_that_a_run_depends_on() -> None:
    """A field that is added to pairs changes the keys of all stored runs, unless it is left out of the table."""
    (run,) = repeated([GRPO.model_copy(update={"server_after": "http://host:8000/v1"})], SETTINGS, 1)
    assert set(run._pair_table()) == {
        "accuracy", "algorithm", "circuits", "claimed_accuracy", "device_map", "dtype", "margin", "name", "profile",
        "prompting", "questions", "recorded_after", "recorded_before", "revision_after", "revision_before",
    }  # fmt: skip


def test_no_server_has_a_damaged_checkpoint() -> None:
    with pytest.raises(RLCircuitsError, match="no server has the damaged checkpoints of the sabotage suite"):
        list(sabotage([GRPO], replace(SETTINGS, engine="openai"), 1))


def test_no_null_is_measured_by_the_divergence_from_itself() -> None:
    with pytest.raises(RLCircuitsError, match="a null compares a checkpoint with itself"):
        list(nulls([GRPO], replace(SETTINGS, metric="kl"), 2, 1))


def test_noise_counts_as_a_null_only_where_it_could_raise_a_false_alarm() -> None:
    for factors, judged in (((), 0), ((1.0,), 0), ((1.0, 1.01), 2), ((1.0, 1.01, 0), 0)):
        assert len(judged_draws(made_up_comparison(controls=factors))) == judged


@pytest.mark.slow
def test_runs_of_a_shipped_pair(tmp_path: Path) -> None:
    """A repetition is judged on all and on samples, a null shows nothing, and sabotage stops at accuracy."""
    (repetition,) = repeated([GRPO], replace(SETTINGS, question_count=80), 1)
    run = execute(repetition, tmp_path)
    assert run.compared > 50
    assert set(run.by_k) == {50}
    assert run.noise_draws == 2
    (null, *_) = nulls([GRPO], replace(SETTINGS, question_count=80), 2, 1)
    found = execute(null, tmp_path)
    assert found.outcome != "holds"
    assert not found.pattern
    broken = next(task for task in sabotage([GRPO], SETTINGS, 1) if task.name == "attn.0.h0-zeroed")
    found = execute(broken, tmp_path)
    assert (found.outcome, found.compared, found.findings) == ("does not hold", 0, {"accuracy": "does not hold"})


@pytest.mark.slow
def test_the_command_goes_on_and_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, page = pairs_file(tmp_path, 1), tmp_path / "calibration.md"
    output = tmp_path / "runs"
    command = ["calibrate", str(file), "--output", str(output), "--parts", "repeatability", "--page", str(page)]
    assert main([*command, "--seeds", "1"]) == 0
    assert "## Repeatability" in page.read_text()
    assert "## Sabotage" not in page.read_text()
    (first,) = read_runs(output / "runs.jsonl").values()
    capsys.readouterr()
    assert main([*command, "--seeds", "2"]) == 0
    assert capsys.readouterr().err.count("repeatability: one") == 1
    assert set(read_runs(output / "runs.jsonl")) > {first.key}


@pytest.mark.parametrize(
    ("n", "given", "counts"),
    [(8, "", {1, 2, 4}), (2, "", {1, 4}), (4, "--answers=8", {8}), (4, "--answers=4,2,2", {2})],
)
def test_other_numbers_of_answers_than_the_files(
    n: int, given: str, counts: set[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Task] = []

    def note(tasks: list[Task], *_: object, **__: object) -> list[Run]:
        asked.extend(tasks)
        return []

    monkeypatch.setattr("rlcircuits.calibration.runner.make_runs", note)
    file = pairs_file(tmp_path, n)
    parts = ["--parts", "repeatability,answers", *given.split()]
    assert main(["calibrate", str(file), "--output", str(tmp_path / "out"), *parts]) == 0
    assert {task.settings.sampling.n for task in asked if task.part == "answers"} == counts
    repetitions = [task for task in asked if task.part == "repeatability"]
    assert {task.settings.sampling.n for task in repetitions} == {n}
    seeds = [
        {task.settings.sampling.seed for task in asked if task.part == part} for part in ("answers", "repeatability")
    ]
    assert all(seeds)
    assert seeds[0].isdisjoint(seeds[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--parts", "power"], "--parts names 'power'; it must be of repeatability, nulls"),
        (["--only", "*-none"], r"--only \*-none matches no pair"),
        (["--seeds", "1"], "--seeds is 1; a null takes two sampling seeds"),
        (["--parts", "noise-answers"], "noise-answers without repeatability.*; name both"),
        (["--page", "."], "--page: . is a folder"),
        (["--seeds", "0"], "--seeds is 0; at least 1"),
        (["--answers", "8"], "--answers names only 8, the number that .*zoo.toml asks for anyway"),
        (["--answers", "two"], "--answers is 'two'; numbers from 1 up are wanted"),
        (["--answers", "0,2"], "--answers is '0,2'; numbers from 1 up are wanted"),
        (["--sabotage-only", "*-none", "--parts", "sabotage"], r"--sabotage-only \*-none matches no pair of .*zoo"),
        (
            ["--sabotage-only", "*-sft-more", "--parts", "sabotage"],
            r"no pair of online RL that --sabotage-only \*-sft-more matches; name",
        ),
    ],
)
def test_bad_options_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert main(["calibrate", str(ZOO), "--output", str(tmp_path / "out"), *options]) == 2
    assert re.search(words, capsys.readouterr().err)
