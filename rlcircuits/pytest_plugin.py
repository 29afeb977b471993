"""The pytest plugin: two checkpoints in, a verdict out, as tests.

It is loaded with the package (entry point ``rlcircuits``), so a repository of one's own needs one file:

    def test_effect(effect):
        assert effect.holds, effect.message

and then ``pytest --before=SFT_DIR --after=RL_DIR --algorithm=grpo``, or a file of pairs given by ``--pairs=FILE``
or by the ini option ``rlcircuits_pairs``. With a space instead of ``=`` pytest takes a path for one of tests, and
may look for its configuration beside it. A project that has an option ``--before`` of its own keeps it, and writes
``--rlcircuits-before`` for ours; so with the others. Three fixtures, the first two parametrized over the pairs:

- ``effect``: a :class:`~rlcircuits.Finding`, one a pair and measure: intensity, complexity, kurtosis,
  accuracy, and for a control ``not-online-rl``. Where the pair's profile asserts nothing of a measure the test
  is skipped, with the numbers.
- ``pair_comparison``: the pair's whole :class:`~rlcircuits.comparison.comparison.Comparison`;
  :func:`rlcircuits.comparison.verdict.judge` gives its verdict.
- ``compared``: ``compared(name)`` is the comparison of the pair of that name.

Where no pair was given at all they fail: a release must not pass for having been compared with nothing.
A pair is measured once a session, when its first test asks for it, under pytest-xdist too; a base that several
pairs share answers once.

A pair that does not hold fails its tests, and pytest exits with 1. One that could not be measured is an *error* of its
tests, and pytest exits with 4 for bad input or set-up, or 3 for a fault of rlcircuits.
Importing this module costs nothing much: torch is imported when a pair is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, cast

import pytest

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.pytest_session.options import (
    add_options,
    empty_option,
    hint,
    look_for_tests_as_ever,
    option,
    take_short_names,
    typed_settings,
)
from rlcircuits.pytest_session.reports import Reports
from rlcircuits.pytest_session.session import Session

if TYPE_CHECKING:
    from rlcircuits.comparison.comparison import Comparison
    from rlcircuits.comparison.verdict import Finding
    from rlcircuits.release.pairs_file import Pair

_SESSION = pytest.StashKey[Session]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that say which pairs to measure, and how."""
    add_options(parser)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, Any, Any]:
    """Take --before and the other short names where no conftest.py and no other plugin has them."""
    look_for_tests_as_ever(early_config, args)
    result = yield
    take_short_names(early_config, parser, args)
    return result


