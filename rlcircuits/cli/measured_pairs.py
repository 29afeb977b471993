"""What commands on measured pairs share: a folder of results as their argument, or pairs that are measured first."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from rlcircuits.cli.command import add_only, add_options, settings_table
from rlcircuits.cli.compare import pairs_of
from rlcircuits.cli.streams import log, shows_progress
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.failures import Failure, describe_failure
from rlcircuits.release.options import OPTIONS

if TYPE_CHECKING:
    from rlcircuits.release.pair import Pair
    from rlcircuits.release.settings import Settings

_T = TypeVar("_T")

_OF_EVERY_RUN = {"batch_tokens", "device", "device_map"}
"""Options that do not say what is measured, but how it runs."""


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names the folder of results."""
    parser.add_argument(
        "folder",
        nargs="?",
        metavar="DIR",
        help="output folder of a run, or one pair's folder in it; without it, a pair is measured as by compare",
    )


def add_measuring_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a pair is measured."""
    add_options(parser, "files", "pair", "comparison", "answers", "scoring", "model")
    add_only(parser)


def measuring_options(options: argparse.Namespace, *, without: Collection[str] = ()) -> list[str]:
    """Return the options of how a pair is measured that were given.

    Args:
        options: the options of a command with those of :func:`add_measuring_options`.
        without: names of options that are left out.
    """
    return [
        f"--{option.flag}"
        for option in OPTIONS
        if option.group
        and option.name not in without
        and getattr(options, option.dest, None) is not None  # False is what --no-… gives
    ]


@dataclass(frozen=True)
class PairFolder:
    """A function that returns a pair's folder of results, and measures the pair first if that is needed."""

    measure: Callable[[], Path]
    pair: Pair | None = None
    """The pair; None if only its folder is known."""
    settings: Settings | None = None
    """How it is measured; None if only its folder is known."""

    @property
    def name(self) -> str:
        """The pair's name, or its folder's."""
        return self.measure().name if self.pair is None else self.pair.name

    def __call__(self) -> Path:
        """Return the folder."""
        return self.measure()


def measure_each(
    options: argparse.Namespace, command: str, measure: Callable[[PairFolder], _T], *, needs_ids: bool = False
) -> tuple[list[_T], list[Failure]]:
    """Return what ``measure`` returns for each pair: of those in DIR, or of pairs that are measured first.

    Args:
        options: the options of a command with the arguments of :func:`add_folder` and :func:`add_measuring_options`.
        command: the command's name in messages.
        measure: measures a pair from its folder of results. What it cannot measure does not stop the other pairs.
        needs_ids: whether the token ids that were scored are needed, which no file holds of gold answers.

    Returns:
        What was measured, and why each other pair could not be.
    """
    found, failures = [], []
    with _pair_folders(options, command, needs_ids) as folders:
        for folder in folders:
            try:
                found.append(measure(folder))
            except BrokenPipeError:  # the reader of the messages has gone
                raise
            except Exception as error:  # the other pairs are measured all the same
                failure = describe_failure(error, options.output)
                if failure.is_fault:  # whose message names no pair, as those of bad input do
                    failure = failure.of(f"pair {folder.name!r}")
                failures.append(failure)
    return found, failures


@contextmanager
def _pair_folders(options: argparse.Namespace, command: str, needs_ids: bool) -> Iterator[Iterable[PairFolder]]:
    from rlcircuits.release.pair_folders import find_pair_folders
    from rlcircuits.release.run import run_pair

    if options.folder is not None:
        if options.before or options.after or options.pairs:
            raise RLCircuitsError("a folder and a pair were both given; give the folder of results, or the pair alone")
        if unused := measuring_options(options, without=_OF_EVERY_RUN):
            raise RLCircuitsError(
                f"{', '.join(unused)}: given with a folder of results, whose pairs are measured already; leave it out, "
                "or give the pair instead of the folder"
            )
        if options.only:
            raise RLCircuitsError("--only chooses pairs of --pairs FILE.toml; name the pair's own folder of results")
        yield [PairFolder(partial(Path, folder)) for folder in find_pair_folders(options.folder)]
        return
    if not (options.before or options.after or options.pairs):
        raise RLCircuitsError(f"{command} needs a folder of results, or --before and --after, or --pairs FILE.toml")
    file = pairs_of(options)
    settings = file.make_settings(settings_table(options))
    if settings.score_on == "gold" and needs_ids:
        raise RLCircuitsError(f"score_on is 'gold', whose token ids no file holds; {command} need another one")

    def measured(pair: Pair, output: Path) -> Path:
        run_pair(pair, settings, output=output, notify=log, progress=shows_progress())
        return output / pair.name

    with TemporaryDirectory(prefix="rlcircuits-") as temporary:
        output = Path(options.output or temporary)
        yield [PairFolder(partial(measured, pair, output), pair, settings) for pair in file.pairs]
