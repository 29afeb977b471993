"""One session of the pytest plugin: its pairs, their comparisons and verdicts, and the pairs that failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from rlcircuits.common import defaults
from rlcircuits.common.choices import OnInconclusive
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.failures import Failure, describe_failure
from rlcircuits.common.urls import is_url
from rlcircuits.pytest_session.options import (
    INI_PAIRS,
    hint_at_long_names,
    name_to_write,
    option_value,
    settings_table,
)
from rlcircuits.pytest_session.signs import SessionSigns
from rlcircuits.pytest_session.workers import SharedFolder, is_controller, read_worker_input, write_worker_input

if TYPE_CHECKING:
    from rlcircuits.common.mirror import Mirror
    from rlcircuits.comparison.comparison import Comparison
    from rlcircuits.comparison.verdict import Verdict
    from rlcircuits.release.pair import Pair
    from rlcircuits.release.pairs_file import PairsFile
    from rlcircuits.release.settings import Settings
    from rlcircuits.runners.ray_runner import RayRun

_NO_PAIRS = (
    "no pair of checkpoints was given: use --before=DIR --after=DIR --algorithm=NAME, or --pairs=FILE.toml, "
    f"or set {INI_PAIRS} in the pytest configuration"
)


class Session:
    """The pairs of a pytest session. Each is measured once, when the first test asks for it."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.comparisons: dict[str, Comparison] = {}
        """By the pair's name, like `failures`."""
        self.failures: dict[str, Failure] = {}
        self.signs = SessionSigns()
        self.seconds: dict[str, float] = {}
        """How long each pair took that was measured in this session, here or in another worker."""
        self.selected: tuple[Pair, ...] = ()
        """The pairs that the selected tests ask for."""
        self._asked: list[str] = []
        self._failure_of_test: Failure | None = None
        self._verdicts: dict[str, Verdict | Failure] = {}
        self._tracebacks_shown: set[str] = set()
        self._file: PairsFile | None = None
        self._temporary: TemporaryDirectory[str] | None = None
        self._ray: RayRun | None = None
        self._mirroring = ExitStack()
        self._shared: SharedFolder | None
        self._writing = Lock()
        self._channel: Any
        self._shared, self._channel = read_worker_input(config) or (None, None)

    @property
    def source(self) -> str | None:
        """Where the pairs come from, in words; None if the session has no pairs."""
        before = option_value(self.config, "before")
        if before:
            after, algorithm = option_value(self.config, "after"), option_value(self.config, "algorithm")
            return f"{before} → {after} ({algorithm})"
        return option_value(self.config, "pairs") or self.config.getini(INI_PAIRS) or None

    @property
    def file(self) -> PairsFile:
        """The pairs and their settings, read at the first access."""
        if self._file is None:
            self._file = self._find_pairs()
        return self._file

    def _find_pairs(self) -> PairsFile:
        # Imported here, because a session without pairs should not wait for these imports.
        from rlcircuits.release.pair import make_pair, pair_name
        from rlcircuits.release.pairs_file import PairsFile, load_pairs_file, resolve_checkpoint

        names = ("before", "after", "pairs", "questions")
        before, after, pairs, questions = (option_value(self.config, name) for name in names)
        folder = self.config.invocation_params.dir
        if before:
            pair = make_pair(
                name=pair_name(before, after),
                before=resolve_checkpoint(before, folder, name_to_write(self.config, "before")),
                after=resolve_checkpoint(after, folder, name_to_write(self.config, "after")),
                algorithm=option_value(self.config, "algorithm"),
                **({} if questions is None else {"questions": questions}),
            )
            return PairsFile((pair,))
        if pairs:
            return load_pairs_file(folder / Path(pairs).expanduser())
        ini = self.config.getini(INI_PAIRS)
        return load_pairs_file(self.config.rootpath / ini) if ini else PairsFile(())

    @cached_property
    def mirror(self) -> Mirror | None:
        """What mirrors the URL that the user named for results; None if it is a folder."""
        given = option_value(self.config, "output")
        if not is_url(given):
            return None
        from rlcircuits.common.mirror import Mirror

        return Mirror(given, notify=self.log)

    @property
    def output(self) -> Path | None:
        """The folder that the user named for results, or that mirrors the URL."""
        return self._path("output") if self.mirror is None else self.mirror.folder

    @property
    def summary(self) -> Path | None:
        """The Markdown file that the user named for the outcome."""
        return self._path("summary")

    def _path(self, option: str) -> Path | None:
        given = option_value(self.config, option)
        return None if given is None else self.config.invocation_params.dir / Path(given).expanduser()

    @property
    def on_inconclusive(self) -> OnInconclusive:
        """What an inconclusive outcome does to a test and to the exit code."""
        given: OnInconclusive | None = option_value(self.config, "on_inconclusive")
        return defaults.ON_INCONCLUSIVE if given is None else given

    def comparison(self, pair: Pair) -> Comparison:
        """Return the pair's comparison, measured at the first call; fail the running test if it cannot be measured."""
        if pair.name not in {*self.comparisons, *self.failures}:
            if self._shared is None:
                self._measure(pair)
            else:
                self._measure_among_workers(pair, self._shared)
        self._asked.append(pair.name)
        if pair.name in self.failures:
            self.fail(self.failures[pair.name])
        return self.comparisons[pair.name]

    def properties(self, pair: Pair, measure: str | None = None) -> list[tuple[str, str]]:
        """Return the numbers of a measured pair, or of one of its measures, for the report of a test."""
        from rlcircuits.pytest_session.properties import measure_properties, pair_properties
        from rlcircuits.report.measure_rows import measure_rows

        comparison, seconds = self.comparisons[pair.name], self.seconds.get(pair.name)
        if measure is None:
            return pair_properties(comparison, seconds)
        (row,) = (row for row in measure_rows(comparison) if row.measure == measure)
        return measure_properties(row, seconds)

    def verdict(self, pair: Pair) -> Verdict:
        """Return the pair's verdict; fail the running test if the pair cannot be measured or judged."""
        found = self.judge(self.comparison(pair))
        if isinstance(found, Failure):
            self.fail(found)
        return found

    def judge(self, comparison: Comparison) -> Verdict | Failure:
        """Return a comparison's verdict, made at the first call, or why it cannot be made."""
        if comparison.name not in self._verdicts:
            from rlcircuits.comparison.verdict import judge

            try:
                self._verdicts[comparison.name] = judge(comparison)
            except Exception as error:
                failure = describe_failure(error, self.output)
                self._verdicts[comparison.name] = _prefixed(f"{comparison.name} could not be judged", failure)
        return self._verdicts[comparison.name]

    def fail(self, failure: Failure) -> NoReturn:
        """Fail the running test, which has no verdict; show a fault's traceback once a session."""
        self._failure_of_test = failure
        shown = failure.traceback is None or failure.message in self._tracebacks_shown
        self._tracebacks_shown.add(failure.message)
        pytest.fail(failure.message if shown else f"{failure.message}\n{failure.traceback}", pytrace=False)

    def fail_without_pairs(self) -> NoReturn:
        """Fail the running test, which needs a pair in a session without pairs."""
        self.fail(Failure(_NO_PAIRS + hint_at_long_names(self.config)))

    def take_test_record(self) -> tuple[list[str], Failure | None]:
        """Return the pairs asked for since the last call, and why one of them has no verdict."""
        found = self._asked, self._failure_of_test
        self._asked, self._failure_of_test = [], None
        return found

    def _measure(self, pair: Pair) -> Failure | None:
        """Measure the pair; return why it cannot be measured."""
        start = perf_counter()
        try:
            self.comparisons[pair.name] = self._run(pair)
            return None
        except Exception as error:
            failure = self.failures[pair.name] = _unmeasured(pair, describe_failure(error, self.output))
            return failure
        finally:
            self.seconds[pair.name] = round(perf_counter() - start, 3)

    def _measure_among_workers(self, pair: Pair, shared: SharedFolder) -> None:
        """Measure the pair, or wait until another worker has.

        While another worker measures the pair, this one measures other pairs that no worker measures yet.
        """
        from rlcircuits.common.files import write_lock

        def log_waiting(_: str) -> None:
            self.log(f"{pair.name}: waiting for another worker, which measures it")

        while not shared.is_done(pair.name) and not self._measure_if_free(pair, shared):
            others = (other for other in self.selected if not shared.is_done(other.name))
            if not any(self._measure_if_free(other, shared) for other in others):
                with write_lock(shared.record_of(pair.name), log_waiting):
                    pass
        if pair.name not in {*self.comparisons, *self.failures}:
            self._read(pair, shared)

    def _measure_if_free(self, pair: Pair, shared: SharedFolder) -> bool:
        """Measure the pair unless another worker does; return whether the pair is done now."""
        from rlcircuits.common.files import try_write_lock

        with try_write_lock(shared.record_of(pair.name)) as free:
            if free and not shared.is_done(pair.name):
                failure = self._measure(pair)
                shared.record(pair.name, failure, self.seconds[pair.name])
            return free

    def _run(self, pair: Pair) -> Comparison:
        from rlcircuits.common.logs import logged_by
        from rlcircuits.release.finished import of_pair_just_measured
        from rlcircuits.release.run import run_pair
        from rlcircuits.release.toy_notice import pair_notice

        output, store = self._results, None
        if output is None:
            store = self.temporary  # one for the session, so that pairs with the same base share its answers
        settings = self.file.make_settings(settings_table(self.config))
        if self._started_mirror is not None:
            self._started_mirror.fetch_results([pair.name])
        if (notice := pair_notice(pair, settings.trust_remote_code)) is not None:
            self.log(notice)
        # Lines, or a bar where pytest captures nothing: standard error is a terminal only then. None from a worker of
        # pytest-xdist, which sends its messages from one thread.
        how: Mapping[str, Any] = {"notify": self.log, "progress": self._shared is None}
        with logged_by(self.log):
            if (runner := self._runner(settings)) is not None and runner.finish(pair):
                how = {**how, "notify": of_pair_just_measured(self.log)}
            comparison = run_pair(pair, settings, output=output, store=store, **how)
            if output is not None:
                self.signs.measure(pair, self.file, settings, output, self._shared, **how)
        if self._started_mirror is not None:
            self._started_mirror.upload()
        return comparison

    @cached_property
    def _started_mirror(self) -> Mirror | None:
        """The mirror, which uploads what is new from the first use of this on."""
        if self.mirror is not None:
            self.mirror.check_writable()
            self._mirroring.enter_context(self.mirror)
        return self.mirror

    def _runner(self, settings: Settings) -> RayRun | None:
        """Return what does the stages of the selected pairs elsewhere; None where this process does them."""
        address = option_value(self.config, "ray")
        if address is None:
            return None
        if self._ray is None:
            from rlcircuits.runners.ray_runner import RayRun

            assert self.output is not None, "checked when the session began"
            gpus = option_value(self.config, "ray_gpus")
            how: Mapping[str, Any] = {"address": address, "gpus": gpus, "notify": self.log, "mirror": self.mirror}
            self._ray = RayRun(self.selected, settings, self.output, **how)
        return self._ray

    @property
    def _results(self) -> Path | None:
        """The folder that results are kept in, if only for the session; None if no one reads them again."""
        if self.output is not None:
            return self.output
        if self._shared is not None:
            return self._shared.results
        return None if self.file.signs is None else self.temporary / "results"

    def _read(self, pair: Pair, shared: SharedFolder) -> None:
        """Read the comparison of a pair that a worker has done, with its signs, or its failure."""
        from rlcircuits.comparison.storage import load_comparison

        failure, self.seconds[pair.name] = shared.read(pair.name)
        if failure is not None:
            self.failures[pair.name] = failure
            return
        try:
            output = self.output or shared.results
            self.comparisons[pair.name] = load_comparison(output / pair.name)
            self.signs.read(pair, self.file, output, shared)
        except Exception as error:
            self.failures[pair.name] = _unmeasured(pair, describe_failure(error, self.output))

    @property
    def temporary(self) -> Path:
        """A folder that is removed at the end of the session."""
        if self._temporary is None:
            self._temporary = TemporaryDirectory(prefix="rlcircuits-")
        return Path(self._temporary.name)

    def close(self) -> None:
        """Remove the temporary folder, leave Ray, and upload what a pair that failed has left."""
        if self._ray is not None:
            self._ray.close()
        try:
            self._mirroring.close()
        except RLCircuitsError as error:  # which is said of the pairs that it concerns
            self.log(str(error))
        if self._temporary is not None:
            self._temporary.cleanup()

    def start_worker(self, node: Any) -> None:
        """Give a worker of pytest-xdist the folder that workers share, if the session has pairs."""
        if self.source is not None:
            write_worker_input(node, self.temporary, self._write)

    def read_from_workers(self, names: Iterable[str]) -> None:
        """Read what workers measured of the pairs with these names, in the order of the pairs file."""
        asked = set(names)
        shared = SharedFolder(self.temporary)
        for pair in self.file.pairs:
            if pair.name in asked and shared.is_done(pair.name):
                self._read(pair, shared)

    def log(self, line: str) -> None:
        """Write a line about the progress, since a pair may take minutes."""
        if self._channel is None:
            self._write(line)
            return
        with suppress(OSError):  # the controller is gone, and this worker is about to end
            self._channel.send(line)

    def _write(self, line: str) -> None:
        """Write a line to the terminal past pytest's capture, unless the session is quiet (-q)."""
        manager = self.config.pluginmanager
        reporter: Any = manager.get_plugin("terminalreporter")
        if reporter is None or self.config.getoption("verbose", 0) < 0:
            return
        # A controller captures no test's output, and this may be the thread that receives its workers' messages.
        capture: Any = None if is_controller(self.config) else manager.get_plugin("capturemanager")
        # Lines about the progress come from a thread of their own.
        with self._writing, capture.global_and_fixture_disabled() if capture is not None else nullcontext():
            reporter.ensure_newline()
            reporter.write_line(line)
            reporter.flush()  # a log file, too, gets the line now and not with the next test's result


def _unmeasured(pair: Pair, failure: Failure) -> Failure:
    return _prefixed(f"{pair.name} could not be measured", failure)


def _prefixed(words: str, failure: Failure) -> Failure:
    return Failure(f"{words}: {failure.message}", failure.traceback)
