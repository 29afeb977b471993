"""A plan agrees with what the run then does: parameters, cache, tokens, stored results and throughput."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.tiny_checkpoints import save_checkpoint
from helpers.tiny_models import build
from helpers.tiny_pairs import save_tiny_pair

from rlcircuits.answers.types import Sampling
from rlcircuits.cli.main import main
from rlcircuits.common.files import STORE
from rlcircuits.release.pair import make_pair
from rlcircuits.release.pairs_file import PairsFile
from rlcircuits.release.plan import make_plan
from rlcircuits.release.plan_table import show_plan
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings
from rlcircuits.release.throughput import FILE_NAME, note_throughput, tokens_per_second

SETTINGS = Settings(
    k=20, question_count=40, alpha=0.5, balance=2.0, noise_draws=1, sampling=Sampling(max_new_tokens=6), batch_size=16
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> PairsFile:
    base, tuned = map(str, save_tiny_pair(tmp_path_factory.mktemp("models")))
    return PairsFile(
        (
            make_pair(name="one", before=base, after=tuned, algorithm="grpo"),
            make_pair(name="two", before=base, after=base, algorithm="sft"),
        )
    )


@pytest.mark.parametrize("name", ["llama-gqa", "gpt2", "gpt-neox", "qwen3", "gemma2"])
def test_parameters_and_cache_are_the_models(name: str, tmp_path: Path) -> None:
    folder = str(save_checkpoint(tmp_path, name))
    model = build(name, seed=3)
    pair = make_pair(name="x", before=folder, after=folder, algorithm="sft")
    plan = make_plan(PairsFile((pair,)), SETTINGS)
    (found,) = plan.models
    assert found.problem is None
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.weight_bytes == 4 * (found.parameters or 0)
    halved = make_plan(PairsFile((pair,)), replace(SETTINGS, dtype="bfloat16")).models[0]
    assert halved.weight_bytes == 2 * (found.parameters or 0)
    # The longest prompt and answer, in a batch of 16; a sliding window would make the real cache smaller.
    assert plan.pairs[0].answering[0].prompt_tokens == 40 * 10
    with torch.no_grad():
        cache = model(torch.zeros(16, 16, dtype=torch.long), use_cache=True).past_key_values
    size = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert found.cache_bytes == size or (name == "gemma2" and (found.cache_bytes or 0) >= size)


def test_a_base_that_pairs_share_answers_once(file: PairsFile) -> None:
    plan = make_plan(file, SETTINGS)
    assert [pair.name for pair in plan.pairs] == ["one", "two"]
    assert [len(pair.answering) for pair in plan.pairs] == [3, 3]
    # Base, tuned, and a draw of noise for each pair, which differ in size and so in what they answer.
    assert plan.answer_tokens == 4 * 40 * 6
    assert len(plan.models) == 2
    # 20 questions of 10 prompt tokens and the 3 first of the answer, whose last is never read, by 3 models and, with
    # noise on one of them, for each of 4 groups of tensors.
    assert [pair.scored_tokens for pair in plan.pairs] == [7 * 20 * 12] * 2
    assert plan.seconds is None
    assert "unknown until the first answers" in show_plan(plan)


def test_what_is_there_is_left_out(file: PairsFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlcircuits.questions.arithmetic.grade", lambda answer, gold: len(answer) > 0)
    run_pair(file.pairs[0], replace(SETTINGS, noise_draws=0), output=tmp_path)
    plan = make_plan(file, SETTINGS, tmp_path)
    assert [[a.stored for a in pair.answering] for pair in plan.pairs] == [[40, 40, 0], [40, 40, 0]]
    assert [pair.measured for pair in plan.pairs] == [False, False]
    assert plan.answer_tokens == 2 * 40 * 6
    assert plan.seconds is not None
    assert plan.seconds > 0
    assert "80 of 120 answers" in show_plan(plan)
    # Only whole batches count, of 16: the run generates the others again.
    (answers,) = (tmp_path / STORE).glob("*tuned-arithmetic*.jsonl")
    answers.write_bytes(answers.read_bytes()[:-3])
    assert make_plan(file, SETTINGS, tmp_path).pairs[0].answering[1].stored == 32
    # Other settings, other answers.
    for change in ({"sampling": Sampling(max_new_tokens=5)}, {"question_count": 30}, {"batch_size": 8}):
        other = make_plan(file, replace(SETTINGS, **change), tmp_path)  # type: ignore[arg-type]
        assert [a.stored for a in other.pairs[0].answering] == [0, 0, 0]

    run_pair(file.pairs[0], SETTINGS, output=tmp_path)
    assert [pair.measured for pair in make_plan(file, SETTINGS, tmp_path).pairs] == [True, False]
    assert not make_plan(file, replace(SETTINGS, alpha=0.3), tmp_path).pairs[0].measured


def save_in_cache(cache: Path, name: str) -> Path:
    """Lay out a checkpoint like the cache of the hub's client."""
    folder = cache / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    return save_checkpoint(folder / "snapshots" / ("0" * 40))


