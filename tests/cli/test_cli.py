"""The command line: every command on a real tiny model, exit codes, and errors in one line."""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.synthetic_comparisons import made_up_comparison
from helpers.tiny_checkpoints import CHARACTERS, save_checkpoint, tiny_tokenizer
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rlcircuits.answers.answer_file import Answers
from rlcircuits.cli.main import _parser, main
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.storage import load_comparison, save_comparison, to_json
from rlcircuits.comparison.verdict import judge
from rlcircuits.graph import metrics
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.release.pairs_file import Pair, load_pairs_file
from rlcircuits.release.run import run_pair

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
    answers, scores = str(tmp_path / "answers.jsonl"), str(tmp_path / "new" / "folder" / "scores.safetensors")
    assert main(["answer", str(tiny / "base"), "--count", "6", "--max-new-tokens", "9", "--out", answers]) == 0
    assert f"6 answers, accuracy 0.000, in {answers}" in capsys.readouterr().out
    stored = Answers.load(answers)
    assert stored.sampling.max_new_tokens == 9

    attribute = ["attribute", str(tiny / "base"), "--answers", answers, "--out", scores]
    assert main(attribute) == 2
    assert "holds no right answer to score" in capsys.readouterr().err
    assert main([*attribute, "--wrong-too", "--t-cut", "4", "--granularity", "head"]) == 0
    loaded = EdgeScores.load(scores)
    # Another tokenizer, whose ids mean something else.
    stranger = save_checkpoint(tmp_path / "stranger")
    tiny_tokenizer(("<pad>", "<bos>", "<eos>", *CHARACTERS[::-1])).save_pretrained(stranger)
    assert main(["attribute", str(stranger), "--answers", answers, "--out", scores, "--wrong-too"]) == 2
    assert "answers are of another tokenizer than" in capsys.readouterr().err
    # The same through a store, twice: the second time from what is kept.
    kept = ("--store", str(tmp_path / "store"))
    again, other = str(tmp_path / "again.jsonl"), str(tmp_path / "again.safetensors")
    for _ in range(2):
        answer = ["answer", str(tiny / "base"), "--count", "6", "--max-new-tokens", "9", "--out", again, *kept]
        assert main(answer) == 0
        assert Answers.load(again).items == stored.items
        attribute = ["attribute", str(tiny / "base"), "--answers", again, "--out", other, *kept]
        assert main([*attribute, "--wrong-too", "--t-cut", "4", "--granularity", "head"]) == 0
        torch.testing.assert_close(EdgeScores.load(other).values, loaded.values)
    bytes_before = Path(scores).read_bytes()
    apart = ["attribute", str(tiny / "base"), "--answers", answers, "--out", scores, "--recompute"]
    assert main([*apart, "--wrong-too", "--t-cut", "4", "--granularity", "head"]) == 0
    assert Path(scores).read_bytes() == bytes_before
    capsys.readouterr()
    assert main([*attribute, "--wrong-too", "--t-cut", "4", "--granularity", "head"]) == 0
    answered = [item for item in stored.items if item.answer_ids]
    assert len(loaded) == len(answered) == 6
    assert loaded.graph.granularity == "head"
    out = capsys.readouterr().out
    assert f"6 answers, first 4 tokens, {loaded.graph.n_edges} edges" in out
    assert f"activation intensity: mean {metrics.activation_intensity(loaded).mean():.4g}" in out


def compare_arguments(tiny: Path, *more: str) -> list[str]:
    return [
        "compare", "--before", str(tiny / "base"), "--after", str(tiny / "tuned"), "--algorithm", "sft",
        "--question-count", "130", "--k", "20", "--noise-draws", "1", *more,
    ]  # fmt: skip


