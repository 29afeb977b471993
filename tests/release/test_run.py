"""Pairs measured on real tiny models: the order of the stages, what is cached, and what a second run reads."""

from __future__ import annotations

import gc
import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.interrupt_run import CutOffError, cut_off
from helpers.tiny_checkpoints import tiny_tokenizer
from helpers.tiny_pairs import save_tiny_pair

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.prompting import Prompting
from rlcircuits.answers.types import Sampling
from rlcircuits.attribution.cache import attribute_stored
from rlcircuits.attribution.edge_attribution import attribute
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.noise import NoisedSource
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.comparison.comparison import CONTROL_METRICS, Comparison
from rlcircuits.comparison.storage import load_comparison, to_json
from rlcircuits.graph import metrics
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.questions import load_questions
from rlcircuits.release.pair import Pair, make_pair
from rlcircuits.release.run import run_pair, run_variants
from rlcircuits.release.settings import Settings

pytestmark = pytest.mark.usefixtures("kind_grader")

SETTINGS = Settings(
    k=25,
    question_count=50,
    alpha=0.5,
    balance=2.0,  # random answers differ in length
    noise_draws=1,
    noise_groups=False,
    sampling=Sampling(max_new_tokens=6),
    device="cpu",
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_tiny_pair(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def pair(folders: tuple[Path, Path]) -> Pair:
    return make_pair(name="mine", before=str(folders[0]), after=str(folders[1]), algorithm="grpo")


@pytest.fixture(scope="module")
def measured(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path]:
    """Return the pair's comparison and the output folder of its run, which tests must not write to."""
    output = tmp_path_factory.mktemp("output")
    return run_pair(pair, SETTINGS, output=output), output


@pytest.fixture
def output(measured: tuple[Comparison, Path], tmp_path: Path) -> Path:
    """Return a copy of that folder, which a test may write to."""
    return shutil.copytree(measured[1], tmp_path / "output")


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the checkpoints loaded, in order. Loading one while another's weights are in memory fails the test."""
    done: list[str] = []
    alive: list[Checkpoint] = []
    real = Checkpoint.load.__func__  # type: ignore[attr-defined]

    def load(cls: type[Checkpoint], source: Any, **options: Any) -> Checkpoint:
        # The noise needs after's weights beside before's, on the CPU.
        assert sum(any(p.numel() for p in c.model.parameters()) for c in alive) <= (1 if "update" in done else 0)
        done.append(Path(source).name)
        alive.append(real(cls, source, **options))
        return alive[-1]

    monkeypatch.setattr(Checkpoint, "load", classmethod(load))
    return done


def test_the_stages_and_one_model_at_a_time(pair: Pair, loads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlcircuits.checkpoints.noise._known_updates", {})
    monkeypatch.setattr("rlcircuits.checkpoints.reused.LARGEST", 0)  # as with large models, which are loaded each time
    original = CheckpointSource.load

    def load(self: CheckpointSource) -> Checkpoint:
        # The second checkpoint of the first draw is after's, whose update is measured.
        if loads == ["base", "tuned", "base", "base"]:
            loads.append("update")
        return original(self)

    monkeypatch.setattr(CheckpointSource, "load", load)
    told: list[str] = []
    comparison = run_pair(pair, replace(SETTINGS, noise_draws=2, noise_groups=True), notify=told.append)
    groups = ["embeddings", "norms", "attention", "MLP"]  # the unembedding is tied
    assert [control.group for control in comparison.group_controls] == groups
    assert loads == ["base", "tuned", "base", "base", "update", "tuned", "base", *["base"] * len(groups)]
    compared = [control.k for control in comparison.controls]
    assert all(k >= 20 for k in compared)
    assert comparison.weights is not None
    count = comparison.weights.count
    assert told == [
        f"mine: {count} of {count} tensors changed",
        "mine: before answers 50 questions of arithmetic",
        "mine: after answers 50 questions of arithmetic",
        told[3],
        "mine: after is attributed on 25 answers",
        "mine: before is attributed on 25 answers",
        "mine: noise 0 answers 50 questions of arithmetic",
        f"mine: noise 0 is attributed on {compared[0]} answers",
        "mine: noise 1 answers 50 questions of arithmetic",
        f"mine: noise 1 is attributed on {compared[1]} answers",
        *(f"mine: noise on {group} is attributed on 25 answers" for group in groups),
    ]
    assert told[3].startswith("mine: asked 50 → answered by both 50 → right by both ")
    assert told[3].endswith("tokens are scored")
    assert comparison.unfinished is not None
    assert f" → sampled 25; unfinished {comparison.unfinished.words}; the first {comparison.t_cut} " in told[3]
    assert comparison.k == 25
    assert (comparison.before, comparison.after) == (pair.before, pair.after)
    assert (comparison.profile, comparison.engine, comparison.score_on) == ("online-rl", "transformers", "own")
    assert comparison.prompting is not None
    assert comparison.prompting["template"] == "{question}"


def test_the_numbers_are_those_of_the_steps_by_hand(pair: Pair, measured: tuple[Comparison, Path]) -> None:
    comparison, folder = measured[0], measured[1] / "mine"
    answers = {side: Answers.load(folder / f"{side}.answers.jsonl") for side in ("before", "after")}
    by_question = {side: {item.question_id: item for item in found.items} for side, found in answers.items()}
    for side, source in zip(("before", "after"), pair.sources("cpu"), strict=True):
        from rlcircuits.graph.sequences import AnswerSequence

        sequences = [
            AnswerSequence(item.prompt_ids, item.answer_ids).truncated(comparison.t_cut)
            for item in (by_question[side][question] for question in comparison.question_ids)
        ]
        scores = EdgeScores.load(folder / f"{side}.scores.safetensors")
        torch.testing.assert_close(scores.values, attribute(source.load(), sequences).values)
        effect = comparison.effects["intensity"]
        values = effect.before_values if side == "before" else effect.after_values
        assert values == tuple(metrics.activation_intensity(scores))

    # A draw by hand: its own answers, scored with the pair's T_cut, against before's numbers of the same questions.
    before, after = pair.sources("cpu")
    noised = NoisedSource(before, after, 0)
    from rlcircuits.answers.generate import answer_questions
    from rlcircuits.comparison.control_pairing import pair_control
    from rlcircuits.comparison.pairing import pair as pair_answers

    questions = load_questions("arithmetic", count=50)
    found = answer_questions(noised, questions, SETTINGS.sampling)
    paired = pair_answers(answers["before"], answers["after"], k=25, alpha=0.5, balance=2.0)
    chosen = pair_control(paired, answers["before"], found)
    scores = attribute_stored(noised, chosen.sequences)
    (control,) = comparison.controls
    assert (control.accuracy, control.k) == (found.accuracy, len(chosen.places))
    difference = metrics.activation_intensity(scores) - [
        comparison.effects["intensity"].before_values[place] for place in chosen.places
    ]
    assert control.shifts["intensity"].difference == pytest.approx(difference.mean(), rel=1e-4)
    assert tuple(control.shifts) == CONTROL_METRICS


def test_each_stage_is_kept_and_found_again(
    pair: Pair, measured: tuple[Comparison, Path], output: Path, loads: list[str]
) -> None:
    comparison = measured[0]
    kept = sorted(path.name for path in (output / "mine").iterdir())
    assert kept == [
        "after.answers.jsonl",
        "after.scores.safetensors",
        "before.answers.jsonl",
        "before.scores.safetensors",
        "comparison.json",
        "run.json",
    ]
    assert load_comparison(output / "mine") == comparison
    written = (output / "mine" / "comparison.json").read_text(encoding="utf-8")

    # The comparison is there: nothing is loaded, and only that is told.
    told: list[str] = []
    assert run_pair(pair, SETTINGS, output=output, notify=told.append) == comparison
    assert told == ["mine: measured before, and nothing has changed since"]
    # A file beside it is gone: it is made again of what is kept.
    scores = output / "mine" / "before.scores.safetensors"
    was = scores.read_bytes()
    scores.unlink()
    assert run_pair(pair, SETTINGS, output=output) == comparison
    assert scores.read_bytes() == was
    # One was cut short: the same.
    for name in kept[:4]:
        file = output / "mine" / name
        was = file.read_bytes()
        file.write_bytes(was[: len(was) // 2])
        told.clear()
        assert run_pair(pair, SETTINGS, output=output, notify=told.append) == comparison
        assert name in told[0]
        assert told[0].endswith("the pair is measured again, from what is in the store")
        assert file.read_bytes() == was
    # It is gone, and the answers and scores are there: again nothing is loaded, and it is the same to the byte.
    (output / "mine" / "comparison.json").unlink()
    assert run_pair(pair, SETTINGS, output=output) == comparison
    assert (output / "mine" / "comparison.json").read_text(encoding="utf-8") == written
    assert loads == []


@pytest.mark.parametrize(
    ("change", "loaded"),
    [
        ({"alpha": 0.9}, {"base", "tuned"}),  # scored anew
        ({"noise_draws": 0}, set()),  # fewer of what is there
        ({"sampling": Sampling(max_new_tokens=5)}, {"base", "tuned"}),
    ],
)
def test_a_changed_setting_is_measured_anew(
    pair: Pair, measured: tuple[Comparison, Path], output: Path, loads: list[str], change: Any, loaded: set[str]
) -> None:
    loads.append("update")
    changed = run_pair(pair, replace(SETTINGS, **change), output=output)
    assert set(loads[1:]) == loaded
    assert to_json(changed) != to_json(measured[0])


def test_another_grader_is_measured_anew(folders: tuple[Path, Path], tmp_path: Path, monkeypatch: Any) -> None:
    """Another grader may also be of the same class, like graders in subprocesses, or the same function, edited."""
    file = tmp_path / "graders_of_one_s_own.py"
    file.write_text("def kind(answer, gold): return True\ndef strict(answer, gold): return answer < 't'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps({"question": f"{i}+1?", "answer": "2"}) + "\n" for i in range(50)))

    settings = replace(SETTINGS, noise_draws=0, min_questions=1)

    def accuracy(function: str) -> float:
        source = {"name": "own", "file": str(questions), "grader": f"{file.stem}:{function}"}
        pair = make_pair(name="mine", before=str(folders[0]), after=str(folders[1]), algorithm="grpo", questions=source)
        return run_pair(pair, settings, output=tmp_path / "out").accuracy.before

    kind = accuracy("kind")
    assert accuracy("strict") < kind == accuracy("kind")
    file.write_text("def kind(answer, gold): return answer < 'm'\n")
    assert accuracy("kind") < kind


def test_a_changed_checkpoint_is_measured_anew(tmp_path: Path) -> None:
    base, tuned = save_tiny_pair(tmp_path)
    pair = make_pair(name="mine", before=str(base), after=str(tuned), algorithm="grpo")
    settings = replace(SETTINGS, noise_draws=0)
    first = run_pair(pair, settings, output=tmp_path / "out")
    save_tiny_pair(tmp_path / "other", update=0.05)
    for file in (tmp_path / "other" / "tuned").iterdir():
        file.replace(tuned / file.name)
    second = run_pair(pair, settings, output=tmp_path / "out")
    assert first.effects["intensity"].after_values != second.effects["intensity"].after_values
    assert first.accuracy.before == second.accuracy.before


def test_a_small_base_is_read_once(
    measured: tuple[Comparison, Path], pair: Pair, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before's copies give what loading it each time gives; after is read once more for its update."""
    monkeypatch.setattr("rlcircuits.checkpoints.noise._known_updates", {})
    copied = run_pair(pair, SETTINGS)
    assert loads == ["base", "tuned", "tuned"]
    monkeypatch.setattr("rlcircuits.checkpoints.reused.LARGEST", 0)
    loads[:] = ["update"]  # so that both models may be in memory
    assert to_json(run_pair(pair, SETTINGS)) == to_json(copied) == to_json(measured[0])


def test_pairs_with_one_base_share_its_answers(folders: tuple[Path, Path], loads: list[str], tmp_path: Path) -> None:
    settings = replace(SETTINGS, noise_draws=0, measure_unchanged=True)
    for name, after in (("one", folders[1]), ("two", folders[0])):
        pair = make_pair(name=name, before=str(folders[0]), after=str(after), algorithm="sft")
        same = pytest.warns(UserWarning, match="before and after are the same checkpoint")
        with same if name == "two" else nullcontext():
            run_pair(pair, settings, store=tmp_path)
    # The second pair's base was answered for the first, and scored as its after.
    assert loads == ["base", "tuned", "base"]


def test_the_same_without_any_folder(pair: Pair, measured: tuple[Comparison, Path]) -> None:
    assert run_pair(pair, SETTINGS) == measured[0]


@pytest.mark.parametrize("where", ["after answers", "noise 0 is attributed"])
def test_a_run_that_was_cut_off_ends_as_an_uninterrupted_one(
    pair: Pair, measured: tuple[Comparison, Path], tmp_path: Path, where: str
) -> None:
    with pytest.raises(CutOffError):
        run_pair(pair, SETTINGS, output=tmp_path, notify=cut_off(where))
    assert run_pair(pair, SETTINGS, output=tmp_path) == measured[0]


def test_variants_share_answers_and_differ_in_what_is_scored(
    pair: Pair, measured: tuple[Comparison, Path], output: Path
) -> None:
    variants = run_variants(pair, SETTINGS, output=output)
    assert variants[0] == measured[0]
    assert [one.score_on for one in variants] == ["own", "before", "after", "gold"]
    assert [one.name for one in variants] == ["mine", "mine-on-before", "mine-on-after", "mine-on-gold"]
    assert len({one.question_ids for one in variants}) == len({one.t_cut for one in variants}) == 1
    own, on_before, on_after, on_gold = (one.effects["intensity"] for one in variants)
    # Scored on its own answer either way.
    assert on_before.before_values == own.before_values
    assert on_after.after_values == own.after_values
    assert on_before.after_values != own.after_values
    assert on_gold.before_values != own.before_values
    gold = load_questions("arithmetic", count=50).questions
    tokenizer = tiny_tokenizer()
    ids = tokenizer(gold[0].gold, add_special_tokens=False)["input_ids"]
    assert [tokenizer.decode(ids)] == [gold[0].gold]
    shown = {path.name for path in output.iterdir() if not path.name.startswith(".")}  # some systems keep lock files
    assert shown == {"store", *(one.name for one in variants)}


def test_recorded_answers_give_the_same_comparison(pair: Pair, output: Path, tmp_path: Path) -> None:
    wanted = run_pair(pair, SETTINGS, output=output)
    files = {}
    for side in ("before", "after"):
        items = Answers.load(output / "mine" / f"{side}.answers.jsonl").items
        files[f"recorded_{side}"] = tmp_path / f"{side}.jsonl"
        lines = [
            {"id": a.question_id, "prompt_token_ids": a.prompt_ids, "completion_token_ids": a.answer_ids} for a in items
        ]
        files[f"recorded_{side}"].write_text("".join(json.dumps(line) + "\n" for line in lines))
    recorded = run_pair(pair.model_copy(update=files), SETTINGS, output=output)
    assert recorded.engine == "recorded"
    assert recorded.prompting is None
    half = run_pair(pair.model_copy(update={"recorded_before": files["recorded_before"]}), SETTINGS, output=output)
    assert half.engine == "recorded (before), transformers (after)"
    assert replace(recorded, engine=wanted.engine, prompting=wanted.prompting) == wanted


def test_a_pairs_own_prompting_goes_first(pair: Pair) -> None:
    settings = replace(SETTINGS, noise_draws=0, prompting=Prompting(template="q:{question}"))
    own = pair.model_copy(update={"prompting": Prompting(template="{question}=")})
    assert run_pair(pair, settings).prompting["template"] == "q:{question}"  # type: ignore[index]
    assert run_pair(own, settings).prompting["template"] == "{question}="  # type: ignore[index]


def test_one_checkpoint_before_and_after_is_measured_with_a_warning(folders: tuple[Path, Path], tmp_path: Path) -> None:
    other = shutil.copytree(folders[0], tmp_path / "other")
    pair = make_pair(name="null", before=str(folders[0]), after=str(other), algorithm="sft")
    told: list[str] = []
    with pytest.warns(UserWarning, match="before and after are the same checkpoint") as warned:
        comparison = run_pair(pair, replace(SETTINGS, measure_unchanged=True), notify=told.append)
    assert len(warned) == 1
    assert told[0] == f"null: {warned[0].message}"
    assert comparison.effects["intensity"].before == comparison.effects["intensity"].after
    assert comparison.controls[0].shifts["intensity"].difference == 0


def test_memory_is_returned_after_an_error(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[Checkpoint] = []
    original = CheckpointSource.load

    def load(self: CheckpointSource) -> Checkpoint:
        held.append(original(self))
        return held[-1]

    monkeypatch.setattr(CheckpointSource, "load", load)
    with pytest.raises(CutOffError):
        run_pair(pair, SETTINGS, notify=cut_off("after is attributed"))
    gc.collect()
    assert [sum(p.numel() for p in checkpoint.model.parameters()) for checkpoint in held] == [0, 0]
