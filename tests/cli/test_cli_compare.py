"""`rlcircuits compare` on real tiny models: tables, JSON, what is stored, exit codes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cli_runs import compare_arguments
from helpers.synthetic_comparisons import made_up_comparison

from rlcircuits.cli.main import main
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.storage import load_comparison
from rlcircuits.comparison.verdict import judge
from rlcircuits.graph import metrics
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.release.pair import Pair


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
    assert main(["report", str(tmp_path), "--plot", str(plot), "--html", str(page), "-v"]) == 0
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
def test_compare_with_circuits(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(compare_arguments(tiny, "--balance", "2", "--output", str(tmp_path), "--circuits")) == 0
    printed = capsys.readouterr()
    assert "f_after(C_before)" in printed.out
    assert "scores against exact effects of removing one edge: top " in printed.out
    assert "base-to-tuned: before: single edges are removed on 10 answers" in printed.err
    assert load_comparison(tmp_path / "base-to-tuned").circuits is not None
    assert main(["report", str(tmp_path)]) == 0
    assert "f_after(C_before)" in capsys.readouterr().out
    # A file of pairs that say nothing of circuits, and one that says it of itself.
    file = tmp_path / "pairs.toml"
    table = f'[[pair]]\nbefore = "{tiny / "base"}"\nafter = "{tiny / "tuned"}"\nalgorithm = "dpo"\nname = '
    file.write_text(f'{table}"one"\n{table}"two"\ncircuits.size = 0.9\ncircuits.minimum_overlap = 0.1\n')
    arguments = ["compare", "--pairs", str(file), *compare_arguments(tiny, "--balance", "2")[7:], "--json"]
    assert main([*arguments, "--circuits"]) in (0, 1, 3)
    documents = json.loads(capsys.readouterr().out)
    assert [each["comparison"]["circuits"]["size"] for each in documents] == [0.5, 0.9]
    assert ["circuit-overlap" in each["verdict"]["findings"] for each in documents] == [False, True]
    assert main(arguments) in (0, 1, 3)
    assert "circuits" not in json.loads(capsys.readouterr().out)[0]["comparison"]


@pytest.mark.usefixtures("all_right")
def test_one_table_of_whose_answers_are_scored(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = compare_arguments(tiny, "--balance", "2", "--score-on", "all", "--output", str(tmp_path))
    code = main(arguments)
    out = capsys.readouterr().out
    table = out.split("base-to-tuned, by whose answers are scored\n")[1].splitlines()[:6]
    words = ("each model's own answers", "before's answers, by", "after's answers, by", "the gold answers, by")
    assert [row.startswith(word) for row, word in zip(table[2:], words, strict=True)] == [True] * 4
    # The verdict is that of the paper's way.
    own = load_comparison(tmp_path / "base-to-tuned")
    assert code == {"holds": 0, "does not hold": 1, "inconclusive": 3}[judge(own).outcome]
    assert main(["report", str(tmp_path)]) == 0
    assert "\n".join(table) in capsys.readouterr().out
    assert load_comparison(tmp_path / "base-to-tuned-on-gold").score_on == "gold"


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
    """Accuracy is told, with what is missing of the metrics; the release is inconclusive, though DPO's asserts none."""
    assert main(compare_arguments(tiny, "--no-stop-early")) == 3
    shown = capsys.readouterr()
    wanted = "base-to-tuned: 0 questions are left to compare and at least 20 are needed: asked 130 →"
    assert shown.err.splitlines()[-1].startswith(wanted)
    outcome, why, next_step, *table = shown.out.splitlines()
    assert outcome == "outcome: inconclusive"
    assert why == (
        "why:     0 questions are left to compare and at least 20 are needed, so the metrics were not measured"
    )
    assert "read the answers of base-to-tuned's before and after, none of which is right" in next_step
    rows = [line for line in table if "measured" in line or "accuracy " in line]
    assert "accuracy     0.000 → 0.000" in rows[0]
    assert rows[0].endswith("did not fall")
    assert all(row.endswith("not measured (inconclusive)") for row in rows if " intensity " in row)
    assert sum(row.endswith("inconclusive: the metrics were not measured") for row in rows) == 1


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


def test_only_some_pairs_of_a_file_are_measured(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(compare_arguments(tiny, "--only", "base*")) == 2
    assert "--only was given without --pairs FILE.toml" in capsys.readouterr().err
    pairs = [
        f'[[pair]]\nname = "{name}"\nbefore = "{tiny / "base"}"\nafter = "{tiny / "tuned"}"\nalgorithm = "grpo"\n'
        for name in ("one", "two")
    ]
    (tmp_path / "pairs.toml").write_text("[settings]\nquestion_count = 4\nnoise_draws = 0\n" + "".join(pairs))
    output = tmp_path / "out"
    main(["compare", "--pairs", str(tmp_path / "pairs.toml"), "--only", "two", "--output", str(output)])
    assert f"1 of the 2 pairs of {tmp_path / 'pairs.toml'}, chosen by --only\n" in capsys.readouterr().err
    assert not (output / "one").exists()
    assert main(["signs", str(output), "--only", "two"]) == 2
    assert "--only chooses pairs of --pairs FILE.toml" in capsys.readouterr().err
