"""The pytest plugin: two checkpoints in, a verdict out, as tests.

It is loaded with the package (entry point ``rlcircuits``), so a repository of one's own needs one file:

    def test_effect(effect):
        assert effect.holds, effect.message

and then ``pytest --before=SFT_DIR --after=RL_DIR --algorithm=grpo``, or a file of pairs given by ``--pairs=FILE``
or by the ini option ``rlcircuits_pairs``. With a space instead of ``=`` pytest takes a path for one of tests, and
may look for its configuration beside it. Three fixtures, the first two parametrized over the pairs:

- ``effect``: a :class:`~rlcircuits.expectations.Finding`, one a pair and measure: intensity, complexity, kurtosis,
  accuracy, and for a control ``not-online-rl``. Where the pair's profile asserts nothing of a measure the test
  is skipped, with the numbers.
- ``pair_comparison``: the pair's whole :class:`~rlcircuits.comparison.Comparison`;
  :func:`rlcircuits.expectations.judge` gives its verdict.
- ``compared``: ``compared(name)`` is the comparison of the pair of that name.

Where no pair was given at all they fail: a release must not pass for having been compared with nothing.
A pair is measured once a session, when its first test asks for it; a base that several pairs share answers once.
Importing this module costs nothing much: torch is imported when a pair is measured.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

from rlcircuits.errors import RLCircuitsError

if TYPE_CHECKING:
    from rlcircuits.comparison import Comparison
    from rlcircuits.expectations import Finding
    from rlcircuits.pairs import Pair, PairsFile

INI_PAIRS = "rlcircuits_pairs"
NO_PAIRS = (
    "no pair of checkpoints was given: use --before=DIR --after=DIR --algorithm=NAME, or --pairs=FILE.toml, "
    f"or set {INI_PAIRS} in the pytest configuration"
)

SETTINGS: dict[str, dict[str, Any]] = {
    "k": {"type": int, "metavar": "K", "help": "questions compared (200)"},
    "alpha": {"type": float, "help": "share of the answer length that is scored (0.3)"},
    "balance": {"type": float, "help": "how far two answer lengths may differ, as a share of their mean (0.5)"},
    "min-questions": {"type": int, "metavar": "N", "help": "fewer questions left to compare are an error (20)"},
    "score-on": {
        "choices": ("own", "before", "after", "gold"),
        "help": "whose answers are scored: each model's own (the default), or the same ones by both models",
    },
    "noise-draws": {"type": int, "metavar": "N", "help": "draws of the noise control, 0 for none (3)"},
    "question-count": {"type": int, "metavar": "N", "help": "questions asked (400)"},
    "temperature": {"type": float, "help": "of sampling, 0 is greedy (1)"},
    "top-p": {"type": float, "help": "of sampling (1)"},
    "sampling-seed": {"type": int, "metavar": "SEED", "help": "of sampling (42)"},
    "max-new-tokens": {"type": int, "metavar": "N", "help": "longest answer (32)"},
    "n": {"type": int, "metavar": "N", "help": "answers to every question (1)"},
    "engine": {"help": "what generates answers: transformers (the default) or vllm"},
    "batch-size": {"type": int, "metavar": "N", "help": "answers written at once (64)"},
    "batch-tokens": {"type": int, "metavar": "N", "help": "token budget of an attribution batch"},
    "recompute": {
        "action": "store_true",
        "default": None,
        "help": "run blocks again in the backward: less memory, the same scores",
    },
    "granularity": {"choices": ("sublayer", "head", "kv-head"), "help": "of the graph (sublayer)"},
    "device": {"help": "torch device (the best there is)"},
    "dtype": {"help": "of the weights: float32, bfloat16, ... (the checkpoint's own)"},
    "trust-remote-code": {
        "action": "store_true",
        "default": None,
        "help": "run the Python code that a checkpoint's repository brings along (none is run)",
    },
}
"""The options that a pairs file's ``[settings]`` has too; what is typed goes before what is written."""

