"""The command line: every command on a real tiny model, exit codes, and errors in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up import made_up_comparison
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rlcircuits import metrics
from rlcircuits.answers import Answers
from rlcircuits.attribution import EdgeScores
from rlcircuits.cli import main
from rlcircuits.comparison import Comparison
from rlcircuits.report.json import load_comparison, save_comparison

TOKENS = ["<pad>", "<eos>", *"0123456789+=;>?"]


def save_tiny_llama(folder: Path, seed: int, layers: int = 1) -> Path:
    """A random Llama that speaks the arithmetic set's characters, in Hugging Face format."""
    tokenizer = Tokenizer(WordLevel({token: i for i, token in enumerate(TOKENS)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(TOKENS), hidden_size=16, intermediate_size=32, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=48, pad_token_id=0,
        bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_tiny_llama(folder / "base", seed=0)
    save_tiny_llama(folder / "tuned", seed=1)
    save_tiny_llama(folder / "deeper", seed=1, layers=2)
    return folder


@pytest.fixture
def all_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model answers nothing right, and only right answers are compared: grade all as right."""
    monkeypatch.setattr("rlcircuits.questions.arithmetic.grade", lambda answer, gold: True)


def test_answer_then_attribute(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers, scores = str(tmp_path / "answers.jsonl"), str(tmp_path / "scores.safetensors")
    assert main(["answer", str(tiny / "base"), "--count", "6", "--max-new-tokens", "9", "--out", answers]) == 0
    assert f"6 answers, accuracy 0.000, in {answers}" in capsys.readouterr().out
    stored = Answers.load(answers)
    assert stored.sampling.max_new_tokens == 9

    attribute = ["attribute", str(tiny / "base"), "--answers", answers, "--out", scores]
    assert main(attribute) == 2
    assert "holds no right answer to score" in capsys.readouterr().err
    assert main([*attribute, "--wrong-too", "--t-cut", "4", "--granularity", "head"]) == 0
    loaded = EdgeScores.load(scores)
    answered = [item for item in stored.items if item.answer_ids]
    assert len(loaded) == len(answered) == 6
    assert loaded.graph.granularity == "head"
    out = capsys.readouterr().out
    assert f"6 answers, first 4 tokens, {loaded.graph.n_edges} edges" in out
    assert f"activation intensity: mean {metrics.activation_intensity(loaded).mean():.4g}" in out


def compare_arguments(tiny: Path, *more: str) -> list[str]:
    return [
        "compare", "--before", str(tiny / "base"), "--after", str(tiny / "tuned"), "--algorithm", "sft",
        "--question-count", "60", "--k", "20", *more,
    ]  # fmt: skip


@pytest.mark.usefixtures("all_right")
def test_compare_then_report(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Random answers differ in length.
    more = ("--balance", "2", "--temperature", "1", "--output", str(tmp_path))
    assert main(compare_arguments(tiny, *more)) == 0
    printed = capsys.readouterr()
    assert "base-to-tuned" in printed.out
    assert "(reported)" in printed.out
    assert "base-to-tuned: before answers 60 questions" in printed.err
    stored = load_comparison(tmp_path / "base-to-tuned")
    scores = EdgeScores.load(tmp_path / "base-to-tuned" / "after.scores.safetensors")
    np.testing.assert_array_equal(stored.effects["intensity"].after_values, metrics.activation_intensity(scores))
    assert stored.accuracy.asked == 60

    plot = tmp_path / "pair.png"
    assert main(["report", str(tmp_path), "--plot", str(plot)]) == 0
    shown = capsys.readouterr().out
    assert printed.out.splitlines()[0] in shown
    assert plot.exists()


@pytest.mark.usefixtures("all_right")
def test_compare_is_the_same_from_run_to_run(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for _ in range(2):
        assert main(compare_arguments(tiny, "--balance", "2", "--json")) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert json.loads(outputs[0])["verdict"]["holds"] is True


@pytest.mark.usefixtures("all_right")
def test_compare_refuses_other_graphs(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = compare_arguments(tiny, "--balance", "2")
    arguments[arguments.index(str(tiny / "tuned"))] = str(tiny / "deeper")
    assert main(arguments) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("rlcircuits: before and after have different graphs")


def test_too_few_right_answers(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(compare_arguments(tiny)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("rlcircuits: 0 questions are left to compare and at least 20 are needed: asked 60 →")


@pytest.mark.parametrize(("rise", "code"), [(True, 0), (False, 1)])
def test_exit_code_is_the_verdict(monkeypatch: pytest.MonkeyPatch, rise: bool, code: int) -> None:
    def measured(*_: Any, **__: Any) -> Comparison:
        return made_up_comparison(rise=rise)

    monkeypatch.setattr("rlcircuits.pipeline.run_pair", measured)
    assert main(["compare", "--before", "a", "--after", "b", "--algorithm", "grpo"]) == code


def test_report_of_many_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        save_comparison(made_up_comparison(name), tmp_path / name)
    assert main(["report", str(tmp_path), "--plot", str(tmp_path / "plot.svg")]) == 0
    out = capsys.readouterr().out
    assert sum("verdict" in line and "before → after" in line for line in out.splitlines()) == 1
    assert all((tmp_path / f"plot-{name}.svg").exists() for name in ("one", "two"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--before", "a", "--after", "b", "--algorithm", "magic"], "algorithm is 'magic'"),
        (["compare", "--before", "a", "--after", "b", "--algorithm", "grpo", "--k", "5"], "k is 5"),
        (["answer", "./nowhere", "--out", "x.jsonl"], "nowhere"),
        (["answer", "./nowhere", "--questions", "riddles", "--out", "x.jsonl"], "unknown question set 'riddles'"),
        (["attribute", "m", "--answers", "gone.jsonl", "--out", "x"], "gone.jsonl: cannot be read as answers"),
        (["report", "gone"], "gone: holds no comparison.json"),
        (["fixtures", "verify"], "no fixtures/recipe in "),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rlcircuits: ")
    assert message in line


RECIPE = """
def train(family, algorithm, **options):
    return (family, algorithm, *sorted((key, str(value)) for key, value in options.items()))
def verify(root):
    return ["grpo: another hash"] if "broken" in str(root) else []
"""


def test_fixtures_are_found_from_a_folder_within_the_checkout(tmp_path: Path) -> None:
    recipe = tmp_path / "checkout" / "fixtures" / "recipe"
    recipe.mkdir(parents=True)
    (recipe / "__init__.py").write_text(RECIPE)
    within = tmp_path / "checkout" / "docs"
    within.mkdir()

    def run(*arguments: str) -> tuple[int, str]:
        # In a process of its own, which no other `fixtures` package has been imported into.
        command = [sys.executable, "-m", "rlcircuits.cli", "fixtures", *arguments]
        environment = {"PYTHONPATH": str(Path(__file__).parents[1])}
        done = subprocess.run(command, cwd=within, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    code, out = run("train", "llama-sums", "grpo", "--force")
    assert code == 0
    for part in (
        "'llama-sums', 'grpo'",
        "('force', 'True')",
        "('seed', 'None')",  # left to the recipe
        f"'{tmp_path / 'checkout' / 'fixtures'}'",
    ):
        assert part in out
    assert run("verify")[0] == 0
    assert run("verify", "--root", "broken") == (1, "grpo: another hash\n")


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, shown in (
        (["--help"], "compare"),
        (["compare", "--help"], "--algorithm"),
        (["--version"], "rlcircuits"),
    ):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 0
        assert shown in capsys.readouterr().out


def test_an_error_of_the_file_system_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> Comparison:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rlcircuits.pipeline.run_pair", fail)
    assert main(["compare", "--before", "a", "--after", "b", "--algorithm", "grpo"]) == 2
    assert capsys.readouterr().err == "rlcircuits: [Errno 28] No space left on device\n"
