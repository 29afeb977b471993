"""`rlcircuits track`: a run of real tiny checkpoints is measured step by step, and only what is new."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from contextlib import nullcontext
from pathlib import Path

import jsonschema
import pytest
from helpers.page_parts import read_page
from helpers.tiny_pairs import grade_kindly
from helpers.tiny_runs import QUICK, save_run, save_step
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from rlcircuits.cli.main import main
from rlcircuits.comparison.storage import load_comparison
from rlcircuits.release import measured_signs
from rlcircuits.release import track as track_module
from rlcircuits.release.pair import make_pair
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import make_settings
from rlcircuits.report.schema_files import read_schema
from rlcircuits.runners import cluster, ray_runner


@pytest.fixture(autouse=True)
def kindly(monkeypatch: pytest.MonkeyPatch) -> None:
    grade_kindly(monkeypatch)


def followed(*arguments: object) -> list[str]:
    return ["track", *map(str, arguments), *QUICK]


def written(output: Path) -> dict[str, int]:
    return {file.parent.name: file.stat().st_mtime_ns for file in sorted(output.glob("step-*/comparison.json"))}


def test_a_run_is_followed_and_only_new_checkpoints_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, run = save_run(tmp_path, steps=(10, 20))
    output = run / "rlcircuits"
    assert main(followed(run, "--base", base, "--json")) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    jsonschema.Draft202012Validator(json.loads(read_schema("track"))).validate(document)
    assert [step["step"] for step in document["steps"]] == [10, 20]
    assert re.search(r"step 10, 1 of 2, measured in \d+ s, about [1-9]\d* (s|min) for the 1 left", printed.err)
    assert "step 20, 2 of 2, measured in" in printed.err
    answers = list((output / "store").glob("*-arithmetic-*.jsonl"))
    assert len(answers) == 3, "the base answers once"

    # Each step is what the pair alone would give.
    settings = make_settings(
        {
            "question_count": 24, "noise_draws": 0, "min_questions": 5, "alpha": 0.5, "balance": 2.0, "device": "cpu",
            "sampling": {"n": 1, "max_new_tokens": 6},
        }
    )  # fmt: skip
    after = str(run / "checkpoint-20")
    pair = make_pair(name="step-000020", before=str(base), after=after, algorithm="grpo", questions="arithmetic")
    assert load_comparison(output / "step-000020") == run_pair(pair, settings)

    # A trainer saves the next checkpoint, and deletes the first.
    earlier = written(output)
    save_step(run / "checkpoint-30", 30)
    shutil.rmtree(run / "checkpoint-10")
    page, plot = tmp_path / "page.html", tmp_path / "plot.png"
    assert main(followed(run, "--html", page, "--plot", plot)) == 0
    printed = capsys.readouterr()
    assert "step 30, 2 of 2, measured in" in printed.err
    assert "step 20" not in printed.err
    assert f"against {base}" in printed.err, "the base is remembered"
    rows = [line.split()[0] for line in printed.out.splitlines() if line.lstrip()[:2] in ("10", "20", "30")]
    assert rows == ["10", "20", "30"]
    assert {name: time for name, time in written(output).items() if name in earlier} == earlier
    assert plot.read_bytes()[1:4] == b"PNG"
    check_page(page)


def check_page(page: Path) -> None:
    """Check that the page's elements nest, that all steps and measures are on it, and that it fetches nothing."""
    text = page.read_text(encoding="utf-8")
    root = read_page(text)
    for words in ("Step 30 against the base", "activation intensity", "distribution kurtosis", "step 20: "):
        assert words in root.text, words
    assert "http://" not in text
    assert "https://" not in text


def test_an_interrupted_run_loses_no_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, run = save_run(tmp_path)
    output = tmp_path / "out"
    arguments = followed(run, "--base", base, "--output", output, "--no-signs", "--csv")
    measured: list[str] = []

    def interrupted(pair: object, *more: object, **how: object) -> object:
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(pair.name)  # type: ignore[attr-defined]
        return run_pair(pair, *more, **how)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(track_module, "run_pair", interrupted)
        assert main(arguments) == 130
    assert f"resumes from {output}" in capsys.readouterr().err
    earlier = written(output)
    assert list(earlier) == measured == ["step-000010", "step-000020"]
    assert main(arguments) == 0
    assert {name: written(output)[name] for name in earlier} == earlier
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["step"] for row in rows} == {"10", "20", "30"}
    assert {row["kind"] for row in rows} == {"measure"}


def test_adapters_are_compared_with_their_base_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = save_step(tmp_path / "base", 0)
    for step in (5, 10):
        model = AutoModelForCausalLM.from_pretrained(base)
        tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
        tuned.save_pretrained(tmp_path / "run" / f"checkpoint-{step}")
    assert main(followed(tmp_path / "run", "--no-models", "--csv")) == 0
    printed = capsys.readouterr()
    assert f"2 checkpoints against {base}" in printed.err
    assert {row["step"] for row in csv.DictReader(io.StringIO(printed.out))} == {"5", "10"}
    assert "anew" not in printed.err
    other = [*followed(tmp_path / "run", "--no-models", "--csv"), "--question-count", "23"]
    assert main(other) == 2
    assert "--replace" in capsys.readouterr().err
    assert main([*other, "--replace"]) == 0
    assert "step 5, 1 of 2, measured anew (its results were of other options" in capsys.readouterr().err