_OF_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "sampling_seed": "seed",
    "max_new_tokens": "max_new_tokens",
    "n": "n",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that say which pairs to measure, and how."""
    group = parser.getgroup("rlcircuits", "RL circuits: compare two checkpoints")
    add = group.addoption
    add(
        "--before",
        metavar="DIR",
        help="checkpoint before the training: a folder or a hub id. Write --before=DIR: pytest takes a path after a "
        "space for one of tests and may look for its configuration beside it; so too with the other paths",
    )
    add("--after", metavar="DIR", help="checkpoint after it")
    add("--algorithm", metavar="NAME", help="how it was trained: grpo, ppo, dpo, sft, ...")
    add(
        "--questions",
        metavar="SET",
        default="arithmetic",
        help="question set, or a JSON lines file (default: %(default)s)",
    )
    add("--pairs", metavar="FILE.toml", help=f"many pairs; default: the ini option {INI_PAIRS}")
    # Prefixed: the plugin is loaded in every session of whoever installs the package, and must not
    # take `--device` or `--k` from the conftest.py of a project that has its own.
    for name, kwargs in SETTINGS.items():
        add(f"--rlcircuits-{name}", dest=_dest(name), **kwargs)
    add(
        "--rlcircuits-output",
        metavar="DIR",
        help="keep each pair's answers, scores and comparison in DIR/<pair>, and go on from there (nothing is kept)",
    )
    parser.addini(INI_PAIRS, "pairs file used where no pair is given, relative to the root folder")


def _dest(name: str) -> str:
    return f"rlcircuits_{name.replace('-', '_')}"


@dataclass
class _Session:
    """The pairs of this session and what has been measured of them so far."""

    config: pytest.Config
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    _file: PairsFile | None = None
    _temporary: TemporaryDirectory[str] | None = None

    @property
    def source(self) -> str | None:
        """Where the pairs come from, in words; None where none are configured."""
        option = self.config.option
        if option.before:
            return f"{option.before} → {option.after} ({option.algorithm})"
        return option.pairs or self.config.getini(INI_PAIRS) or None

    @property
    def typed(self) -> dict[str, Any]:
        """The settings given as options, by their names among the settings."""
        given = {_dest(name).removeprefix("rlcircuits_"): self.config.getoption(_dest(name)) for name in SETTINGS}
        given = {name: value for name, value in given.items() if value is not None}
        sampling = {_OF_SAMPLING[name]: given.pop(name) for name in _OF_SAMPLING if name in given}
        return {**given, **({"sampling": sampling} if sampling else {})}

    @property
    def file(self) -> PairsFile:
        if self._file is None:
            self._file = self._find_pairs()
        return self._file

    def _find_pairs(self) -> PairsFile:
        # Not at the top: a session that uses no pair should not pay for these imports.
        from rlcircuits.pairs import PairsFile, load_pairs_file, make_pair, pair_name, resolve_checkpoint

        option = self.config.option
        if option.before:
            folder = self.config.invocation_params.dir
            pair = make_pair(
                name=pair_name(option.before, option.after),
                before=resolve_checkpoint(option.before, folder, "--before"),
                after=resolve_checkpoint(option.after, folder, "--after"),
                algorithm=option.algorithm,
                questions=option.questions,
            )
            return PairsFile((pair,))
        if option.pairs:
            return load_pairs_file(self.config.invocation_params.dir / Path(option.pairs).expanduser())
        ini = self.config.getini(INI_PAIRS)
        return load_pairs_file(self.config.rootpath / ini) if ini else PairsFile(())

    @property
    def output(self) -> Path | None:
        """The folder that was asked for to keep results in."""
        given = self.config.option.rlcircuits_output
        return None if given is None else self.config.invocation_params.dir / Path(given).expanduser()

    def comparison(self, pair: Pair) -> Comparison:
        """Give the pair's comparison, measured at the first call; one that could not be fails all its tests."""
        if pair.name not in {*self.comparisons, *self.failures}:
            try:
                self.comparisons[pair.name] = self._measure(pair)
            except (RLCircuitsError, OSError) as error:
                self.failures[pair.name] = f"{pair.name} could not be measured: {error}"
            except Exception as error:
                # A fault of ours: its traceback is shown once, with the test that met it first.
                self.failures[pair.name] = f"{pair.name} could not be measured, see above: {error!r}"
                raise
        if pair.name in self.failures:
            # Out of the except above, so that the error is not shown once more as what led to this one.
            pytest.fail(self.failures[pair.name], pytrace=False)
        return self.comparisons[pair.name]

    def _measure(self, pair: Pair) -> Comparison:
        from rlcircuits.pipeline import run_pair

        output = self.output
        bars = self.config.option.capture == "no" and sys.stderr.isatty()
        settings = self.file.make_settings(self.typed)
        store = None if output else self._temporary_store()
        return run_pair(pair, settings, output=output, store=store, notify=self._tell, progress=bars)

    def _temporary_store(self) -> Path:
        """Where answers are kept for the session's length, so that pairs with one base share its answers."""
        if self._temporary is None:
            self._temporary = TemporaryDirectory(prefix="rlcircuits-")
        return Path(self._temporary.name)

    def close(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()

    def _tell(self, line: str) -> None:
        """One line a stage, past pytest's capture, since a pair may take minutes; none with -q."""
        reporter: Any = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None or self.config.option.verbose < 0:
            return
        capture: Any = self.config.pluginmanager.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture is not None else nullcontext():
            reporter.ensure_newline()
            reporter.write_line(line)


_SESSION = pytest.StashKey[_Session]()


def pytest_configure(config: pytest.Config) -> None:
    """Refuse options that do not go together before anything is collected."""
    option = config.option
    if bool(option.before) != bool(option.after):
        given, missing = ("--before", "--after") if option.before else ("--after", "--before")
        raise pytest.UsageError(f"{given} was given without {missing}; a pair needs both")
    if option.before and not option.algorithm:
        raise pytest.UsageError("--before and --after need --algorithm, which says what to expect of the training")
    if option.before and option.pairs:
        raise pytest.UsageError("--pairs and --before were both given; give one of them")
    if option.algorithm and not option.before:
        raise pytest.UsageError("--algorithm is for --before and --after; a pairs file names each pair's own")
    session = config.stash[_SESSION] = _Session(config)
    # What was typed is checked at once; the ini option only where a test needs it.
    try:
        if option.before or option.pairs:
            file = session.file
            if session.typed:
                file.make_settings(session.typed)
        if session.output is not None:
            from rlcircuits.durable import ready_folder

            ready_folder(session.output, "--rlcircuits-output")
    except RLCircuitsError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what was kept for the session."""
    session = config.stash.get(_SESSION, None)
    if session is not None:
        session.close()


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say in one line what will be measured; nothing where no pair is given."""
    session = config.stash[_SESSION]
    if session.source is None:
        return None
    typed = {**session.typed, **session.typed.get("sampling", {})}
    typed.pop("sampling", None)
    return ", ".join([f"rlcircuits: {session.source}", *(f"{name} = {value}" for name, value in typed.items())])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test a pair, or a pair and measure, of every test that asks for our fixtures."""
    wanted = [name for name in ("pair_comparison", "effect") if name in metafunc.fixturenames]
    if not wanted:
        return
    try:
        pairs = metafunc.config.stash[_SESSION].file.pairs
    except RLCircuitsError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    if not pairs:
        # One test that fails, and not an error of collecting, which would stop a repository's other tests too.
        rows = [pytest.param(*[None] * len(wanted), id="no-pairs")]
    elif "effect" in wanted:
        rows = [
            pytest.param(
                *(((pair, measure) if name == "effect" else pair) for name in wanted),
                id=f"{pair.name}-{measure}",
                marks=_known_not_to_hold(pair, measure),
            )
            for pair in pairs
            for measure in pair.expectations.measures
        ]
    else:
        rows = [pytest.param(pair, id=pair.name) for pair in pairs]
    metafunc.parametrize(wanted, rows, indirect=True)


def _known_not_to_hold(pair: Pair, measure: Any) -> tuple[pytest.MarkDecorator, ...]:
    """A strict expected failure where the pairs file says so: it is told when the measure holds after all."""
    reason = pair.does_not_hold.get(measure)
    return () if reason is None else (pytest.mark.xfail(raises=AssertionError, strict=True, reason=reason),)


@pytest.fixture
def pair_comparison(request: pytest.FixtureRequest) -> Comparison:
    """One pair's comparison; the test runs once a pair, and fails where there is none."""
    if request.param is None:
        pytest.fail(NO_PAIRS, pytrace=False)
    return request.config.stash[_SESSION].comparison(request.param)


@pytest.fixture
def compared(request: pytest.FixtureRequest) -> Callable[[str], Comparison]:
    """Give a pair's comparison by its name: fails where the session has no pair, skips where none of that name."""
    session = request.config.stash[_SESSION]

    def comparison(name: str) -> Comparison:
        for pair in session.file.pairs:
            if pair.name == name:
                return session.comparison(pair)
        if not session.file.pairs:
            pytest.fail(NO_PAIRS, pytrace=False)
        pytest.skip(f"no pair of this session is named {name!r}")

    return comparison


@pytest.fixture
def effect(request: pytest.FixtureRequest) -> Finding:
    """Whether one measure of one pair is as its profile wants it; once a pair and measure, failing without any."""
    if request.param is None:
        pytest.fail(NO_PAIRS, pytrace=False)
    from rlcircuits.expectations import judge

    pair, measure = request.param
    finding = judge(request.config.stash[_SESSION].comparison(pair)).all_findings[measure]
    if finding.holds is None:
        pytest.skip(f"reported, not asserted for this algorithm\n{finding.message}")
    return finding


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the one table of all pairs measured, whether tests passed or failed."""
    comparisons = config.stash[_SESSION].comparisons
    if not comparisons:
        return
    from rlcircuits.report.terminal import summary_table

    terminalreporter.section("rlcircuits")
    terminalreporter.write_line(summary_table(comparisons.values()))
    for comparison in comparisons.values():
        if comparison.note:
            terminalreporter.write_line(f"{comparison.name}: {comparison.note}")