@pytest.mark.usefixtures("all_right")
def test_compare_then_report(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Random answers differ in length.
    more = ("--balance", "2", "--temperature", "1", "--output", str(tmp_path))
    assert main(compare_arguments(tiny, *more)) == 0
    printed = capsys.readouterr()
    assert "base-to-tuned" in printed.out
    assert "(reported)" in printed.out
    assert "base-to-tuned: before answers 130 questions" in printed.err
    stored = load_comparison(tmp_path / "base-to-tuned")
    scores = EdgeScores.load(tmp_path / "base-to-tuned" / "after.scores.safetensors")
    np.testing.assert_array_equal(stored.effects["intensity"].after_values, metrics.activation_intensity(scores))
    assert stored.accuracy.asked == 130

    plot, page = tmp_path / "pair.png", tmp_path / "page.html"
    assert main(["report", str(tmp_path), "--plot", str(plot), "--html", str(page)]) == 0
    shown = capsys.readouterr().out
    assert printed.out.splitlines()[0] in shown
    assert plot.exists()
    assert "base-to-tuned" in page.read_text(encoding="utf-8")

    # Again: nothing is measured anew.
    assert main(compare_arguments(tiny, *more)) == 0
    again = capsys.readouterr()
    assert again.out == printed.out
    assert again.err == "base-to-tuned: measured before, and nothing has changed since\n"


@pytest.mark.usefixtures("all_right")
def test_one_table_of_whose_answers_are_scored(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = compare_arguments(tiny, "--balance", "2", "--score-on", "all", "--output", str(tmp_path))
    code = main(arguments)
    out = capsys.readouterr().out
    table = out.split("base-to-tuned, by whose answers are scored\n")[1].splitlines()
    words = ("each model's own answers", "before's answers, by", "after's answers, by", "the gold answers, by")
    assert [row.startswith(word) for row, word in zip(table[2:], words, strict=True)] == [True] * 4
    # The verdict is that of the paper's way.
    own = load_comparison(tmp_path / "base-to-tuned")
    assert code == (0 if judge(own).holds else 1)
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("\n".join(table) + "\n")
    assert load_comparison(tmp_path / "base-to-tuned-on-gold").score_on == "gold"


@pytest.mark.usefixtures("all_right")
def test_from_init_to_the_verdict_and_the_same_by_pytest_and_python(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], pytester: pytest.Pytester
) -> None:
    file, output = tmp_path / "here" / "release.toml", tmp_path / "out"
    init = ["init", str(file), "--before", str(tiny / "base"), "--after", str(tiny / "tuned"), "--algorithm", "sft"]
    assert main([*init, "--questions", "arithmetic"]) == 0
    written = file.read_text(encoding="utf-8")
    for old, new in (
        ("# k = 200", "k = 20"), ("# balance = 0.5", "balance = 2"), ("# noise_draws = 3", "noise_draws = 1"),
        ("# question_count = 400", "question_count = 30"),
        ("# max_new_tokens = 512 ", "max_new_tokens = 9 "),
    ):  # fmt: skip
        assert written.count(old) == 1
        written = written.replace(old, new)
    file.write_text(written, encoding="utf-8")
    assert main(init) == 2
    assert capsys.readouterr().err == f"rlcircuits: {file} is there already; --force replaces it\n"
    assert file.read_text(encoding="utf-8") == written

    assert main(["plan", str(file), "--output", str(output)]) == 0
    planned = capsys.readouterr().out
    # 30 questions by before, after and one noise draw, of at most 9 tokens.
    assert [cell for cell in planned.splitlines()[2].split() if cell][1:6] == ["arithmetic", "30", "3", "270", "810"]
    assert planned.endswith("time: unknown until the first answers.\n")

    code = main(["compare", "--pairs", str(file), "--output", str(output), "--json"])
    assert code in (0, 1)
    by_cli = json.loads(capsys.readouterr().out)
    assert main(["plan", str(file), "--output", str(output)]) == 0
    planned = capsys.readouterr().out
    assert planned.splitlines()[2].endswith("measured")
    assert "To do: 0 answer tokens at most, 0 tokens to score" in planned

    pairs = load_pairs_file(file)
    by_python = run_pair(pairs.pairs[0], pairs.make_settings())
    assert json.loads(to_json(by_python))["comparison"] == by_cli["comparison"]

    plugin = () if metadata.entry_points(group="pytest11", name="rlcircuits") else ("-p", "rlcircuits.pytest_plugin")
    # By the test that init wrote beside the pairs file.
    arguments = (file.with_name("test_release.py"), "--pairs", file, "--rlcircuits-output", tmp_path / "by-pytest")
    pytester.runpytest_inprocess("-p", "no:cacheprovider", *plugin, *arguments)
    by_pytest = json.loads((tmp_path / "by-pytest" / "release" / "comparison.json").read_text(encoding="utf-8"))
    assert by_pytest["comparison"] == by_cli["comparison"]
    assert by_pytest["verdict"] == by_cli["verdict"]


def test_init_replaces_only_when_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert load_pairs_file("release.toml").pairs[0].algorithm == "grpo"
    assert capsys.readouterr().out.splitlines()[-1].endswith("pytest test_release.py --pairs=release.toml")
    for name in ("release.toml", "test_release.py"):
        Path(name).write_text("mine")
    assert main(["init"]) == 2
    assert Path("release.toml").read_text() == "mine"
    assert main(["init", "--force", "--algorithm", "dpo", "--before", 'odd"name\\here']) == 0
    assert Path("test_release.py").read_text() == "mine"
    (pair,) = tomllib.loads(Path("release.toml").read_text())["pair"]
    assert (pair["algorithm"], pair["before"], pair["after"]) == ("dpo", 'odd"name\\here', "checkpoints/rl")
    # A question set's name is no path, whatever lies there; a file of questions is.
    Path("gsm8k").mkdir()
    Path("ours.jsonl").write_text("")
    for questions, written in (("gsm8k", "gsm8k"), ("ours.jsonl", "../ours.jsonl")):
        assert main(["init", "elsewhere/release.toml", "--force", "--questions", questions]) == 0
        (pair,) = tomllib.loads(Path("elsewhere/release.toml").read_text())["pair"]
        assert pair["questions"] == written
    # What the file says of how to run it names the file as it is called.
    assert main(["init", "mine.toml"]) == 0
    assert "release.toml" not in Path("mine.toml").read_text()
    assert "pytest test_release.py --pairs=mine.toml" in Path("mine.toml").read_text()
    capsys.readouterr()


def test_a_plan_says_what_cannot_be_found_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pairs.toml").write_text(
        '[settings]\nnoise_draws = 0\n[[pair]]\nname = "far"\nbefore = "no/such-base"\nafter = "no/such"\n'
        'algorithm = "grpo"\n'
    )
    # What is known is shown; a checkpoint that a run could not have is an error.
    assert main(["plan", str(tmp_path / "pairs.toml")]) == 2
    shown = capsys.readouterr()
    assert "no/such-base" in shown.out
    assert "unknown tokens to score" in shown.out
    errors = shown.err.splitlines()
    for name, error in zip(("no/such-base", "no/such"), errors, strict=True):
        assert error.startswith(
            f"rlcircuits: checkpoint {name}: is no folder here, and the hub does not say what it holds: "
        )
        assert error.endswith(f"; if a folder is meant, there is none at {tmp_path / name}")


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
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("rlcircuits: pair 'base-to-deeper': ")
    assert "num_hidden_layers is 1 in the first and 2 in the second" in error


