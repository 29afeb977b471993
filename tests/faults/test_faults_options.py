"""Options of every command: every number, choice and path missing, malformed or out of range."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
from fault_check import FINISHED, PAIR, Fault, run
from valid_inputs import AFTER, BEFORE, answers, comparison, rollouts

KIND = "option"

NO_NUMBERS = {
    "empty": "", "blank": " ", "a word": "x", "two numbers": "1 2", "a list": "[1]", "hexadecimal": "0x10",
    "a comma": "1,5", "a unit": "10k", "5,000 digits": "9" * 5_000, "nan": "nan", "inf": "inf", "minus inf": "-inf",
    "1e400": "1e400", "minus one": "-1", "a line feed": "1\n2", "a lone byte": "\udcff", "10,000 letters": "x" * 10_000,
}  # fmt: skip
"""Values that every option for a number refuses."""

NO_WHOLE = {"a fraction": "2.5", "an exponent": "1e3", "31 digits": "1" + "0" * 30}
TOO_SMALL = {"zero": "0", "minus zero": "-0"}
NO_SHARE = {"too large": "1.5"}
NO_LARGE = {"1e300": "1e300"}

NO_WORDS = {
    "empty": "",
    "a word": "x",
    "another case": "OWN",
    "a number": "7",
    "10,000 letters": "x" * 10_000,
    "NUL": "\x00",
}
"""Values that every option for a choice refuses."""

NO_PATHS = {
    "a missing file": "missing/file", "a folder": "folder", "an empty file": "empty", "a device": "/dev/zero",
    "a full device": "/dev/full", "a broken link": "broken", "a link to itself": "loop", "a named pipe": "pipe",
    "a name that is too long": "x" * 300, "a file as a folder": "empty/file", "random bytes": "random",
    "a process's memory": "/proc/self/mem",
}  # fmt: skip
"""Values that every option for an input file refuses."""

NO_PLACES = {
    "a folder": "folder", "a device": "/dev/zero", "a full device": "/dev/full", "nothing": "/dev/null",
    "a named pipe": "pipe", "a file as a folder": "empty/file",
    "a name that is too long": "x" * 300, "a folder of the system": "/proc/file", "read only": "/sys/file",
}  # fmt: skip
"""Values that every option for an output file refuses."""

NO_TRACKERS = {
    "empty": "", "blank": " ", "no place": "tensorboard", "an empty place": "wandb:", "unknown": "mlflow:x",
    "NUL": "\x00:x", "a file as a folder": "tensorboard:empty", "a folder of the system": "tensorboard:/proc/x",
}  # fmt: skip
"""Values that an option for a tracker refuses."""

WHOLE = NO_NUMBERS | NO_WHOLE
POSITIVE = WHOLE | TOO_SMALL
SHARE = NO_NUMBERS | TOO_SMALL | NO_SHARE

COMPARE = (
    "compare", "--before", BEFORE, "--after", AFTER, "--algorithm", "grpo", "--name", PAIR, "--question-count", "20",
)  # fmt: skip
ANSWER = ("answer", BEFORE, "--out", "out.jsonl", "--count", "3")
ATTRIBUTE = ("attribute", BEFORE, "--answers", "answers.jsonl", "--out", "out.safetensors")
REPORT = ("report", "compared")
CIRCUITS = (
    "circuits", "--before", BEFORE, "--after", AFTER, "--algorithm", "grpo", "--name", PAIR, "--question-count", "20",
)  # fmt: skip
ROLLOUTS = ("signs", "--rollouts", "rollouts.jsonl")
ON_ROLLOUTS = (*ROLLOUTS, "--before", BEFORE, "--after", AFTER)
PATH = ("signs", "--path", BEFORE, *[AFTER] * 5)
WATCH = ("watch", "run", "--pairs", "gate.toml", "--interval", "0.01", "--for", "0.001")

SAMPLING: Mapping[str, Mapping[str, str]] = {
    "--temperature": NO_NUMBERS | NO_LARGE | {"nearly zero": "1e-300", "denormal": "5e-324", "tiny": "1e-30"},
    "--top-p": SHARE,
    "--sampling-seed": WHOLE,
    "--max-new-tokens": POSITIVE,
    "--n": POSITIVE,
    "--batch-size": POSITIVE,
    "--engine": NO_WORDS,
    "--questions": {
        "empty": "",
        "unknown": "riddles",
        "a missing file": "missing.jsonl",
        "a folder": "folder.jsonl",
        "an empty file": "empty.jsonl",
        "random bytes": "random.jsonl",
        "a named pipe": "pipe.jsonl",
    },
    "--split": {"empty": "", "unknown": "x"},
    "--template": {"empty": "", "no question": "x", "two questions": "{question}{question}"},
    "--few-shot": {name: path for name, path in NO_PATHS.items() if name != "an empty file"},
}
MODEL: Mapping[str, Mapping[str, str]] = {
    "--device": {"empty": "", "unknown": "gpu", "a number": "cuda:x", "blank": " ", "absent": "cuda:77"},
    "--dtype": {**NO_WORDS, "of numbers": "int8", "a module's": "torch.float32"},
    "--device-map": {"unknown": "x", "blank": " "},
}
SCORING: Mapping[str, Mapping[str, str]] = {
    "--granularity": NO_WORDS,
    "--metric": NO_WORDS,
    "--method": NO_WORDS,
    "--steps": POSITIVE,
    "--points": NO_WORDS,
    "--rules": NO_WORDS | {"a comma": ",", "rules that exclude each other": "relp,gim"},
    "--batch-tokens": POSITIVE,
    "--alpha": SHARE,
}
FOLDERS = {
    **NO_PLACES, "a folder": "empty", "an unknown protocol": "ftp://host/run", "no bucket": "s3://",
    "a URL that cannot be written": "file:///proc/run",
}  # fmt: skip

OPTIONS: Mapping[tuple[str, ...], Mapping[str, Mapping[str, str]]] = {
    COMPARE: {
        **SAMPLING,
        **MODEL,
        **SCORING,
        "--k": POSITIVE,
        "--question-count": POSITIVE,
        "--balance": NO_NUMBERS | NO_LARGE,
        "--min-questions": POSITIVE,
        "--noise-draws": WHOLE,
        "--score-on": NO_WORDS,
        "--before": {name: path for name, path in NO_PATHS.items() if not path.startswith("/proc")},
        "--after": {"empty": "", "unknown": "no/such/model", "blank": " "},
        "--algorithm": NO_WORDS,
        "--profile": {name: word for name, word in NO_WORDS.items() if word},
        "--output": FOLDERS,
        "--summary": NO_PLACES,
        "--name": {"a path": "../x", "blank": " ", "too long": "x" * 300, "the store": "store", "NUL": "\x00"},
        "--recorded-before": NO_PATHS,
        "--revision-before": {"of a folder": "main"},
    },
    ANSWER: {
        **SAMPLING,
        **MODEL,
        "--count": POSITIVE,
        "--out": NO_PLACES,
        "--store": FOLDERS,
        "--revision": {"of a folder": "main"},
    },
    ATTRIBUTE: {**SCORING, "--t-cut": POSITIVE, "--answers": NO_PATHS, "--out": NO_PLACES, "--store": FOLDERS},
    CIRCUITS: {
        "--judged": POSITIVE,
        "--random-draws": WHOLE,
        "--resamples": POSITIVE,
        "--edges": POSITIVE,
        "--ablation": NO_WORDS,
        "--save-circuits": FOLDERS,
        **SCORING,
    },
    REPORT: {
        "--plot": {**NO_PLACES, "another ending": "x.gif", "no ending": "x"},
        "--html": NO_PLACES,
        "--log-to": NO_TRACKERS,
    },
    ROLLOUTS: {
        "--rollouts": {name: path for name, path in NO_PATHS.items() if name != "empty"},
        "--group": POSITIVE,
        "--format": {"empty": "", "no name": "=x", "no expression": "a", "no regular expression": "a=("},
    },
    ON_ROLLOUTS: {
        "--boundary": {"no regular expression": "(", "of an empty text": "x*", "too slow": "(1|11|1|)+$"},
        "--temperature": {**NO_NUMBERS, "zero": "0"},
        "--before": {"a file": "answers.jsonl", "unknown": "no/such/model"},
    },
    PATH: {
        "--path-steps": {
            "a word": "1,2,3,4,x",
            "too few": "1,2",
            "not rising": "1,2,3,5,4",
            "nan": "1,2,3,4,nan",
            "empty": "",
        },
        "--plot": {**NO_PLACES, "another ending": "x.gif"},
    },
    WATCH: {
        "--interval": NO_NUMBERS | TOO_SMALL | NO_LARGE,
        "--stop-after": POSITIVE,
        "--for": NO_NUMBERS | TOO_SMALL | NO_LARGE,
        "--output": FOLDERS,
        "--pairs": NO_PATHS,
        "--on-inconclusive": NO_WORDS,
        "--ray-gpus": NO_NUMBERS | {"without --ray": "1"},
    },
}

SHARED = {*SAMPLING, *MODEL, *SCORING}
"""Options that several commands have. All values are tried on the first command, a few on the others."""


def faults() -> Iterator[Fault]:
    seen: set[str] = set()
    for command, options in OPTIONS.items():
        for option, values in options.items():
            again = option in SHARED and option in seen
            seen.add(option)
            for name, value in list(values.items())[:: 7 if again else 1]:
                made = partial(make, [*command, f"{option}={value}"])
                word = option.lstrip("-")
                says = "|".join((option, word.replace("-", "_"), word.replace("-", " "), value[:40] or option))
                yield Fault(KIND, f"{command[0]} {option} is {name}", made, (says,))
    for command in OPTIONS:
        for extra in ("--no-such-option", "surplus", "--k", "-", "-x"):
            yield Fault(KIND, f"{command[0]} {extra} too", partial(make, [*command, extra]), ("",))
        for place in range(1, len(command)):
            short = [*command[:place], *command[place + 1 :]]
            yield Fault(KIND, f"{command[0]} without {Path(command[place]).name}", partial(make, short), ("",))
    for words in ([], ["no-such-command"], [""], ["compare"], ["fixtures"], ["fixtures", "x"], ["--no-such"]):
        yield Fault(KIND, f"{words} alone", partial(make, words), ("",))


def make(arguments: list[str]) -> list[str]:
    """Write the input files into the current folder."""
    for ending in ("", ".jsonl"):
        Path(f"folder{ending}").mkdir()
        Path(f"empty{ending}").touch()
        Path(f"random{ending}").write_bytes(bytes(range(256)))
        os.mkfifo(f"pipe{ending}")
    Path("broken").symlink_to("nowhere")
    Path("loop").symlink_to("loop")
    Path("answers.jsonl").write_bytes(answers())
    Path("rollouts.jsonl").write_bytes(rollouts())
    Path("compared").mkdir()
    Path("compared/comparison.json").write_bytes(comparison())
    Path("run").mkdir()
    Path("run/step-1").symlink_to(AFTER)
    settings = "[settings]\nquestion_count = 20\nk = 1\nmin_questions = 1\nnoise_draws = 0\n"
    Path("gate.toml").write_text(f'{settings}[[pair]]\nname = "{PAIR}"\nbefore = "{BEFORE}"\nalgorithm = "grpo"\n')
    return arguments


@pytest.mark.parametrize("command", OPTIONS, ids=lambda command: " ".join(word for word in command if "/" not in word))
def test_the_valid_command_runs(command: tuple[str, ...]) -> None:
    more = ["--k", "1", "--min-questions", "1", "--noise-draws", "0"] if command is COMPARE else []
    if command is CIRCUITS:  # which finds circuits on some questions, and judges them on others
        more = ["--min-questions", "2", "--noise-draws", "0", "--n", "1", "--resamples", "2", "--random-draws", "0"]
    if command is ON_ROLLOUTS:  # which have no marks of what is not the model's
        more = ["--boundary", "1"]
    assert run(make([*command, *more])).code in FINISHED


@pytest.mark.parametrize("fault", list(faults()), ids=str)
def test_option(fault: Fault, tried: Callable[[Fault], None]) -> None:
    tried(fault)
