"""The pytest plugin: compare two checkpoints in tests.

Installing the package loads the plugin (entry point ``rlcircuits``). A repository needs one test file,

    def test_effect(effect):
        assert effect.holds, effect.message

which runs with ``pytest --before=SFT_DIR --after=RL_DIR --algorithm=grpo``, or with a pairs file, given by
``--pairs=FILE`` or the ini option ``rlcircuits_pairs``. Write ``=`` and no space before a path: pytest takes a path
after a space for one of tests. A project with a ``--before`` of its own keeps it, and writes ``--rlcircuits-before``
for the plugin's; likewise for the other options.

The plugin has three fixtures. A test that asks for one of the first two runs once for each pair.

- ``effect``: a :class:`~rlcircuits.Finding`, one for each measure of the pair: intensity, complexity, kurtosis,
  accuracy, for a pair without reinforcement learning ``not-online-rl``, what the pair claims of its accuracy, and what
  it asserts of its circuits. The test is skipped, with the numbers as the reason, if the pair's profile asserts nothing
  of the measure. If the finding is inconclusive ``effect.holds`` is False; with
  ``--rlcircuits-on-inconclusive=warn`` or ``pass`` the test is skipped.
- ``pair_comparison``: the pair's :class:`~rlcircuits.comparison.comparison.Comparison`, of which
  :func:`rlcircuits.comparison.verdict.judge` gives the verdict.
- ``compared``: a function that returns the comparison of the pair with a given name.

The fixtures fail in a session without pairs, because a release must not pass without having been compared. Each pair is
measured once a session, when the first test asks for it, also under pytest-xdist. Pairs with the same base share its
answers.

If a pair does not hold its tests fail, and pytest exits with 1; with 6 if tests failed on findings alone and the
release as a whole is inconclusive. If a pair cannot be measured its tests are errors, and pytest exits with 4 for bad
input and with 3 for a fault of rlcircuits. If the pairs file has a table ``[signs]``, the pairs' vital signs are judged
at the end of the session: pytest exits with 1 if one fails, though every test may have passed, and with 4 if some could
not be measured.

With ``--junitxml=FILE`` each test of a pair has the numbers as properties, and ``rlcircuits.pair_seconds``: how long
the pair took to measure, however many tests share it. ``--rlcircuits-summary=FILE.md`` writes the outcome as Markdown.

Importing this module imports neither torch nor numpy. They are imported when a pair is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, cast

import pytest

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.failures import Failure
from rlcircuits.common.urls import check_no_url
from rlcircuits.pytest_session.inconclusive import skip_inconclusive
from rlcircuits.pytest_session.options import (
    add_options,
    find_empty_option,
    hint_at_long_names,
    keep_looking_for_tests,
    option_value,
    register_short_names,
    settings_table,
)
from rlcircuits.pytest_session.reports import FINDING, Reports
from rlcircuits.pytest_session.session import Session

if TYPE_CHECKING:
    from rlcircuits.comparison.comparison import Comparison
    from rlcircuits.comparison.verdict import Finding
    from rlcircuits.release.pair import Pair

_SESSION = pytest.StashKey[Session]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that say which pairs to measure, and how."""
    add_options(parser)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, Any, Any]:
    """Register --before and the other short names, unless a conftest.py or another plugin has them."""
    keep_looking_for_tests(early_config, args)
    result = yield
    register_short_names(early_config, parser, args)
    return result


def pytest_configure(config: pytest.Config) -> None:
    """Reject options that do not fit together, before pytest collects tests."""
    if (wrong := _what_is_wrong(config)) is not None:
        raise pytest.UsageError(wrong + hint_at_long_names(config))
    session = config.stash[_SESSION] = Session(config)
    # Options are checked now, the ini option's file only when a test needs it.
    try:
        if option_value(config, "before") or option_value(config, "pairs"):
            file = session.file
            if given := settings_table(config):
                file.make_settings(given)
        if session.output is not None:
            from rlcircuits.common.files import ensure_output_folder

            ensure_output_folder(session.output, "--rlcircuits-output")
        if session.summary is not None:
            from rlcircuits.common.files import ensure_writable_file

            check_no_url(option_value(config, "summary"), "--rlcircuits-summary", "file")
            ensure_writable_file(session.summary, "--rlcircuits-summary")
    except RLCircuitsError as error:
        raise pytest.UsageError(str(error)) from None
    config.pluginmanager.register(Reports(session), "rlcircuits-reports")


def _what_is_wrong(config: pytest.Config) -> str | None:
    """Return what is wrong with the options that name the pairs; None if nothing is."""
    before, after, algorithm, pairs = (option_value(config, name) for name in ("before", "after", "algorithm", "pairs"))
    if (empty := find_empty_option(config)) is not None:
        return f"{empty} is empty; give it a value, or leave it out"
    if bool(before) != bool(after):
        given, missing = ("before", "after") if before else ("after", "before")
        return f"--{given} was given without --{missing}; a pair needs both"
    if before and not algorithm:
        return "--before and --after need --algorithm, which says what to expect of the training"
    if before and pairs:
        return "--pairs and --before were both given; give one of them"
    if algorithm and not before:
        return "--algorithm is for --before and --after; a pairs file names each pair's own"
    return _what_is_wrong_with_ray(config)