def test_too_few_right_answers(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(compare_arguments(tiny, "--no-stop-early")) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    wanted = "rlcircuits: pair 'base-to-tuned': 0 questions are left to compare and at least 20 are needed: asked 130 →"
    assert error.startswith(wanted)


@pytest.mark.parametrize(("rise", "code"), [(True, 0), (False, 1)])
def test_exit_code_is_the_verdict(monkeypatch: pytest.MonkeyPatch, rise: bool, code: int) -> None:
    def measured(*_: Any, **__: Any) -> Comparison:
        return made_up_comparison(rise=rise)

    monkeypatch.setattr("rlcircuits.release.run.run_pair", measured)
    assert main(["compare", "--before", "a", "--after", "b", "--algorithm", "grpo"]) == code


def test_json_is_one_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(pair: Pair, *_: Any, **__: Any) -> Comparison:
        return made_up_comparison(pair.name)

    def variants(pair: Pair, *_: Any, **__: Any) -> tuple[Comparison, ...]:
        return tuple(replace(made_up_comparison(pair.name), score_on=score_on) for score_on in ("own", "gold"))

    monkeypatch.setattr("rlcircuits.release.run.run_pair", measured)
    monkeypatch.setattr("rlcircuits.release.run.run_variants", variants)
    one = ["compare", "--before", "a", "--after", "b", "--algorithm", "grpo", "--json"]
    assert main(one) == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["comparison"]["name"] == "a-to-b"
    assert main([*one, "--score-on", "all"]) == 0
    assert [each["comparison"]["score_on"] for each in json.loads(capsys.readouterr().out)] == ["own", "gold"]

    file = tmp_path / "pairs.toml"
    pair = '[[pair]]\nname = "{}"\nbefore = "a"\nafter = "b"\nalgorithm = "grpo"\n'
    for names in (["a-to-b"], ["one", "two", "three"]):
        file.write_text("".join(map(pair.format, names)))
        assert main(["compare", "--pairs", str(file), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        if len(names) == 1:
            assert found == alone
        else:
            assert [each["comparison"]["name"] for each in found] == names
            assert all(each.keys() == alone.keys() for each in found)


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
        (["answer", "./nowhere", "--questions", "riddles", "--out", "x.jsonl"], "question set 'riddles' is not known"),
        (["compare", "--before", "./a", "--after", "b", "--algorithm", "grpo"], "--before: there is no folder a, and"),
        (["init", "--algorithm", "zzz"], "algorithm is 'zzz'; it must be one of grpo, "),
        (["compare", "--before", "a", "--algorithm", "grpo"], "compare needs --before and --after, or --pairs"),
        (["compare", "--pairs", "x.toml", "--name", "y"], "--pairs and --name were both given"),
        (["compare", "--pairs", "gone.toml"], "gone.toml: there is no such file"),
        (
            ["answer", "./nowhere", "--few-shot", "gone.txt", "--out", "x.jsonl"],
            "--few-shot: gone.txt: cannot be read as worked examples",
        ),
        (["answer", "./nowhere", "--template", "x", "--out", "x.jsonl"], "must hold {question} once"),
        (["plan", "gone.toml"], "gone.toml: there is no such file"),
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


def options_of(parser: argparse.ArgumentParser) -> Iterator[tuple[tuple[str, ...], argparse.Action]]:
    """Every option or argument that takes text, with the command it is of."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield from (((name, *names), each) for names, each in options_of(command))
        elif action.nargs != 0 and action.type is None and not action.choices:
            yield (), action


TEXTS = [(names, action) for names, action in options_of(_parser()) if names]


@pytest.mark.parametrize(("command", "action"), TEXTS, ids=[f"{' '.join(names)} {a.dest}" for names, a in TEXTS])
def test_an_empty_value_is_refused(
    command: tuple[str, ...], action: argparse.Action, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for value in ("", " "):
        given: list[str] = []
        for other, each in TEXTS:
            if other == command and (each is action or each.required):
                text = value if each is action else "x"
                given += [f"{each.option_strings[0]}={text}"] if each.option_strings else [text]
        if command == ("fixtures", "train"):
            given += ["--seed=7", *(["--algorithm=grpo"] if action.dest != "algorithm" else [])]
        assert main([*command, *given]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        shown = action.option_strings[0] if action.option_strings else action.dest.upper()
        assert line == f"rlcircuits: {shown} is empty; give it a value, or leave it out"
    assert list(tmp_path.iterdir()) == []


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
