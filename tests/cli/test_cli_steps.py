"""`rlcircuits answer` and `attribute` on a real tiny model, and `report` of stored comparisons."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from helpers.core_inputs import relative_error
from helpers.synthetic_comparisons import made_up_comparison
from helpers.tiny_checkpoints import CHARACTERS, save_checkpoint, tiny_tokenizer

import rlcircuits
from rlcircuits import AnswerSequence, Checkpoint, CheckpointSource, SpanScores
from rlcircuits.answers.answer_file import Answers
from rlcircuits.cli.main import main
from rlcircuits.comparison.storage import save_comparison
from rlcircuits.graph import metrics
from rlcircuits.graph.edge_scores import EdgeScores


def test_answer_then_attribute(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers, scores = str(tmp_path / "answers.jsonl"), str(tmp_path / "new" / "folder" / "scores.safetensors")
    asked = ("--count", "6", "--max-new-tokens", "9")
    assert main(["answer", str(tiny / "base"), *asked, "--out", answers]) == 0
    assert f"6 answers, accuracy 0.000, in {answers}" in capsys.readouterr().out
    stored = Answers.load(answers)
    assert (stored.sampling.n, stored.sampling.max_new_tokens) == (1, 9)

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
        answer = ["answer", str(tiny / "base"), *asked, "--out", again, *kept]
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
    assert "cross_entropy" not in out  # it is the loss, which is printed already


def test_attribute_by_span(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers, out = str(tmp_path / "answers.jsonl"), str(tmp_path / "spans.safetensors")
    assert main(["answer", str(tiny / "base"), "--count", "5", "--max-new-tokens", "9", "--out", answers]) == 0
    attribute = ["attribute", str(tiny / "base"), "--answers", answers, "--wrong-too", "--t-cut", "6", "--out", out]
    assert main(attribute) == 0
    whole = EdgeScores.load(out)
    capsys.readouterr()
    assert main([*attribute, "--by-span", "--step-end", "[0-9]"]) == 0
    scores = SpanScores.load(out)
    assert relative_error(scores.whole().values, whole.values) < 1e-5
    assert scores.n_steps > 1
    printed = capsys.readouterr().out
    assert f"5 answers, first 6 tokens, {len(scores.span)} spans, {whole.graph.n_edges} edges" in printed
    mean = metrics.activation_intensity(whole).mean()
    assert re.search(rf"prompt: 5 answers, \S+ of a mean activation intensity of {mean:.4g}\n", printed)
    assert main([*attribute, "--by-span", "--step-end", "; "]) == 0
    said = capsys.readouterr().err
    assert "step_end '; ' matches no token of 5 answers, so that each answer is one step" in said
    assert SpanScores.load(out).n_steps == 1
    for options, words in (
        (["--step-end", "x"], "which only --by-span asks for"),
        (["--by-span", "--step-end", "("], "is no regular expression"),
    ):
        assert main([*attribute, *options]) == 2
        assert words in capsys.readouterr().err
    # Through a store, twice: the second time from what is kept.
    kept = tmp_path / "store"
    for _ in range(2):
        Path(out).unlink()
        assert main([*attribute, "--by-span", "--step-end", "[0-9]", "--store", str(kept)]) == 0
        torch.testing.assert_close(SpanScores.load(out).values, scores.values)
    assert len(list(kept.glob("*/spans.safetensors"))) == 1


def test_attribute_with_a_metric_and_counterfactuals(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, other = str(tiny / "base"), str(tiny / "tuned")
    answers, scores = str(tmp_path / "answers.jsonl"), str(tmp_path / "scores.safetensors")
    assert main(["answer", model, "--count", "5", "--max-new-tokens", "6", "--out", answers]) == 0
    items = [item for item in Answers.load(answers).items if item.answer_ids]
    file = tmp_path / "counterfactuals.jsonl"
    lines = [{"id": item.question_id, "counterfactual": f"{item.question_id[::-1]}?"} for item in items]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    attribute = ["attribute", model, "--answers", answers, "--out", scores, "--wrong-too", "--t-cut", "3"]

    kl = ["--metric", "kl", "--reference", other]
    patched = ["--counterfactuals", str(file), "--method", "eap-ig", "--steps", "2"]
    assert main([*attribute, *kl, *patched, "--store", str(tmp_path / "store")]) == 0
    assert "kl: mean " in capsys.readouterr().out
    found = EdgeScores.load(scores)
    sequences = [AnswerSequence(item.prompt_ids, item.answer_ids[:3]) for item in items]
    tokenizer = CheckpointSource(model).tokenizer()
    plus = int(tokenizer("+")["input_ids"][0])
    prompts = [tuple(tokenizer(line["counterfactual"])["input_ids"]) for line in lines]
    corrupted = [AnswerSequence(p, s.answer_ids) for p, s in zip(prompts, sequences, strict=True)]
    wanted = rlcircuits.attribute(
        Checkpoint.load(model, device="cpu"),
        sequences,
        metric=rlcircuits.kl_to(CheckpointSource(other, device="cpu")),
        corrupted=corrupted,
        method="eap-ig",
        steps=2,
    )
    torch.testing.assert_close(found.values, wanted.values)
    assert found.how == wanted.how

    foils = tmp_path / "foils.jsonl"
    wrong = [{"id": item.question_id, "foil": "+" if item.answer_ids[0] != plus else "-"} for item in items]
    foils.write_text("".join(f"{json.dumps(line)}\n" for line in wrong), encoding="utf-8")
    assert main([*attribute, "--metric", "logit_diff", "--foils", str(foils)]) == 0
    tokens = [int(tokenizer(line["foil"])["input_ids"][0]) for line in wrong]
    metric = rlcircuits.logit_diff(foil=tokens)
    wanted = rlcircuits.attribute(Checkpoint.load(model, device="cpu"), sequences, metric=metric)
    torch.testing.assert_close(EdgeScores.load(scores).values, wanted.values)

    for options, message in (
        (["--foils", str(foils)], "--foils is of --metric logit_diff"),
        (["--metric", "logit_diff", "--foils", str(file)], "field 'foil' is missing"),
        (["--metric", "kl"], "--metric kl needs --reference"),
        (["--reference", other], "--metric kl alone needs --reference"),
        (["--method", "eap-ig"], "needs corrupted sequences"),
        ([*patched[:-1], "0"], "--steps is 0; a whole number from 1 to 1,000 is wanted"),
        (["--counterfactuals", str(tmp_path / "none.jsonl")], "none.jsonl"),
        (["--steps", "2"], "steps is 2, and the method is 'eap', which takes no steps on a path"),
        (["--points", "left"], "points is 'left', and the method is 'eap'"),
        (["--rules", "lrp"], "rules holds 'lrp'; each must be one of norm_scale, "),
        (["--rules", "attention,qkv_shares"], "rules holds attention and qkv_shares"),
    ):
        assert main([*attribute, *options]) == 2
        assert message in capsys.readouterr().err, options
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines[1:]), encoding="utf-8")
    assert main([*attribute, "--counterfactuals", str(file)]) == 2
    assert "questions have no counterfactual" in capsys.readouterr().err


def test_attribute_with_rules(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(tiny / "base")
    answers, scores = str(tmp_path / "answers.jsonl"), str(tmp_path / "scores.safetensors")
    assert main(["answer", model, "--count", "4", "--max-new-tokens", "4", "--out", answers]) == 0
    attribute = ["attribute", model, "--answers", answers, "--out", scores, "--wrong-too", "--t-cut", "3"]
    for given, rules in (("gim", rlcircuits.GIM), ("norm_scale, gate_half", ("norm_scale", "gate_half"))):
        assert main([*attribute, "--rules", given]) == 0
        found = EdgeScores.load(scores)
        sequences = [
            AnswerSequence(i.prompt_ids, i.answer_ids[:3]) for i in Answers.load(answers).items if i.answer_ids
        ]
        wanted = rlcircuits.attribute(Checkpoint.load(model, device="cpu"), sequences, rules=rules)
        torch.testing.assert_close(found.values, wanted.values)
        assert found.how == wanted.how
    capsys.readouterr()


def test_report_of_many_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        save_comparison(made_up_comparison(name), tmp_path / name)
    assert main(["report", str(tmp_path), "--plot", str(tmp_path / "plot.svg")]) == 0
    out = capsys.readouterr().out
    assert sum("verdict" in line and "before → after" in line for line in out.splitlines()) == 1
    assert all((tmp_path / f"plot-{name}.svg").exists() for name in ("one", "two"))
    assert "was not finished" not in out


def test_report_counts_no_pair_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The copy of a pair's folder is no further evidence, and would replace the pair's plot."""
    for folder in ("one", "one-old"):
        save_comparison(made_up_comparison("one"), tmp_path / folder)
    assert main(["report", str(tmp_path), "--plot", str(tmp_path / "plot.svg")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"one-old/comparison.json: field 'comparison.name' is 'one', as in {tmp_path}/one/" in printed.err
    assert not list(tmp_path.glob("plot*"))
    assert main(["report", str(tmp_path / "one-old")]) == 0


def test_report_names_a_pair_that_was_not_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half = tmp_path / "half"
    for folder in (half, tmp_path / "store"):
        folder.mkdir()
    for file in (half / "before.answers.jsonl", tmp_path / "store" / "base-arithmetic-test-0.jsonl"):
        file.touch()
    words = f"{half}: holds a pair's answers and no comparison.json: the pair was not finished; give the command that"
    assert main(["report", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err
    save_comparison(made_up_comparison("one"), tmp_path / "one")
    page = tmp_path / "page.html"
    assert main(["report", str(tmp_path), "--html", str(page)]) == 0
    assert capsys.readouterr().out == f"page: {page}\n"
    assert main(["report", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "outcome: no verdict"
    assert lines[1].startswith("why:     half was not finished; what was measured holds: ")
    assert lines[2] == "next:    give the command that measured it again, which goes on where it stopped"
    assert next(line for line in lines[3:] if line.startswith("no verdict: half was not finished; what was measured"))
    assert "half was not finished; what was measured holds: " in page.read_text(encoding="utf-8")
    # The folder of one pair has no other pair.
    assert main(["report", str(tmp_path / "one")]) == 0
    assert capsys.readouterr().out.startswith("outcome: holds\n")
