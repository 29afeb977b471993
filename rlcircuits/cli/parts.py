"""What the command line's parts share: exit codes, how a command is declared, and the options that several have."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from rlcircuits.cli.streams import lead_nowhere
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.input_files import read_text

if TYPE_CHECKING:
    from rlcircuits.checkpoints.source import CheckpointSource
    from rlcircuits.release.settings import Settings

HOLDS, DOES_NOT_HOLD, BAD_INPUT = 0, 1, 2
# As sysexits.h names an internal software error. Python's own 1 for it would look like a verdict.
FAULT = 70
# As shells name a command that was ended by SIGINT and SIGPIPE.
INTERRUPTED, UNREAD = 130, 141

# What is given without an option's name.
_POSITIONAL = ("model", "file", "folder", "comparisons")

_SAMPLING = ("temperature", "top_p", "max_new_tokens", "n")
_PROMPTING = ("template", "system", "chat")
_SETTINGS = (
    "k", "alpha", "balance", "min_questions", "score_on", "noise_draws", "question_count", "split", "engine",
    "batch_size", "granularity", "device", "dtype", "batch_tokens", "recompute",
    "trust_remote_code", "stop_early", "max_unfinished",
)  # fmt: skip


def command(commands: Any, name: str, run: Any, text: str, kept_in: str | None = None) -> argparse.ArgumentParser:
    """Declare a command: `text` is its help, ``run(options)`` gives the exit code.

    `kept_in` names the option whose folder keeps unfinished work, from which the same command goes on.
    """
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run, kept_in=kept_in)
    return cast("argparse.ArgumentParser", parser)


def answer_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how questions are asked. Each is None where it was not given."""
    add = parser.add_argument
    add("--questions", metavar="SET", help="question set, or a JSON lines file (arithmetic)")
    add("--split", help="of the question set (test)")
    add("--temperature", type=float, help="of sampling, 0 is greedy (1)")
    add("--top-p", type=float, help="of sampling (1)")
    add("--sampling-seed", type=int, metavar="SEED", help="(42)")
    add(
        "--max-new-tokens",
        type=int,
        metavar="N",
        help="longest answer (as the question set needs)",
    )
    add("--n", type=int, help="answers to every question, drawn or on each line of recorded ones (1)")
    add("--template", metavar="TEXT", help="what stands around a question, with {question} in it")
    add("--system", metavar="TEXT", help="system prompt")
    add("--few-shot", metavar="FILE", help="worked examples, put before each question as they are")
    add("--no-chat", dest="chat", action="store_false", default=None, help="leave the chat template aside")
    add("--engine", help="what generates answers: transformers or vllm (transformers)")
    add("--batch-size", type=int, metavar="N", help="answers written at once (64)")


def graph_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how edges are scored."""
    parser.add_argument("--granularity", choices=("sublayer", "head", "kv-head"), help="of the graph (sublayer)")
    parser.add_argument("--batch-tokens", type=int, metavar="N", help="token budget of an attribution batch")
    parser.add_argument(
        "--recompute",
        action="store_true",
        default=None,
        help="run blocks again in the backward: long sequences in less memory, the same scores",
    )


def model_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how a checkpoint is loaded."""
    parser.add_argument("--device", help="torch device (the best there is)")
    parser.add_argument("--dtype", help="of the weights: float32, bfloat16, ... (the checkpoint's own)")
    parser.add_argument("--device-map", metavar="MAP", help="how to split a model over devices: auto, ... (one device)")
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        default=None,
        help="run the Python code that a checkpoint's repository brings along (none is run)",
    )


def single_model(parser: argparse.ArgumentParser) -> None:
    """Add the one checkpoint of a command that takes one."""
    parser.add_argument("model", help="folder or hub id; a LoRA adapter is merged into its base")
    parser.add_argument("--revision", help="branch, tag or commit of a hub id")
    parser.add_argument("--store", metavar="DIR", help="keep work in DIR as it is made, and go on from what is there")


def check_given(options: argparse.Namespace) -> None:
    """Raise RLCircuitsError for an empty value, which is what is left of ``--output "$OUT"`` where OUT is not set."""
    for name, value in vars(options).items():
        if isinstance(value, str) and not value.strip():
            shown = name.upper() if name in _POSITIONAL else f"--{name.replace('_', '-')}"
            raise RLCircuitsError(f"{shown} is empty; give it a value, or leave it out")


def source_of(options: argparse.Namespace) -> CheckpointSource:
    """The checkpoint that was named."""
    from rlcircuits.checkpoints.source import CheckpointSource

    device = None if options.device_map else options.device
    trusted = bool(options.trust_remote_code)
    return CheckpointSource(options.model, options.revision, options.dtype, device, options.device_map, trusted)


def typed(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given as options, as a table like a pairs file's ``[settings]``."""
    given = {name: value for name, value in vars(options).items() if value is not None}
    sampling = {name: given[name] for name in _SAMPLING if name in given}
    if "sampling_seed" in given:
        sampling["seed"] = given["sampling_seed"]
    prompting = {name: given[name] for name in _PROMPTING if name in given}
    if "few_shot" in given:
        prompting["few_shot"] = _text(given["few_shot"])
    table = {name: given[name] for name in _SETTINGS if name in given}
    return {**table, **_unless_empty(sampling=sampling, prompting=prompting)}


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings that the options make."""
    from rlcircuits.release.settings import make_settings

    return make_settings(typed(options))


def tell(line: str) -> None:
    """Say how far a long command is, apart from its result.

    Where that cannot be written, as in a log on a full disk, the work goes on all the same.
    """
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError as error:
        lead_nowhere(sys.stderr)
        if isinstance(error, BrokenPipeError):  # nobody reads what is said
            raise


def say_error(message: str) -> None:
    """Say what is wrong, in one line."""
    tell(f"rlcircuits: {message}")


def _unless_empty(**tables: Mapping[str, Any]) -> dict[str, Any]:
    return {name: table for name, table in tables.items() if table}


def _text(path: str) -> str:
    try:
        return read_text(path, "worked examples")
    except RLCircuitsError as error:
        raise RLCircuitsError(f"--few-shot: {error}") from None
