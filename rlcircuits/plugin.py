"""The pytest plugin: two checkpoints in, a verdict out, as tests.

It is loaded with the package (entry point ``rlcircuits``), so a repository of one's own needs one file:

    def test_effect(effect):
        assert effect.holds, effect.message

and then ``pytest --before SFT_DIR --after RL_DIR --algorithm grpo``, or a file of pairs given by ``--pairs``
or by the ini option ``rlcircuits_pairs``. Two fixtures, each parametrized over the pairs:

- ``effect``: a :class:`~rlcircuits.expectations.Finding`, one a pair and metric (intensity, complexity,
  kurtosis). Where the pair's algorithm asserts nothing of a metric the test is skipped, with the numbers.
- ``pair_comparison``: the pair's whole :class:`~rlcircuits.comparison.Comparison`;
  :func:`rlcircuits.expectations.judge` gives its verdict.

A pair is measured once a session, when its first test asks for it. Importing this module costs nothing much:
torch is imported when a pair is measured.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from rlcircuits.errors import RLCircuitsError

if TYPE_CHECKING:
    from rlcircuits.comparison import Comparison
    from rlcircuits.expectations import Finding
    from rlcircuits.pairs import Pair

INI_PAIRS = "rlcircuits_pairs"
NO_PAIRS = (
    "no pair of checkpoints was given: use --before DIR --after DIR --algorithm NAME, or --pairs FILE.toml, "
    f"or set {INI_PAIRS} in the pytest configuration"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that say which pairs to measure, and how."""
    group = parser.getgroup("rlcircuits", "RL circuits: compare two checkpoints")
    add = group.addoption
    add("--before", metavar="DIR", help="checkpoint before the training: a folder or a hub id")
    add("--after", metavar="DIR", help="checkpoint after it")
    add("--algorithm", metavar="NAME", help="how it was trained: grpo, ppo, dpo, sft, ...")
    add("--questions", metavar="SET", default="arithmetic", help="question set (default: %(default)s)")
    add("--pairs", metavar="FILE.toml", help=f"many pairs; default: the ini option {INI_PAIRS}")

    def setting(name: str, **kwargs: Any) -> None:
        # Prefixed: the plugin is loaded in every session of whoever installs the package, and must not
        # take `--device` or `--k` from the conftest.py of a project that has its own.
        add(f"--rlcircuits-{name}", dest=f"rlcircuits_{name.replace('-', '_')}", **kwargs)

    setting("k", type=int, default=200, metavar="K", help="questions compared (default: %(default)s)")
    setting("alpha", type=float, default=0.3, help="share of the answer length that is scored (default: %(default)s)")
    setting("question-count", type=int, default=400, metavar="N", help="questions asked (default: %(default)s)")
    setting("temperature", type=float, default=1.0, help="of sampling, 0 is greedy (default: %(default)s)")
    setting("sampling-seed", type=int, default=42, metavar="SEED", help="of sampling (default: %(default)s)")
    setting("max-new-tokens", type=int, default=32, metavar="N", help="longest answer (default: %(default)s)")
    setting("granularity", default="sublayer", choices=("sublayer", "head"), help="of the graph (default: %(default)s)")
    setting("device", help="torch device (default: the best there is)")
    setting("dtype", help="of the weights: float32, bfloat16, ... (default: the checkpoint's own)")
    setting(
        "output",
        metavar="DIR",
        help="keep each pair's answers, scores and comparison in DIR/<pair> (default: nothing is kept)",
    )
    parser.addini(INI_PAIRS, "pairs file used where no pair is given, relative to the root folder")


