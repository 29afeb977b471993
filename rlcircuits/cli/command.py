"""How a command is declared: its parser, and the options that several commands have."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, cast

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.input_files import read_text
from rlcircuits.release.option import GROUPS, Group, Option
from rlcircuits.release.options import OPTIONS, find_option, given_settings

if TYPE_CHECKING:
    from rlcircuits.checkpoints.source import CheckpointSource

_POSITIONAL = ("checkpoints", "model", "second", "checkpoint", "file", "folder", "other", "comparisons")
"""Arguments that are given without the name of an option."""


def add_command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
    resumes_from: str | None = None,
    urls: Collection[str] = (),
) -> argparse.ArgumentParser:
    """Add a command and return its parser.

    Args:
        commands: what ``add_subparsers`` returned.
        name: name of the command.
        run: runs the command with the parsed options, and returns the exit code.
        text: help text.
        resumes_from: the option that names the folder from which the command resumes after an interruption.
        urls: options and arguments that name a folder of results, and may be a URL.
    """
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    said = parser.add_mutually_exclusive_group()
    said.add_argument("-q", "--quiet", action="store_true", help="say nothing of the progress: results and errors only")
    said.add_argument("-v", "--verbose", action="store_true", help="say more, with the time on each line")
    parser.set_defaults(run=run, resumes_from=resumes_from, urls=urls, mirror=None)
    return cast("argparse.ArgumentParser", parser)


def add_options(
    parser: argparse.ArgumentParser,
    *groups: Group,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    without: Collection[str] = (),
) -> None:
    """Add the options of these groups from the table of options.

    Args:
        parser: parser of the command.
        groups: groups of options that the command has.
        changes: by the option's name, arguments of ``add_argument`` that differ from the table's.
        without: names of options of these groups that the command does not have.
    """
    for group in groups:
        titled = parser.add_argument_group(GROUPS[group])
        for option in OPTIONS:
            if option.group == group and option.name not in without:
                add_option(titled, option, **(changes or {}).get(option.name, {}))


def add_option(parser: Any, option: Option, **changes: Any) -> None:
    """Add one option of the table; `changes` are arguments of ``add_argument`` that differ from the table's."""
    arguments = {**option.argparse_arguments(), **changes}
    if option.more_cli_choices:
        arguments["choices"] = (*option.choices, *option.more_cli_choices)
    parser.add_argument(f"--{option.flag}", dest=option.dest, **arguments)


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name the one checkpoint of a command, and where its results are kept."""
    parser.add_argument("model", help="checkpoint: a folder or a hub id; a LoRA adapter is merged into its base")
    parser.add_argument("--revision", metavar="REV", help="branch, tag or commit of a hub id")
    parser.add_argument(
        "--store", metavar="DIR", help="folder that keeps results as they are made; an interrupted run resumes from it"
    )


def add_only(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses some pairs of a pairs file."""
    parser.add_argument(
        "--only", metavar="PATTERN", action="append", help="only pairs whose name matches, such as '*-grpo'; repeatable"
    )


def check_not_empty(options: argparse.Namespace) -> None:
    """Raise RLCircuitsError for an empty value, such as that of ``--output "$OUT"`` where OUT is not set."""
    for name, value in vars(options).items():
        given = value if isinstance(value, list) else [value]
        if any(isinstance(each, str) and not each.strip() for each in given):
            shown = name.upper() if name in _POSITIONAL else f"--{name.replace('_', '-')}"
            raise RLCircuitsError(f"{shown} is empty; give it a value, or leave it out")


def source_of(options: argparse.Namespace) -> CheckpointSource:
    """Return the source of the checkpoint that :func:`add_checkpoint` let the user name."""
    from rlcircuits.checkpoints.source import CheckpointSource

    device = None if options.device_map else options.device
    trusted = bool(options.trust_remote_code)
    return CheckpointSource(options.model, options.revision, options.dtype, device, options.device_map, trusted)


def settings_table(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given as options, as a table like ``[settings]`` of a pairs file.

    The file given by ``--few-shot`` is replaced by its text.
    """
    few_shot = find_option("few_shot", "settings.prompting")

    def value_of(option: Option) -> Any:
        value = getattr(options, option.dest, None) if option.group else None
        return _text_of(value) if option == few_shot and value is not None else value

    return given_settings(value_of)


def _text_of(path: str) -> str:
    try:
        return read_text(path, "worked examples")
    except RLCircuitsError as error:
        raise RLCircuitsError(f"--few-shot: {error}") from None
