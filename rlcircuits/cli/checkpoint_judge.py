"""Measure and judge one checkpoint of ``rlcircuits watch``, as ``rlcircuits compare`` does its pairs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlcircuits.cli.compare import headline_of, measure_pairs, outcome_code
from rlcircuits.cli.exit_codes import DOES_NOT_HOLD, failure_code
from rlcircuits.cli.gated_signs import measure_gated_signs
from rlcircuits.cli.streams import log, log_error
from rlcircuits.common import defaults
from rlcircuits.common.errors import UnreachableError

if TYPE_CHECKING:
    from rlcircuits.common.failures import Failure
    from rlcircuits.comparison.comparison import Comparison
    from rlcircuits.release.pairs_file import PairsFile
    from rlcircuits.release.settings import Settings
    from rlcircuits.release.watch import Tried
    from rlcircuits.release.watch_template import Template
    from rlcircuits.release.watched_folder import SeenCheckpoint

__all__ = ["CheckpointJudge", "Judged"]


@dataclass(frozen=True)
class Judged:
    """What came of a checkpoint."""

    outcome: str
    """That of its release, or that there is none."""
    why: str
    """Why, and where its page is."""
    code: int
    """The exit code that ``rlcircuits compare`` would have."""


class CheckpointJudge:
    """Judges checkpoints, and remembers the exit code of each."""

    def __init__(self, options: argparse.Namespace, template: Template, settings: Settings) -> None:
        self._options, self._template, self._settings = options, template, settings
        self._notify = log if options.stages else (lambda _line: None)
        self.judged: dict[str, Judged] = {}
        """By the checkpoint's name."""
        self.postponed: dict[str, str] = {}
        """Why checkpoints wait for a cluster, by their names."""

    def __call__(self, name: str, seen: SeenCheckpoint, is_last: bool) -> Tried:
        """Measure and judge one checkpoint, write its page, and say in one line what came of it."""
        from rlcircuits.common.failures import describe_failure
        from rlcircuits.release.watch_template import checkpoint_label

        label = checkpoint_label(name)
        file = self._template.for_checkpoint(label, seen.folder)
        earlier = self._written(file)
        found: Judged | None = None
        failures: Sequence[Failure] = ()
        try:
            found = self._judge(file, label, seen, earlier)
        except BrokenPipeError:  # the reader of the messages has gone
            raise
        except _Unmeasured as error:
            failures = error.failures
        except UnreachableError as error:
            if not self._options.once:
                self._postpone(name, label, str(error))
                return "void"
            failures = [describe_failure(error)]
        except Exception as error:  # the other checkpoints are judged all the same
            failures = [describe_failure(error, self._options.output)]
        self.postponed.pop(name, None)
        if self._is_stale(seen) or (found is None and not self._is_unchanged(seen)):
            self._discard(file, earlier)
            log(f"{label}: it changed, or was removed, while it was measured; looked at again")
            return "void"
        if found is None:
            self.judged[name] = Judged("not judged", "", failure_code(failures))
            self._tell_failures(label, failures, is_last)
            return "failed"
        self.judged[name] = found
        print(f"{label}: {found.outcome}: {found.why}", flush=True)
        return "judged"

    def _judge(self, file: PairsFile, label: str, seen: SeenCheckpoint, earlier: Sequence[int | None]) -> Judged:
        """Return what a checkpoint is judged as. Raises _Unmeasured if it cannot be."""
        from rlcircuits.common.failures import Failure
        from rlcircuits.release.watched_folder import check_complete

        check_complete(seen.folder)
        options = self._options
        measured, lost = measure_pairs(file, self._settings, options, False, self._notify)
        if lost:
            raise _Unmeasured([failure.of(f"pair {pair!r}") for pair, failure in lost.items()])
        signs = measure_gated_signs(file, file.pairs, self._settings, options.output, self._notify)
        if signs is not None and signs.problems:
            raise _Unmeasured(signs.problems)
        headline = headline_of(file, measured, {})
        if self._is_stale(seen):  # the page would show what the caller throws away
            raise _Unmeasured([Failure("its files changed while it was measured")])
        new = self._written(file) != earlier
        page = self._write_page(file, label, [variants[0] for variants in measured])
        told = f"page: {page}" if new else f"page: {page} (measured before)"
        if signs is not None and signs.failing:
            return Judged("does not hold", f"{signs.line}; {told}", DOES_NOT_HOLD)
        code = outcome_code(headline, options.on_inconclusive or defaults.ON_INCONCLUSIVE)
        return Judged(headline.outcome or "no verdict", f"{headline.why}; {told}", code)

    def _write_page(self, file: PairsFile, label: str, comparisons: Sequence[Comparison]) -> Path:
        from rlcircuits.common.files import written_at
        from rlcircuits.release.stored_signs import SIGNS_FILE, find_signs
        from rlcircuits.report.page.write import write_page

        page = Path(self._options.output) / f"{label}.html"
        folders = [Path(self._options.output) / pair.name for pair in file.pairs]
        shown = [*self._files_of(file), *(folder / SIGNS_FILE for folder in folders)]
        page_time, *times = written_at([page, *shown])
        if page_time is None or page_time < max(time for time in times if time is not None):
            write_page(comparisons, page, (), find_signs(folders)[0], folders)
        return page

    def _tell_failures(self, label: str, failures: Sequence[Failure], is_last: bool) -> None:
        reason = "; ".join(failure.message for failure in failures)
        if not is_last:
            log(f"{label}: not judged yet: {reason}; looked at again")
            return
        again = "" if self._options.once else "; given up until its files change"
        log_error(f"{label}: not judged: {reason}{again}")

    def _postpone(self, name: str, label: str, reason: str) -> None:
        """Say why a checkpoint waits, unless the last thing said of it is the same."""
        if self.postponed.get(name) != reason:
            self.postponed[name] = reason
            log(f"{label}: not judged yet: {reason}; tried again at each look")

    def _is_stale(self, seen: SeenCheckpoint) -> bool:
        """Return whether a checkpoint is there and not what it was. One that was removed was measured as it was."""
        return seen.folder.is_dir() and not self._is_unchanged(seen)

    def _is_unchanged(self, seen: SeenCheckpoint) -> bool:
        return seen.is_unchanged(code=self._settings.trust_remote_code)

    def _files_of(self, file: PairsFile) -> list[Path]:
        from rlcircuits.common.files import COMPARISON_FILE

        return [Path(self._options.output) / pair.name / COMPARISON_FILE for pair in file.pairs]

    def _written(self, file: PairsFile) -> list[int | None]:
        """Return when the pairs' results were written, which tells those that were measured from those read."""
        from rlcircuits.common.files import written_at

        return written_at(self._files_of(file))

    def _discard(self, file: PairsFile, earlier: Sequence[int | None]) -> None:
        """Remove the comparisons that were made of a checkpoint which changed meanwhile."""
        for path, before, now in zip(self._files_of(file), earlier, self._written(file), strict=True):
            if now is not None and now != before:
                path.unlink(missing_ok=True)


class _Unmeasured(Exception):
    """Raised for a checkpoint of which a pair or its signs could not be measured."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        super().__init__()
        self.failures = failures