def pytest_configure(config: pytest.Config) -> None:
    """Refuse options that do not go together before anything is collected."""
    before, after, algorithm, pairs = (option(config, name) for name in ("before", "after", "algorithm", "pairs"))

    wrong = None
    if (empty := empty_option(config)) is not None:
        wrong = f"{empty} is empty; give it a value, or leave it out"
    elif bool(before) != bool(after):
        given, missing = ("before", "after") if before else ("after", "before")
        wrong = f"--{given} was given without --{missing}; a pair needs both"
    elif before and not algorithm:
        wrong = "--before and --after need --algorithm, which says what to expect of the training"
    elif before and pairs:
        wrong = "--pairs and --before were both given; give one of them"
    elif algorithm and not before:
        wrong = "--algorithm is for --before and --after; a pairs file names each pair's own"
    if wrong is not None:
        raise pytest.UsageError(wrong + hint(config))
    session = config.stash[_SESSION] = Session(config)
    # What was typed is checked at once; the ini option only where a test needs it.
    try:
        if before or pairs:
            file = session.file
            if typed := typed_settings(config):
                file.make_settings(typed)
        if session.output is not None:
            from rlcircuits.common.files import ensure_output_folder

            ensure_output_folder(session.output, "--rlcircuits-output")
    except RLCircuitsError as error:
        raise pytest.UsageError(str(error)) from None
    config.pluginmanager.register(Reports(session), "rlcircuits-reports")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what was kept for the session."""
    session = config.stash.get(_SESSION, None)
    if session is not None:
        session.close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Let pytest-xdist's workers share what they measure."""
    node.config.stash[_SESSION].start_worker(node)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say in one line what will be measured; nothing where no pair is given."""
    source = config.stash[_SESSION].source
    if source is None:
        return None
    typed = typed_settings(config)
    typed |= typed.pop("sampling", {})
    said = [f"rlcircuits: {source}", *(f"{name} = {value}" for name, value in typed.items())]
    return ", ".join(said) + hint(config, typed_only=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test a pair, or a pair and measure, of every test that asks for our fixtures."""
    # By the names that only our fixtures ask for: a project may have an `effect` of its own.
    wanted = [name for name in ("_rlcircuits_pair", "_rlcircuits_measure") if name in metafunc.fixturenames]
    if not wanted:
        return
    try:
        pairs = metafunc.config.stash[_SESSION].file.pairs
    except RLCircuitsError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    if not pairs:
        return  # one test that fails, and no error of collecting, which would stop a repository's other tests too
    if "_rlcircuits_measure" in wanted:
        rows = [
            pytest.param(pair, measure, id=f"{pair.name}-{measure}", marks=_known_not_to_hold(pair, measure))
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


def pytest_collection_finish(session: pytest.Session) -> None:
    """See which pairs the tests that were selected ask for."""
    pairs = {}
    for item in session.items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        if (pair := params.get("_rlcircuits_pair")) is not None:
            pairs[pair.name] = pair
    session.config.stash[_SESSION].to_come = tuple(pairs.values())


@pytest.fixture
def _rlcircuits_pair(request: pytest.FixtureRequest) -> Pair | None:
    return getattr(request, "param", None)


@pytest.fixture
def _rlcircuits_measure(request: pytest.FixtureRequest) -> Any:
    return getattr(request, "param", None)


@pytest.fixture
def pair_comparison(request: pytest.FixtureRequest, _rlcircuits_pair: Pair | None) -> Comparison:
    """One pair's comparison; the test runs once a pair, and fails where there is none."""
    if _rlcircuits_pair is None:
        return cast("Comparison", _without_pairs(request))
    return request.config.stash[_SESSION].comparison(_rlcircuits_pair)


@pytest.fixture
def compared(request: pytest.FixtureRequest) -> Callable[[str], Comparison]:
    """Give a pair's comparison by its name: fails where the session has no pair, skips where none of that name."""
    session = request.config.stash[_SESSION]
    if session.source is None and (other := _of_another_plugin(request)) is not None:
        return cast("Callable[[str], Comparison]", other)

    def comparison(name: str) -> Comparison:
        for pair in session.file.pairs:
            if pair.name == name:
                return session.comparison(pair)
        if not session.file.pairs:
            session.fail_without_pairs()
        pytest.skip(f"no pair of this session is named {name!r}")

    return comparison


@pytest.fixture
def effect(request: pytest.FixtureRequest, _rlcircuits_pair: Pair | None, _rlcircuits_measure: Any) -> Finding:
    """Whether one measure of one pair is as its profile wants it; once a pair and measure, failing without any."""
    if _rlcircuits_pair is None:
        return cast("Finding", _without_pairs(request))

    finding = request.config.stash[_SESSION].verdict(_rlcircuits_pair).all_findings[_rlcircuits_measure]
    if finding.holds is None:
        pytest.skip(f"reported, not asserted for this algorithm\n{finding.message}")
    return finding


def _of_another_plugin(request: pytest.FixtureRequest) -> Any:
    """The fixture of the same name that another plugin has, which ours stands before; None where there is none.

    For sessions without pairs, which are no business of ours.
    """
    assert request.fixturename is not None
    try:
        return request.getfixturevalue(request.fixturename)
    except pytest.FixtureLookupError:
        return None


def _without_pairs(request: pytest.FixtureRequest) -> Any:
    found = _of_another_plugin(request)
    if found is None:
        request.config.stash[_SESSION].fail_without_pairs()
    return found