def test_a_fault_in_its_signs_leaves_a_step_its_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **how: object) -> None:
        raise ZeroDivisionError("in a sign")

    monkeypatch.setattr(measured_signs, "measure_pair_signs", fail)
    base, run = save_run(tmp_path, steps=(10,))
    assert main(followed(run, "--base", base, "--output", tmp_path / "out", "--csv")) != 0
    printed = capsys.readouterr()
    assert {row["step"] for row in csv.DictReader(io.StringIO(printed.out))} == {"10"}
    assert "step 10" in printed.err
    assert "its signs could not be measured: internal error, a fault of rlcircuits" in printed.err


def test_a_checkpoint_that_cannot_be_measured_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, run = save_run(tmp_path, steps=(10,))
    save_step(run / "checkpoint-5", 5, architecture="gpt2")
    assert main(followed(run, "--base", base, "--no-signs")) == 2
    printed = capsys.readouterr()
    assert "step 5: " in printed.err
    assert "different architectures" in printed.err
    assert "    10 " in printed.out


def test_an_output_folder_has_one_base_and_one_way_of_measuring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, run = save_run(tmp_path, steps=(10, 20))
    common = ("--no-signs", "--output", tmp_path / "out")
    assert main(followed(run, "--base", base, *common)) == 0
    assert main(followed(run, "--base", run / "checkpoint-10", *common)) == 2
    assert f"were compared with {base}, and the base is" in capsys.readouterr().err
    capsys.readouterr()
    shutil.rmtree(run / "checkpoint-10")
    assert main([*followed(run, *common), "--alpha", "0.6", "--replace"]) == 0
    printed = capsys.readouterr()
    assert "step 10: left out; its checkpoint is not among those of this call" in printed.err
    assert "    10 " not in printed.out


def test_options_of_another_measurement_are_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*arguments: object, **how: object) -> None:
        raise AssertionError("a step was measured")

    base, run = save_run(tmp_path, steps=(10,))
    output = tmp_path / "out"
    arguments = followed(run, "--base", base, "--no-signs", "--output", output)
    assert main(arguments) == 0
    save_step(run / "checkpoint-5", 5)  # a new one, which comes before the one that is there
    monkeypatch.setattr(track_module, "run_pair", measure)
    files = {file: file.stat().st_mtime_ns for file in output.rglob("*") if file.is_file()}
    for changed, found, wanted in (
        (["--alpha", "0.6"], "with --alpha 0.5", "with --alpha 0.6"),
        (["--greedy", "--n", "2"], "without --greedy and with --n 1", "with --greedy and with --n 2"),
        (["--rules", "relp"], "without --rules", "with --rules "),
        (["--metric", "logprob"], "with --metric cross_entropy", "with --metric logprob"),
        (["--max-new-tokens", "7"], "with --max-new-tokens 6", "with --max-new-tokens 7"),
        (["--system", "Be brief."], "without --system", "with --system Be brief."),
        (["--no-chat"], "without --no-chat", "with --no-chat"),
        (["--algorithm", "sft"], "with --algorithm grpo", "with --algorithm sft"),
        (["--accuracy", "equivalent", "--margin", "0.1"], "with --accuracy rose", "with --accuracy equivalent"),
    ):
        assert main([*arguments, *changed]) == 2
        printed = capsys.readouterr().err
        assert f"step-000010 was measured {found}" in printed
        assert f"would be measured again {wanted}" in printed
        assert printed.rstrip().endswith("; give the former options, another --output, or --replace")
        assert {file: file.stat().st_mtime_ns for file in output.rglob("*") if file.is_file()} == files


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "--algorithm", ""], "--algorithm is empty"),
        (["nowhere"], "nowhere: there is no such folder"),
        (["BASE"], "it is one checkpoint"),
        (["RUN", "--base", "./nowhere"], "--base: there is no folder"),
        (["RUN", "--plot", "x.jpg"], "must end in one of"),
        (["RUN/checkpoint-10", "BASE"], "--output is missing"),
        (["RUN", "--base", "BASE", "--engine", "openai"], "the steps of a run have no servers of their own"),
        (["RUN", "--base", "BASE", "--noise-if-needed"], "or leave the signs out with --no-signs"),
        (["RUN"], "is the only checkpoint that was found, and it is the base itself"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, run = save_run(tmp_path, steps=(10,))
    given = [each.replace("RUN", str(run)).replace("BASE", str(base)) for each in arguments]
    assert main(["track", *QUICK, *given]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"format": "rlcircuits-track-base", "version": 9, "base": "b", "fingerprint": "f"}', ""]
)
def test_a_damaged_record_of_the_base_is_named(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = save_run(tmp_path, steps=(10,))
    (run / "rlcircuits").mkdir()
    (run / "rlcircuits" / "track.json").write_text(content)
    assert main(followed(run)) == 2
    printed = capsys.readouterr().err
    assert "track.json: " in printed
    assert "give another --output, or remove it" in printed


def test_workers_do_not_touch_steps_of_another_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def submit(*arguments: object, **how: object) -> None:
        raise AssertionError("stages were submitted")

    base, run = save_run(tmp_path, steps=(10,))
    assert main(followed(run, "--base", base, "--output", tmp_path / "out", "--no-signs")) == 0
    save_step(run / "checkpoint-20", 20)
    monkeypatch.setattr(cluster, "early_connection", lambda _: nullcontext())
    monkeypatch.setattr(ray_runner, "RayRun", submit)
    other = followed(run, "--base", run / "checkpoint-10", "--output", tmp_path / "out")
    assert main([*other, "--ray", "local"]) == 2
    assert "holds steps that were compared with" in capsys.readouterr().err


def test_an_algorithm_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, run = save_run(tmp_path, steps=(10,))
    assert main(["track", str(run), "--base", str(base)]) == 2
    assert "--algorithm is missing" in capsys.readouterr().err