def test_a_hub_id_in_the_cache_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = save_in_cache(tmp_path, "org/cached")
    capsys.readouterr()
    pairs = tmp_path / "pairs.toml"
    text = '[[pair]]\nname = "x"\nbefore = "{}"\nafter = "org/cached"\nalgorithm = "sft"\n'
    text = "[settings]\nmeasure_unchanged = true\n" + text
    for before, code in (("org/cached", 0), ("org/cachedd", 2), ("checkpoints/sft", 2)):
        pairs.write_text(text.format(before))
        assert main(["plan", str(pairs)]) == code
        shown = capsys.readouterr()
        assert f"{sum(p.numel() for p in build('llama-gqa', seed=3).parameters()):,}" in shown.out
        assert shown.err.count("\n") == (code == 2)
        assert (f"checkpoint {before}: is no folder here" in shown.err) == (code == 2)
    # What was downloaded in part is not there.
    (snapshot / "model.safetensors").unlink()
    pairs.write_text(text.format("org/cached"))
    assert main(["plan", str(pairs)]) == 2


def test_what_the_hub_has_and_does_not_describe_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known: list[tuple[str, str | None]] = []
    monkeypatch.setattr("huggingface_hub.model_info", lambda name, revision: known.append((name, revision)))
    pairs = tmp_path / "pairs.toml"
    text = '[[pair]]\nname = "x"\nbefore = "org/a"\nrevision_before = "r1"\nafter = "org/b"\nalgorithm = "sft"\n'
    pairs.write_text(text)
    assert main(["plan", str(pairs)]) == 0
    assert known == [("org/a", "r1"), ("org/b", None)]
    assert capsys.readouterr().out.count("the hub does not say what it holds") == 2


def test_a_damaged_checkpoint_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_checkpoint(tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    pairs = tmp_path / "pairs.toml"
    pairs.write_text(f'[[pair]]\nname = "x"\nbefore = "model"\nafter = "{folder}"\nalgorithm = "sft"\n')
    assert main(["plan", str(pairs)]) == 2
    assert f"rlcircuits: checkpoint {folder}: {weights} is damaged or cut short" in capsys.readouterr().err


def test_the_pace_is_that_of_the_last_pieces_of_work(tmp_path: Path) -> None:
    assert tokens_per_second(tmp_path / "none", "answers") is None
    for tokens in (9000, 10, 20, 30, 40, 50):
        note_throughput(tmp_path, "answers", tokens, 2.0)
    note_throughput(tmp_path, "scores", 700, 1.0)
    assert tokens_per_second(tmp_path, "answers") == 15
    assert tokens_per_second(tmp_path, "scores") == 700
    # A line that was cut off is passed over.
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes() + json.dumps({"work": "answers"}).encode()[:-3])
    assert tokens_per_second(tmp_path, "answers") == 15