@dataclass
class _Session:
    """The pairs of this session and what has been measured of them so far."""

    config: pytest.Config
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    _pairs: tuple[Pair, ...] | None = None

    @property
    def source(self) -> str | None:
        """Where the pairs come from, in words; None where none are configured."""
        option = self.config.option
        if option.before:
            return f"{option.before} → {option.after} ({option.algorithm})"
        return option.pairs or self.config.getini(INI_PAIRS) or None

    @property
    def pairs(self) -> tuple[Pair, ...]:
        if self._pairs is None:
            self._pairs = self._find_pairs()
        return self._pairs

    def _find_pairs(self) -> tuple[Pair, ...]:
        # Not at the top: a session that uses no pair should not pay for these imports.
        from rlcircuits.pairs import load_pairs, make_pair, pair_name

        option = self.config.option
        if option.before:
            name = pair_name(option.before, option.after)
            fields = {key: getattr(option, key) for key in ("before", "after", "algorithm", "questions")}
            return (make_pair(name=name, **fields),)
        if option.pairs:
            return load_pairs(self.config.invocation_params.dir / option.pairs)
        ini = self.config.getini(INI_PAIRS)
        return load_pairs(self.config.rootpath / ini) if ini else ()

    def comparison(self, pair: Pair) -> Comparison:
        """Give the pair's comparison, measured at the first call; one that could not be fails all its tests."""
        if pair.name in self.failures:
            pytest.fail(self.failures[pair.name], pytrace=False)
        if pair.name not in self.comparisons:
            try:
                self.comparisons[pair.name] = self._measure(pair)
            except RLCircuitsError as error:
                self.failures[pair.name] = f"{pair.name} could not be measured: {error}"
                pytest.fail(self.failures[pair.name], pytrace=False)
            except Exception as error:
                # A fault of ours: its traceback is shown once, with the test that met it first.
                self.failures[pair.name] = f"{pair.name} could not be measured, see above: {error!r}"
                raise
        return self.comparisons[pair.name]

    def _measure(self, pair: Pair) -> Comparison:
        from rlcircuits.answers import Sampling
        from rlcircuits.pipeline import Settings, run_pair

        option = self.config.option
        settings = Settings(
            k=option.rlcircuits_k,
            alpha=option.rlcircuits_alpha,
            question_count=option.rlcircuits_question_count,
            sampling=Sampling(
                temperature=option.rlcircuits_temperature,
                seed=option.rlcircuits_sampling_seed,
                max_new_tokens=option.rlcircuits_max_new_tokens,
            ),
            granularity=option.rlcircuits_granularity,
            device=option.rlcircuits_device,
            dtype=option.rlcircuits_dtype,
        )
        output = option.rlcircuits_output
        if output is not None:
            output = self.config.invocation_params.dir / output
        bars = option.capture == "no" and sys.stderr.isatty()
        return run_pair(pair, settings, output=output, notify=self._tell, progress=bars)

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
    if option.before or option.pairs:
        # What was typed is checked at once; the ini option only where a test needs it.
        try:
            session.pairs  # noqa: B018
        except RLCircuitsError as error:
            raise pytest.UsageError(str(error)) from None


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say in one line what will be measured; nothing where no pair is given."""
    option, source = config.option, config.stash[_SESSION].source
    if source is None:
        return None
    return (
        f"rlcircuits: {source}, {option.rlcircuits_question_count} questions, K = {option.rlcircuits_k}, "
        f"alpha = {option.rlcircuits_alpha:g}, {option.rlcircuits_granularity} graph"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test a pair, or a pair and metric, of every test that asks for our fixtures."""
    wanted = [name for name in ("pair_comparison", "effect") if name in metafunc.fixturenames]
    if not wanted:
        return
    from rlcircuits.expectations import GATE_METRICS

    try:
        pairs = metafunc.config.stash[_SESSION].pairs
    except RLCircuitsError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    if not pairs:
        rows = [pytest.param(*[None] * len(wanted), id="no-pairs", marks=pytest.mark.skip(reason=NO_PAIRS))]
    elif "effect" in wanted:
        rows = [
            pytest.param(
                *(((pair, metric) if name == "effect" else pair) for name in wanted),
                id=f"{pair.name}-{metric}",
                marks=_known_not_to_hold(pair, metric),
            )
            for pair in pairs
            for metric in GATE_METRICS
        ]
    else:
        rows = [pytest.param(pair, id=pair.name) for pair in pairs]
    metafunc.parametrize(wanted, rows, indirect=True)


def _known_not_to_hold(pair: Pair, metric: Any) -> tuple[pytest.MarkDecorator, ...]:
    """A strict expected failure where the pairs file says so: it is told when the direction holds after all."""
    reason = pair.does_not_hold.get(metric)
    return () if reason is None else (pytest.mark.xfail(raises=AssertionError, strict=True, reason=reason),)


@pytest.fixture
def pair_comparison(request: pytest.FixtureRequest) -> Comparison:
    """One pair's comparison; the test runs once a pair."""
    return request.config.stash[_SESSION].comparison(request.param)


@pytest.fixture
def effect(request: pytest.FixtureRequest) -> Finding:
    """Whether one metric of one pair moved as its algorithm should make it; once a pair and metric."""
    from rlcircuits.expectations import judge

    pair, metric = request.param
    finding = judge(request.config.stash[_SESSION].comparison(pair)).findings[metric]
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
