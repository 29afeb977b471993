"""One session of the pytest plugin: its pairs, what was measured of them, and what could not be."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from rlcircuits.common.failures import Failure, describe_failure
from rlcircuits.pytest_session.options import INI_PAIRS, hint, name_of, option, typed_settings
from rlcircuits.pytest_session.shared import Shared, give_to_worker, given_to_worker, is_controller

if TYPE_CHECKING:
    from rlcircuits.comparison.comparison import Comparison
    from rlcircuits.comparison.verdict import Verdict
    from rlcircuits.release.pairs_file import Pair, PairsFile

NO_PAIRS = (
    "no pair of checkpoints was given: use --before=DIR --after=DIR --algorithm=NAME, or --pairs=FILE.toml, "
    f"or set {INI_PAIRS} in the pytest configuration"
)


class Session:
    """The pairs of a pytest session. A pair is measured when its first test asks for it, and once."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.comparisons: dict[str, Comparison] = {}
        self.failures: dict[str, Failure] = {}
        self.to_come: tuple[Pair, ...] = ()
        """The pairs that this session's tests ask for."""
        self._asked: list[str] = []
        self._unmeasured: Failure | None = None
        self._verdicts: dict[str, Verdict | Failure] = {}
        self._shown: set[str] = set()
        self._file: PairsFile | None = None
        self._temporary: TemporaryDirectory[str] | None = None
        self._shared: Shared | None
        self._channel: Any
        self._shared, self._channel = given_to_worker(config) or (None, None)

    @property
    def source(self) -> str | None:
        """Where the pairs come from, in words; None where none are configured."""
        before = option(self.config, "before")
        if before:
            return f"{before} → {option(self.config, 'after')} ({option(self.config, 'algorithm')})"
        return option(self.config, "pairs") or self.config.getini(INI_PAIRS) or None

    @property
    def file(self) -> PairsFile:
        """The pairs, and the settings that come with them."""
        if self._file is None:
            self._file = self._find_pairs()
        return self._file

    def _find_pairs(self) -> PairsFile:
        # Not at the top: a session that uses no pair should not pay for these imports.
        from rlcircuits.release.pairs_file import PairsFile, load_pairs_file, make_pair, pair_name, resolve_checkpoint

        names = ("before", "after", "pairs", "questions")
        before, after, pairs, questions = (option(self.config, name) for name in names)
        folder = self.config.invocation_params.dir
        if before:
            pair = make_pair(
                name=pair_name(before, after),
                before=resolve_checkpoint(before, folder, name_of(self.config, "before")),
                after=resolve_checkpoint(after, folder, name_of(self.config, "after")),
                algorithm=option(self.config, "algorithm"),
                **({} if questions is None else {"questions": questions}),
            )
            return PairsFile((pair,))
        if pairs:
            return load_pairs_file(folder / Path(pairs).expanduser())
        ini = self.config.getini(INI_PAIRS)
        return load_pairs_file(self.config.rootpath / ini) if ini else PairsFile(())

    @property
    def output(self) -> Path | None:
        """The folder that was asked for to keep results in."""
        given = option(self.config, "output")
        return None if given is None else self.config.invocation_params.dir / Path(given).expanduser()

    def comparison(self, pair: Pair) -> Comparison:
        """Give the pair's comparison, measured at the first call; one that could not be fails all its tests."""
        if pair.name not in {*self.comparisons, *self.failures}:
            if self._shared is None:
                self._measure(pair)
            else:
                self._measure_among_workers(pair, self._shared)
        self._asked.append(pair.name)
        if pair.name in self.failures:
            self.fail(self.failures[pair.name])
        return self.comparisons[pair.name]

    def verdict(self, pair: Pair) -> Verdict:
        """Judge the pair's comparison; one that could not be measured or judged fails all its tests."""
        found = self.judged(self.comparison(pair))
        if isinstance(found, Failure):
            self.fail(found)
        return found

    def judged(self, comparison: Comparison) -> Verdict | Failure:
        """The verdict of a comparison, or the fault that there was in judging it; judged once."""
        if comparison.name not in self._verdicts:
            from rlcircuits.comparison.verdict import judge

            try:
                self._verdicts[comparison.name] = judge(comparison)
            except Exception as error:
                failure = describe_failure(error, self.output)
                self._verdicts[comparison.name] = _prefixed(f"{comparison.name} could not be judged", failure)
        return self._verdicts[comparison.name]

    def fail(self, failure: Failure) -> NoReturn:
        """Fail the running test, and remember that it came to no verdict. A fault's traceback is shown once."""
        self._unmeasured = failure
        more = "" if failure.traceback is None or failure.message in self._shown else f"\n{failure.traceback}"
        self._shown.add(failure.message)
        pytest.fail(f"{failure.message}{more}", pytrace=False)

    def fail_without_pairs(self) -> NoReturn:
        """Fail the running test, which needs a pair where none was given."""
        self.fail(Failure(NO_PAIRS + hint(self.config)))

    def asked_since(self) -> tuple[list[str], Failure | None]:
        """The pairs asked for since the last call, and why one of them could not be had; of one test's phase."""
        found = self._asked, self._unmeasured
        self._asked, self._unmeasured = [], None
        return found

    def _measure(self, pair: Pair) -> Failure | None:
        """Measure the pair; gives why it could not be."""
        try:
            self.comparisons[pair.name] = self._run(pair)
            return None
        except Exception as error:
            failure = self.failures[pair.name] = _unmeasured(pair, describe_failure(error, self.output))
            return failure

    def _measure_among_workers(self, pair: Pair, shared: Shared) -> None:
        """See that the pair is measured, by whichever worker.

        While it is another's turn, this worker measures pairs that are nobody's; it waits when there are none.
        """
        from rlcircuits.common.files import write_lock

        def say_so(_: str) -> None:
            self.log(f"{pair.name}: waiting for another worker, which measures it")

        while not shared.is_done(pair.name) and not self._measure_if_free(pair, shared):
            others = (other for other in self.to_come if not shared.is_done(other.name))
            if not any(self._measure_if_free(other, shared) for other in others):
                with write_lock(shared.turn(pair.name), say_so):
                    pass
        if pair.name in {*self.comparisons, *self.failures}:
            return
        if (failure := shared.failure(pair.name)) is not None:
            self.failures[pair.name] = failure
        else:
            self._read(pair, self.output or shared.results)

    def _measure_if_free(self, pair: Pair, shared: Shared) -> bool:
        """Measure the pair if it is nobody's turn; whether it is done now."""
        from rlcircuits.common.files import try_write_lock

        with try_write_lock(shared.turn(pair.name)) as free:
            if free and not shared.is_done(pair.name):
                shared.note(pair.name, self._measure(pair))
            return free

    def _run(self, pair: Pair) -> Comparison:
        from rlcircuits.release.run import run_pair
        from rlcircuits.release.toy_notice import pair_notice

        output, store = self.output, None
        if output is None and self._shared is not None:
            output = self._shared.results
        elif output is None:
            store = self.temporary  # for the session's length, so that pairs with one base share its answers
        capture = self.config.getoption("capture", "no")
        bars = capture == "no" and self._shared is None and sys.stderr.isatty()
        settings = self.file.make_settings(typed_settings(self.config))
        if (notice := pair_notice(pair, settings.trust_remote_code)) is not None:
            self.log(notice)
        return run_pair(pair, settings, output=output, store=store, notify=self.log, progress=bars)

    def _read(self, pair: Pair, folder: Path) -> None:
        """Read what a worker measured."""
        from rlcircuits.comparison.storage import load_comparison

        try:
            self.comparisons[pair.name] = load_comparison(folder / pair.name)
        except Exception as error:
            self.failures[pair.name] = _unmeasured(pair, describe_failure(error, self.output))

    @property
    def temporary(self) -> Path:
        """A folder that goes with the session."""
        if self._temporary is None:
            self._temporary = TemporaryDirectory(prefix="rlcircuits-")
        return Path(self._temporary.name)

    def close(self) -> None:
        """Remove what was kept for the session."""
        if self._temporary is not None:
            self._temporary.cleanup()

    def start_worker(self, node: Any) -> None:
        """Let pytest-xdist's worker share what it measures with the others, where there are pairs to measure."""
        if self.source is not None:
            give_to_worker(node, self.temporary, self._write)

    def read_from_workers(self, names: Iterable[str]) -> None:
        """Get what workers measured, in the order of the pairs."""
        asked = set(names)
        shared = Shared(self.temporary)
        for pair in self.file.pairs:
            if pair.name in asked and shared.is_done(pair.name):
                if (failure := shared.failure(pair.name)) is not None:
                    self.failures[pair.name] = failure
                else:
                    self._read(pair, self.output or shared.results)

    def log(self, line: str) -> None:
        """Say one line a stage, since a pair may take minutes."""
        if self._channel is None:
            self._write(line)
            return
        with suppress(OSError):  # the controller is gone, and this worker soon will be
            self._channel.send(line)

    def _write(self, line: str) -> None:
        """Write a line to the terminal, past pytest's capture; none with -q."""
        manager = self.config.pluginmanager
        reporter: Any = manager.get_plugin("terminalreporter")
        if reporter is None or self.config.getoption("verbose", 0) < 0:
            return
        # A controller runs no test whose output is captured, and this may be the thread that hears of its workers.
        capture: Any = None if is_controller(self.config) else manager.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture is not None else nullcontext():
            reporter.ensure_newline()
            reporter.write_line(line)
            reporter.flush()  # into a log, too, now and not with the next test's result


def _unmeasured(pair: Pair, failure: Failure) -> Failure:
    return _prefixed(f"{pair.name} could not be measured", failure)


def _prefixed(words: str, failure: Failure) -> Failure:
    return Failure(f"{words}: {failure.message}", failure.traceback)