def _what_is_wrong_with_ray(config: pytest.Config) -> str | None:
    if option_value(config, "ray") is None:
        of_ray = option_value(config, "ray_gpus") is not None
        return "--rlcircuits-ray-gpus is of --rlcircuits-ray; give both, or leave it out" if of_ray else None
    if option_value(config, "output") is None:
        return "--rlcircuits-ray needs --rlcircuits-output=DIR: the folder through which its workers give their results"
    if getattr(config.option, "dist", "no") != "no":  # of pytest-xdist
        return "--rlcircuits-ray and -n were both given; Ray measures pairs side by side by itself, so leave out -n"
    return None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the session's temporary folder."""
    session = config.stash.get(_SESSION, None)
    if session is not None:
        session.close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Let a worker of pytest-xdist share what it measures."""
    node.config.stash[_SESSION].start_worker(node)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Return one line that says what will be measured; None in a session without pairs."""
    source = config.stash[_SESSION].source
    if source is None:
        return None
    given = settings_table(config)
    given |= given.pop("sampling", {})
    if (on_inconclusive := option_value(config, "on_inconclusive")) is not None:
        given["on_inconclusive"] = on_inconclusive
    parts = [f"rlcircuits: {source}", *(f"{name} = {value}" for name, value in given.items())]
    return ", ".join(parts) + hint_at_long_names(config, typed_only=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that asks for `effect` or `pair_comparison` once a pair and measure, or once a pair."""
    # Looked for by names that only our fixtures ask for, since a project may have a fixture `effect` of its own.
    wanted = [name for name in ("_rlcircuits_pair", "_rlcircuits_measure") if name in metafunc.fixturenames]
    if not wanted:
        return
    try:
        pairs = metafunc.config.stash[_SESSION].file.pairs
    except RLCircuitsError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    if not pairs:
        return  # the test then fails; an error here would stop the repository's other tests too
    if "_rlcircuits_measure" in wanted:
        rows = [
            pytest.param(pair, measure, id=f"{pair.name}-{measure}", marks=_known_not_to_hold(pair, measure))
            for pair in pairs
            for measure in pair.measures
        ]
    else:
        rows = [pytest.param(pair, id=pair.name) for pair in pairs]
    metafunc.parametrize(wanted, rows, indirect=True)


def _known_not_to_hold(pair: Pair, measure: Any) -> tuple[pytest.MarkDecorator, ...]:
    """Return the mark of a strict expected failure for a measure that the pairs file says does not hold."""
    reason = pair.does_not_hold.get(measure)
    return () if reason is None else (pytest.mark.xfail(raises=AssertionError, strict=True, reason=reason),)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell the session which pairs the selected tests ask for."""
    pairs = {}
    for item in session.items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        if (pair := params.get("_rlcircuits_pair")) is not None:
            pairs[pair.name] = pair
    session.config.stash[_SESSION].selected = tuple(pairs.values())


@pytest.fixture
def _rlcircuits_pair(request: pytest.FixtureRequest) -> Pair | None:
    return getattr(request, "param", None)


@pytest.fixture
def _rlcircuits_measure(request: pytest.FixtureRequest) -> Any:
    return getattr(request, "param", None)


@pytest.fixture
def pair_comparison(request: pytest.FixtureRequest, _rlcircuits_pair: Pair | None) -> Comparison:
    """Return a pair's comparison; the test runs once for each pair, and fails in a session without pairs."""
    if _rlcircuits_pair is None:
        return cast("Comparison", _without_pairs(request))
    session = request.config.stash[_SESSION]
    comparison = session.comparison(_rlcircuits_pair)
    if not isinstance(session.judge(comparison), Failure):  # what cannot be judged is the test's to find out
        request.node.user_properties += session.properties(_rlcircuits_pair)
    return comparison


@pytest.fixture
def compared(request: pytest.FixtureRequest) -> Callable[[str], Comparison]:
    """Return a function from a pair's name to its comparison.

    The function fails the test in a session without pairs, and skips it if no pair has that name.
    """
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
    """Return the finding on one measure of a pair; the test runs once for each pair and measure."""
    if _rlcircuits_pair is None:
        return cast("Finding", _without_pairs(request))

    session = request.config.stash[_SESSION]
    finding = session.verdict(_rlcircuits_pair).all_findings[_rlcircuits_measure]
    request.node.user_properties += session.properties(_rlcircuits_pair, _rlcircuits_measure)
    if finding.holds is None:
        pytest.skip(f"reported, not asserted for this algorithm\n{finding.message}")
    request.node.stash[FINDING] = finding
    skip_inconclusive(finding, session.on_inconclusive)
    return finding


def _of_another_plugin(request: pytest.FixtureRequest) -> Any:
    """Return the value of another plugin's fixture of the same name, which ours overrides; None if there is none.

    In a session without pairs the other plugin's fixture is the one that tests mean.
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
