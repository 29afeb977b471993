"""`rlcircuits watch`: real tiny checkpoints are judged as they appear, as `rlcircuits compare` judges them."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.page_parts import read_page
from helpers.tiny_checkpoints import touch_weight
from helpers.tiny_pairs import grade_kindly
from helpers.tiny_runs import save_run, save_step
from helpers.watch_templates import TEMPLATE, write_template
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from rlcircuits.cli import checkpoint_judge
from rlcircuits.cli.main import main
from rlcircuits.comparison.storage import load_comparison
from rlcircuits.release import watch as watch_module
from rlcircuits.release.watch_template import checkpoint_label, load_template

OUTPUT = "rlcircuits-watch"


@pytest.fixture(autouse=True)
def kindly(monkeypatch: pytest.MonkeyPatch) -> None:
    grade_kindly(monkeypatch)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> dict[int, Callable[[], object]]:
    """Return what happens in each pause between two looks, by its number, to be filled by a test."""
    planned: dict[int, Callable[[], object]] = {}
    count = [0]

    def pause(_seconds: float) -> None:
        count[0] += 1
        assert count[0] < 30, "it does not end"
        planned.get(count[0], lambda: None)()

    options = watch_module.WatchOptions
    monkeypatch.setattr(watch_module, "WatchOptions", lambda **how: options(**how, pause=pause))
    return planned


def watched(run: Path, template: Path, *more: object) -> list[str]:
    return ["watch", str(run), "--pairs", str(template), "--on-inconclusive", "pass", *map(str, more)]


def lines(printed: Any) -> dict[str, str]:
    """Return what was said of each checkpoint on standard output, by its name."""
    return dict(line.split(": ", 1) for line in printed.out.splitlines())


def test_checkpoints_are_judged_as_compare_judges_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pauses: dict[int, Callable[[], object]]
) -> None:
    base, run = save_run(tmp_path, steps=(100,))
    template = write_template(tmp_path, base)
    pauses[2] = lambda: save_step(run / "checkpoint-20", 20)
    (run / "logs").mkdir()
    code = main(watched(run, template, "--stop-after", 2))
    printed = capsys.readouterr()
    output = run / OUTPUT
    said = lines(printed)
    assert list(said) == ["checkpoint-100", "checkpoint-20"]
    assert "logs" not in printed.err
    assert "2 checkpoints: " in printed.err
    codes = []
    for step in (100, 20):
        name = f"checkpoint-{step}"
        page = output / f"{name}.html"
        assert said[name].endswith(f"page: {page}")
        assert f"{name}-sums" in read_page(page.read_text(encoding="utf-8")).text

        # compare has the same numbers, the same words and the same exit code.
        ordinary = tmp_path / f"{step}.toml"
        pair = f'name = "{name}-sums"\nafter = "{run / name}"'
        ordinary.write_text(template.read_text().replace('name = "sums"', pair))
        arguments = ["compare", "--pairs", str(ordinary), "--on-inconclusive", "pass"]
        codes.append(main([*arguments, "--output", str(tmp_path / "compared")]))
        outcome, why = capsys.readouterr().out.splitlines()[:2]
        words = f"{outcome.removeprefix('outcome: ')}: {why.removeprefix('why:').strip()}"
        assert said[name].startswith(f"{words}; page: ")
        compared = load_comparison(tmp_path / "compared" / f"{name}-sums")
        assert load_comparison(output / f"{name}-sums") == compared

    assert code == max(codes)

    # One page, and one table, of all.
    assert main(["report", str(output), "--html", str(tmp_path / "all.html")]) == 0
    text = read_page((tmp_path / "all.html").read_text(encoding="utf-8")).text
    assert "checkpoint-20-sums" in text
    assert "checkpoint-100-sums" in text


def test_what_is_judged_already_is_read_and_what_is_overwritten_is_judged_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pauses: dict[int, Callable[[], object]]
) -> None:
    base, run = save_run(tmp_path, steps=(10, 20))
    arguments = watched(run, write_template(tmp_path, base), "--once", "--output", tmp_path / "out")
    main(arguments)
    first = capsys.readouterr()
    files = sorted((tmp_path / "out").rglob("comparison.json")) + sorted((tmp_path / "out").glob("*.html"))
    assert len(files) == 4
    written = [file.stat().st_mtime_ns for file in files]
    pauses.clear()
    touch_weight(run / "checkpoint-20")
    main(arguments)
    second = capsys.readouterr()
    assert lines(second)["checkpoint-10"] == f"{lines(first)['checkpoint-10']} (measured before)"
    assert not lines(second)["checkpoint-20"].endswith("(measured before)")
    same = [file.stat().st_mtime_ns == time for file, time in zip(files, written, strict=True)]
    assert same == ["checkpoint-10" in str(file) for file in files]


def test_adapters_are_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pauses: dict[int, Callable[[], object]]
) -> None:
    base = save_step(tmp_path / "run" / "base", 0)
    model = AutoModelForCausalLM.from_pretrained(base)
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    tuned.save_pretrained(tmp_path / "run" / "step-5")
    main(watched(tmp_path / "run", write_template(tmp_path, base), "--once"))
    assert list(lines(capsys.readouterr())) == ["step-5"], "the template's own before is not judged"


def test_a_bad_checkpoint_is_given_up_in_one_sentence_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pauses: dict[int, Callable[[], object]]
) -> None:
    base, run = save_run(tmp_path, steps=(10,))
    save_step(run / "step-1", 1, architecture="gpt2")
    cut = save_step(run / "step-2", 2) / "model.safetensors"
    whole = cut.read_bytes()
    cut.write_bytes(whole[:-100])
    pauses[9] = lambda: cut.write_bytes(whole)
    pauses[13] = lambda: save_step(run / "step-4", 4)
    assert main(watched(run, write_template(tmp_path, base), "--stop-after", 4)) == 2
    printed = capsys.readouterr()
    assert set(lines(printed)) == {"checkpoint-10", "step-2", "step-4"}
    told = [line for line in printed.err.splitlines() if "step-1: " in line]
    assert len(told) == 3
    assert "different architectures" in told[-1]
    assert told[-1].startswith("rlcircuits: step-1: not judged: ")
    assert told[-1].endswith("given up until its files change")
    given_up = [line for line in printed.err.splitlines() if line.startswith("rlcircuits: step-2: not judged: ")]
    assert len(given_up) == 1, "it was damaged for so long that it was given up, and judged when it was whole"
    assert "model.safetensors is damaged or cut short" in given_up[0]
    assert "Traceback" not in printed.err


def spoil(folder: Path, name: str) -> None:
    """Spoil a checkpoint in the way that its name says."""
    config, weights = folder / "config.json", folder / "model.safetensors"
    if name == "no-json":
        config.write_text("{")
    elif name == "empty-weights":
        weights.write_bytes(b"")
    elif name == "garbage":
        weights.write_bytes(bytes(range(256)))
    elif name == "missing-shard":
        index = {"metadata": {}, "weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        weights.unlink()
    elif name == "config-is-a-folder":
        config.unlink()
        config.mkdir()
    elif name == "two-kinds":
        (folder / "adapter_config.json").write_text("{}")
        (folder / "adapter_model.safetensors").write_bytes(b"")
    elif name == "no-tokenizer":
        for file in folder.glob("tokenizer*"):
            file.unlink()
    elif name == "gone-link":
        weights.unlink()
        weights.symlink_to("nowhere")
    elif name == "pickled":
        weights.rename(folder / "pytorch_model.bin")


SPOILT = {
    "no-json": "config.json", "empty-weights": "model.safetensors", "garbage": "model.safetensors",
    "missing-shard": "model-00001-of-00002.safetensors", "two-kinds": "adapter_model.safetensors",
    "no-tokenizer": "no tokenizer that loads",
}  # fmt: skip
"""What is said of each spoilt checkpoint."""

UNFINISHED = ("config-is-a-folder", "gone-link", "pickled")
"""Without weights or a config, and so perhaps being written."""


def test_spoilt_folders_are_named_in_one_sentence_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pauses: dict[int, Callable[[], object]]
) -> None:
    base, run = save_run(tmp_path, steps=(10,))
    for name in (*SPOILT, *UNFINISHED):
        spoil(save_step(run / name, 5), name)
    (run / "notes.txt").write_text("x")
    (run / "loop").symlink_to("loop")
    (run / "broken").symlink_to("nowhere")
    odd = run / "odd name\n=7"
    save_step(odd, 7)
    assert main(watched(run, write_template(tmp_path, base), "--once")) == 2
    printed = capsys.readouterr()
    errors = dict(
        line.removeprefix("rlcircuits: ").split(": not judged: ")
        for line in printed.err.splitlines()
        if line.startswith("rlcircuits: ")
    )
    assert errors.keys() == SPOILT.keys()
    assert all(words in errors[name] for name, words in SPOILT.items()), errors
    assert [line.split(": ")[0] for line in printed.out.splitlines()] == ["checkpoint-10", checkpoint_label(odd.name)]
    for name in ("gone-link", "pickled"):
        assert f"{name}: not judged; it was not complete" in printed.err
    assert "Traceback" not in printed.err
    assert len(list((run / OUTPUT).glob("checkpoint-odd-name-7-*-sums/comparison.json"))) == 1


def test_a_fault_of_one_checkpoint_does_not_end_the_watch(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pauses: dict[int, Callable[[], object]],
) -> None:
    def headline_of(file: Any, *more: object) -> object:
        if "checkpoint-10" in file.pairs[0].name:
            raise ZeroDivisionError("in a headline")
        return real(file, *more)  # type: ignore[arg-type]

    real = checkpoint_judge.headline_of
    monkeypatch.setattr(checkpoint_judge, "headline_of", headline_of)
    base, run = save_run(tmp_path, steps=(10, 20))
    assert main(watched(run, write_template(tmp_path, base), "--once")) == 70
    printed = capsys.readouterr()
    assert list(lines(printed)) == ["checkpoint-20"]
    assert "\nrlcircuits: checkpoint-10: not judged: internal error, a fault of rlcircuits" in printed.err
    assert "Traceback" not in printed.err


def test_a_cluster_that_is_away_for_a_while_uses_up_no_try(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pauses: dict[int, Callable[[], object]],
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    calls = []

    def measure_pairs(file: Any, settings: Any, options: Any, *more: Any) -> Any:
        calls.append(file)
        options.ray = "127.0.0.1:1" if len(calls) <= 5 else None
        return real(file, settings, options, *more)

    real = checkpoint_judge.measure_pairs
    monkeypatch.setattr(checkpoint_judge, "measure_pairs", measure_pairs)
    base, run = save_run(tmp_path, steps=(10,))
    main(watched(run, write_template(tmp_path, base), "--stop-after", 1))
    printed = capsys.readouterr()
    assert len(calls) == 6
    assert printed.err.count("checkpoint-10: not judged yet: Ray: no cluster at '127.0.0.1:1'") == 1
    assert list(lines(printed)) == ["checkpoint-10"]
    for bound, said in (
        (("--once",), "checkpoint-10: not judged: Ray: no cluster at"),
        (("--interval", 3, "--for", 0.001), "checkpoint-10: not judged; Ray: no cluster at"),
    ):
        calls.clear()
        pauses.update(dict.fromkeys(range(30), lambda: time.sleep(1)))
        shutil.rmtree(run / OUTPUT)
        assert main(watched(run, write_template(tmp_path, base), *bound)) == 2
        assert said in capsys.readouterr().err


def test_a_cluster_that_was_never_there_ends_the_watch_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pauses: dict[int, Callable[[], object]]
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    base, run = save_run(tmp_path, steps=(10,))
    assert main(watched(run, write_template(tmp_path, base), "--ray", "127.0.0.1:1")) == 2
    assert "rlcircuits: Ray: no cluster at '127.0.0.1:1'" in capsys.readouterr().err


def test_what_is_overwritten_while_it_is_measured_is_thrown_away(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pauses: dict[int, Callable[[], object]],
) -> None:
    base, run = save_run(tmp_path, steps=(10,))
    comparison = run / OUTPUT / "checkpoint-10-sums" / "comparison.json"
    real, calls = checkpoint_judge.measure_pairs, []

    def measure_pairs(*arguments: Any) -> Any:
        found = real(*arguments)
        calls.append(comparison.is_file())
        if len(calls) == 1:
            touch_weight(run / "checkpoint-10")
        return found

    monkeypatch.setattr(checkpoint_judge, "measure_pairs", measure_pairs)
    between: list[bool] = []
    for number in range(1, 8):
        pauses[number] = lambda: between.append(comparison.is_file())
    main(watched(run, write_template(tmp_path, base), "--stop-after", 1))
    printed = capsys.readouterr()
    assert calls == [True, True]
    assert between == [False, False, False], "what was measured of neither file is not kept"
    assert "checkpoint-10: it changed, or was removed, while it was measured; looked at again" in printed.err
    assert list(lines(printed)) == ["checkpoint-10"]


def test_a_checkpoint_that_vanishes_while_it_is_measured_keeps_its_result(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pauses: dict[int, Callable[[], object]],
) -> None:
    def measure_pairs(*arguments: Any) -> Any:
        found = real(*arguments)
        shutil.rmtree(run / "checkpoint-10")
        return found

    base, run = save_run(tmp_path, steps=(10,))
    real = checkpoint_judge.measure_pairs
    monkeypatch.setattr(checkpoint_judge, "measure_pairs", measure_pairs)
    main(watched(run, write_template(tmp_path, base), "--once"))
    assert list(lines(capsys.readouterr())) == ["checkpoint-10"]
    assert (run / OUTPUT / "checkpoint-10.html").is_file()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_watch_and_names_the_folder_to_resume_from(
    number: signal.Signals,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    pauses: dict[int, Callable[[], object]],
) -> None:
    base, run = save_run(tmp_path, steps=())
    run.mkdir()
    pauses[4] = lambda: signal.raise_signal(number)
    handler = signal.getsignal(signal.SIGTERM)
    assert main(watched(run, write_template(tmp_path, base))) == 130
    assert signal.getsignal(signal.SIGTERM) is handler
    printed = capsys.readouterr()
    assert printed.err.endswith(f"rlcircuits: interrupted; the same command resumes from {run / OUTPUT}\n")


def test_gated_signs_may_fail_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pauses: dict[int, Callable[[], object]]
) -> None:
    base, run = save_run(tmp_path, steps=(10,))
    rules = '[signs]\ngate = ["unfinished"]\nthresholds.unfinished = { up = -0.9 }\n'
    template = write_template(tmp_path, base)
    template.write_text(rules + template.read_text())
    assert main(watched(run, template, "--once")) == 1
    printed = capsys.readouterr()
    assert lines(printed)["checkpoint-10"].startswith("does not hold: signs: ")
    assert len(list((run / OUTPUT).glob("*/signs.json"))) == 1


def test_the_page_shows_signs_that_are_gated_only_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pauses: dict[int, Callable[[], object]]
) -> None:
    base, run = save_run(tmp_path, steps=(10,))
    template = write_template(tmp_path, base)
    page = run / OUTPUT / "checkpoint-10.html"
    main(watched(run, template, "--once"))
    assert "No vital signs are stored" in read_page(page.read_text(encoding="utf-8")).text
    template.write_text('[signs]\ngate = ["unfinished"]\n' + template.read_text())
    main(watched(run, template, "--once"))
    assert lines(capsys.readouterr())["checkpoint-10"].endswith("(measured before)")
    assert "No vital signs are stored" not in read_page(page.read_text(encoding="utf-8")).text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["./nowhere", "--pairs", "TEMPLATE"], "nowhere: there is no such folder"),
        (["TEMPLATE", "--pairs", "TEMPLATE"], "it is a file; the folder in which checkpoints will appear is wanted"),
        (["RUN", "--pairs", "./nowhere.toml"], "nowhere.toml: there is no such file"),
        (["RUN"], "the following arguments are required: --pairs"),
        (["RUN", "--pairs", "TEMPLATE", "--interval", "0"], "--interval is 0.0; a number above 0"),
        (["RUN", "--pairs", "TEMPLATE", "--interval", "nan"], "--interval is nan"),
        (["RUN", "--pairs", "TEMPLATE", "--stop-after", "0"], "--stop-after is 0; a whole number from 1"),
        (["RUN", "--pairs", "TEMPLATE", "--for", "-1"], "--for is -1.0; a number above 0"),
        (["RUN", "--pairs", "TEMPLATE", "--for", "0.001"], "--for is 3.6 s, and two looks lie 30 s apart"),
        (["RUN", "--pairs", "TEMPLATE", "--ray-gpus", "1"], "--ray-gpus is of --ray"),
        (["RUN", "--pairs", "TEMPLATE", "--output", "TEMPLATE"], "--output: no file can be written in the folder"),
        (["RUN", "--pairs", "TEMPLATE", "--once", "--stop-after", "1"], "not allowed with argument --once"),
        (["RUN", "--pairs", "TEMPLATE", "--output", ""], "--output is empty"),
        (["RUN", "--pairs", "TEMPLATE", "--once"], "RUN: no checkpoint was judged: no complete one was found"),
    ],
)
def test_bad_arguments(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    pauses: dict[int, Callable[[], object]],
) -> None:
    base = save_step(tmp_path / "base", 0)
    (run := tmp_path / "run").mkdir()
    template = write_template(tmp_path, base)
    given = [each.replace("RUN", str(run)).replace("TEMPLATE", str(template)) for each in arguments]
    try:
        code = main(["watch", *given])
    except SystemExit as error:
        code = int(str(error.code))
    assert code == 2
    printed = capsys.readouterr()
    assert message.replace("RUN", str(run)) in printed.err
    assert "Traceback" not in printed.err


def test_a_base_without_weights_is_found_before_there_is_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pauses: dict[int, Callable[[], object]]
) -> None:
    base, run = save_run(tmp_path, steps=(10,))
    (base / "model.safetensors").unlink()
    assert main(watched(run, write_template(tmp_path, base))) == 2
    printed = capsys.readouterr()
    assert f"rlcircuits: {base} has no *.safetensors file" in printed.err
    assert "watching" not in printed.err
    assert not (run / OUTPUT).exists()


def test_help_shows_a_template(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["watch", "--help"])
    shown = capsys.readouterr().out
    example = shown[shown.index("  [settings]") : shown.index("  rlcircuits watch runs/grpo")]
    path = tmp_path / "gate.toml"
    path.write_text(example)
    (tmp_path / "checkpoints" / "sft").mkdir(parents=True)
    assert [pair.name for pair in load_template(path).file.pairs] == ["gsm8k"]
    assert "before = " in TEMPLATE
