"""The pytest plugin beside the options, fixtures and plugins of projects that do not know it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from helpers.plugin_runs import PLUGIN, Run

# Here, since pytester forgets what a session imported, and torch can be imported once only.
import rlcircuits.release.run  # noqa: F401

pytestmark = pytest.mark.slow

NAMES = ("before", "after", "algorithm", "questions", "pairs")

SAYS_WHAT_WAS_ASKED = """
import pytest

@pytest.fixture(autouse=True)
def no_measuring(monkeypatch):
    from rlcircuits.common.errors import RLCircuitsError

    def run_pair(pair, *_, notify, **__):
        notify(f"{pair.name}: a stage")
        raise RLCircuitsError(f"asked for {pair.before}, {pair.after}, {pair.algorithm}, {pair.questions.name}")

    monkeypatch.setattr("rlcircuits.release.run.run_pair", run_pair)
"""
USERS_TEST = "def test_effect(effect):\n    assert effect.holds\n"


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Runs pytest as a stranger does."""
    pytester.syspathinsert()
    return lambda *arguments: pytester.runpytest_inprocess("-p", "no:cacheprovider", *PLUGIN, *arguments)


@pytest.fixture
def run_apart(pytester: pytest.Pytester) -> Run:
    """Runs pytest in a process of its own."""
    return lambda *arguments: pytester.runpytest_subprocess("-p", "no:cacheprovider", *PLUGIN, *arguments)


def option_of(name: str, *, more: str = "") -> str:
    return f"def pytest_addoption(parser):\n    parser.addoption('--{name}'{more})\n"


def checks_option(name: str, value: object) -> str:
    return (
        f"def test_mine(request):\n"
        f"    assert request.config.getoption('--{name}') == {value!r}\n"
        f"    assert request.config.option.{name} == {value!r}\n"
        f"    assert request.config.getoption('rlcircuits_{name}') in (None, 'arithmetic')\n"
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", ["conftest", "plugin before", "tests folder", "folder given", "found late"])
def test_a_project_keeps_its_own_option(run: Run, pytester: pytest.Pytester, name: str, where: str) -> None:
    """Wherever it is declared, and with and without a value; it is never read as ours."""
    declared = option_of(name, more=", default='x'")
    arguments: list[str] = []
    folder = pytester.path
    if where == "plugin before":
        pytester.makepyfile(their_plugin=declared)
        arguments = ["-p", "their_plugin"]
    else:
        folder = {
            "conftest": pytester.path,
            "tests folder": pytester.path / "tests",
            "folder given": pytester.path / "checks" / "more",
            "found late": pytester.path / "checks" / "more",
        }[where]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "conftest.py").write_text(declared)
        arguments = ["checks/more"] if where == "folder given" else []
    (folder / "test_it.py").write_text(checks_option(name, "x"))
    result = run(*arguments)
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    if where != "found late":  # pytest knows such an option too late for any value
        (folder / "test_it.py").write_text(checks_option(name, "y"))
        for value in ([f"--{name}=y"], [f"--{name}", "y"]):
            result = run(*arguments, *value)
            result.assert_outcomes(passed=1)
            assert result.ret == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("more", "given", "value"),
    [
        (", action='store_true'", [], False),
        (", action='store_true'", ["--{}"], True),
        (", action='append', type=int", ["--{}", "3", "--{}=4"], [3, 4]),
        (", nargs='?', const='c'", ["--{}"], "c"),
        (", choices=['p', 'q']", ["--{}=q"], "q"),
        (", default=()", [], ()),
    ],
)
def test_a_projects_option_of_any_kind(
    run: Run, pytester: pytest.Pytester, name: str, more: str, given: list[str], value: object
) -> None:
    pytester.makeconftest(option_of(name, more=more))
    pytester.makepyfile(checks_option(name, value))
    result = run(*(argument.format(name) for argument in given))
    result.assert_outcomes(passed=1)
    assert result.ret == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_projects_option_with_an_abbreviation_or_only_our_destination(
    run: Run, pytester: pytest.Pytester, name: str
) -> None:
    pytester.makeconftest(
        f"def pytest_addoption(parser):\n"
        f"    parser.addoption('-Z', '--{name[:3]}', '--my-{name}', dest='{name}', default=7)\n"
        f"    parser.addini('{name}', 'mine')\n"
    )
    pytester.makeini(f"[pytest]\n{name} = theirs\n")
    pytester.makepyfile(
        f"def test_mine(request):\n"
        f"    assert request.config.option.{name} == 7\n"
        f"    assert request.config.getini('{name}') == 'theirs'\n"
        f"def test_no_pair(request):\n"
        f"    assert request.config.getoption('rlcircuits_{name}') in (None, 'arithmetic')\n"
    )
    run().assert_outcomes(passed=2)


def test_all_five_options_at_once_and_help(run: Run, pytester: pytest.Pytester) -> None:
    """Ours are still to be had under their own names."""
    pytester.makeconftest(
        "def pytest_addoption(parser):\n    for name in "
        f"{NAMES!r}:\n        parser.addoption('--' + name, default='x', help='mine')\n{SAYS_WHAT_WAS_ASKED}"
    )
    pytester.makepyfile(USERS_TEST)
    result = run("--help")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*--rlcircuits-before=DIR*", "*--before=BEFORE*mine"])
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["no pair of checkpoints was given: *so write --rlcircuits-before, *"])
    ours = {"before": "a/b", "after": "c/d", "algorithm": "ppo", "questions": "equations"}
    result = run(*(f"--rlcircuits-{name}={value}" for name, value in ours.items()))
    result.stdout.fnmatch_lines(["*could not be measured: asked for a/b, c/d, ppo, equations"])


def test_help_lists_our_options(run: Run) -> None:
    result = run("--help")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["RL circuits: *(--before, --after, --algorithm, --questions, --pairs will do*"])
    for name in NAMES:
        result.stdout.fnmatch_lines([f"*--rlcircuits-{name}=*"])


@pytest.mark.parametrize("spelling", ["=", " ", "@", "addopts", "environment"])
@pytest.mark.parametrize("existing", [True, False])
def test_the_short_names_are_ours_where_nobody_has_them(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, spelling: str, existing: bool
) -> None:
    pytester.makeconftest(option_of("mine") + SAYS_WHAT_WAS_ASKED)
    pytester.makepyfile(USERS_TEST)
    given = {"before": "./models/one", "after": "./models/two"} if existing else {"before": "a/b", "after": "c/d"}
    given |= {"algorithm": "dpo", "questions": "equations"}
    if existing:
        for name in ("one", "two"):
            (pytester.path / "models" / name).mkdir(parents=True)
    arguments = [f"--{name}={value}" for name, value in given.items()]
    if spelling == " ":
        arguments = [part for argument in arguments for part in argument.split("=")]
    elif spelling == "@":
        if pytest.version_tuple < (8, 2):
            pytest.skip("this pytest reads no arguments from files")
        (pytester.path / "arguments.txt").write_text("\n".join(arguments))
        arguments = ["@arguments.txt"]
    elif spelling == "addopts":
        pytester.makeini(f"[pytest]\naddopts = {' '.join(arguments)}\n")
        arguments = []
    elif spelling == "environment":
        monkeypatch.setenv("PYTEST_ADDOPTS", " ".join(arguments))
        arguments = []
    result = run(*arguments, "--mine=6")
    result.assert_outcomes(errors=4)
    result.stdout.fnmatch_lines([f"rlcircuits: {given['before']} → {given['after']} (dpo)"])
    folder = str(pytester.path / "models") if existing else ""
    before, after = (f"{folder}/one", f"{folder}/two") if existing else ("a/b", "c/d")
    result.stdout.fnmatch_lines([f"*could not be measured: asked for {before}, {after}, dpo, equations"])


def test_a_path_after_a_space_does_not_hide_the_projects_conftest(run: Run, pytester: pytest.Pytester) -> None:
    """pytest takes it for one of tests while it looks for conftest.py files."""
    pytester.makeini("[pytest]\ntestpaths = checks")
    (pytester.path / "checks").mkdir()
    (pytester.path / "checks" / "conftest.py").write_text(option_of("mine") + SAYS_WHAT_WAS_ASKED)
    (pytester.path / "checks" / "test_it.py").write_text(USERS_TEST)
    for name in ("one", "two"):
        (pytester.path / name).mkdir()
    result = run("--before", "one", "--after", "two", "--algorithm", "dpo", "--mine=6")
    result.stdout.fnmatch_lines([f"*could not be measured: asked for {pytester.path}/one, {pytester.path}/two, dpo, *"])


@pytest.mark.parametrize("name", ["before", "after", "algorithm"])
def test_a_name_that_is_anothers_is_said(run: Run, pytester: pytest.Pytester, name: str) -> None:
    pytester.makeconftest(option_of(name) + SAYS_WHAT_WAS_ASKED)
    pytester.makepyfile(USERS_TEST)
    given = {"before": "a/b", "after": "c/d", "algorithm": "grpo"}
    result = run(*(f"--{key}={value}" for key, value in given.items()))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"ERROR: *; this project or another plugin has a --{name} of its own, so write --rlcircuits-{name} here"]
    )
    right = [f"--{'rlcircuits-' if key == name else ''}{key}={value}" for key, value in given.items()]
    run(*right).stdout.fnmatch_lines(["*could not be measured: asked for a/b, c/d, grpo, arithmetic"])


def test_another_question_set_than_was_meant_is_said(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(option_of("questions") + SAYS_WHAT_WAS_ASKED)
    pytester.makepyfile(USERS_TEST)
    given = ("--before=a/b", "--after=c/d", "--algorithm=grpo")
    run(*given).stdout.fnmatch_lines(["rlcircuits: a/b → c/d (grpo)"])
    result = run(*given, "--questions=gsm8k")
    result.stdout.fnmatch_lines(
        ["rlcircuits: a/b → c/d (grpo); *has a --questions of its own, so write --rlcircuits-qu*"]
    )


def test_a_usage_error_of_the_project_is_pytests_own(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest("def pytest_addoption(parser):\n    parser.addoption('--before', type=int)\n")
    result = run("--before=x")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*error: argument --before: invalid int value: 'x'"])
    assert run("--befor=x").ret == pytest.ExitCode.USAGE_ERROR


FIXTURES = """
import pytest

@pytest.fixture
def effect():
    return 1

@pytest.fixture(params=["a", "b"])
def compared(request):
    return request.param

@pytest.fixture(scope="session")
def pair_comparison():
    return 3
"""
USES = """
def test_effect(effect):
    assert effect == 1
def test_compared(compared):
    assert compared in "ab"
def test_pair_comparison(pair_comparison):
    assert pair_comparison == 3
"""


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("where", ["conftest", "module", "class", "plugin"])
def test_a_project_keeps_its_own_fixtures(run: Run, pytester: pytest.Pytester, where: str, pairs: bool) -> None:
    if where == "plugin" and pairs:
        pytest.skip("of two plugins with fixtures of one name pytest takes one, and with pairs it is ours")
    uses = USES
    arguments = ["--before=a/b", "--after=c/d", "--algorithm=grpo"] if pairs else []
    if where == "conftest":
        pytester.makeconftest(FIXTURES)
    elif where == "module":
        uses = FIXTURES + USES
    elif where == "class":
        inner = "".join(f"    {line}\n" for line in (FIXTURES + USES).replace("import pytest", "").splitlines())
        uses = "import pytest\nclass TestIt:\n" + inner.replace("(effect)", "(self, effect)").replace(
            "(compared)", "(self, compared)"
        ).replace("(pair_comparison)", "(self, pair_comparison)").replace("def effect()", "def effect(self)").replace(
            "compared(request)", "compared(self, request)"
        ).replace("pair_comparison()", "pair_comparison(self)")
    else:
        pytester.makepyfile(their_plugin=FIXTURES.replace('(params=["a", "b"])', "").replace("request.param", "'a'"))
        arguments += ["-p", "their_plugin"]
    pytester.makepyfile(uses)
    result = run(*arguments)
    result.assert_outcomes(passed=3 if where == "plugin" else 4)
    assert result.ret == 0


@pytest.mark.parametrize("name", ["effect", "compared", "pair_comparison"])
def test_a_project_parametrizes_an_argument_of_our_fixtures_name(
    run: Run, pytester: pytest.Pytester, name: str
) -> None:
    pytester.makepyfile(
        f"import pytest\n"
        f"@pytest.mark.parametrize('{name}', [1, 2])\n"
        f"def test_marked({name}):\n    assert {name} in (1, 2)\n"
        f"def test_generated({name}):\n    assert {name} == 3\n"
    )
    pytester.makeconftest(
        f"def pytest_generate_tests(metafunc):\n"
        f"    if metafunc.function.__name__ == 'test_generated':\n        metafunc.parametrize('{name}', [3])\n"
    )
    result = run("-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*::test_marked[[]1[]] PASSED*", "*::test_generated[[]3[]] PASSED*"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["-p", "no:terminal"],
        ["-p", "no:capture"],
        ["-p", "no:terminal", "-p", "no:capture", "-p", "no:logging", "-p", "no:skipping"],
        ["-p", "no:xdist"],
        ["-p", "no:junitxml", "-p", "no:warnings"],
        ["-s"],
        ["-q", "-q"],
        ["--co"],
        ["--markers"],
        ["--fixtures"],
        ["--setup-plan"],
        ["--version"],
        ["--collect-only", "-q"],
        ["--import-mode=importlib"],
        ["--noconftest"],
    ],
)
def test_a_session_with_other_plugins_gone_or_other_ways_runs(
    run: Run, pytester: pytest.Pytester, arguments: list[str]
) -> None:
    pytester.makepyfile("def test_mine():\n    pass\n")
    assert run(*arguments).ret == 0


def test_a_session_that_takes_warnings_for_errors_runs(run_apart: Run, pytester: pytest.Pytester) -> None:
    """In a process of its own, in which the plugin is yet to be imported."""
    pytester.makepyfile("def test_mine():\n    pass\n")
    assert run_apart("-W", "error").ret == 0


@pytest.mark.parametrize("without", ["terminal", "capture"])
def test_a_pair_without_terminal_or_capture(run: Run, pytester: pytest.Pytester, without: str) -> None:
    pytester.makeconftest(SAYS_WHAT_WAS_ASKED)
    pytester.makepyfile(USERS_TEST)
    result = run("-p", f"no:{without}", "--before=a/b", "--after=c/d", "--algorithm=grpo")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_a_session_of_a_stranger_imports_nothing_of_weight(run_apart: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "import sys\n"
        "def test_mine():\n"
        "    heavy = {'torch', 'transformers', 'numpy', 'scipy', 'pydantic', 'filelock', 'tabulate', 'rich'}\n"
        "    assert not heavy & set(sys.modules)\n"
    )
    plugins = ["-p", "no:xdist", "-p", "no:hypothesispytest", "-p", "no:benchmark", "-p", "no:jaxtyping"]
    run_apart(*plugins).assert_outcomes(passed=1)


def test_importing_the_plugin_takes_little_more_than_pytest() -> None:
    code = (
        "import sys, pytest\nbefore = set(sys.modules)\nimport rlcircuits.pytest_plugin\n"
        "print(*sorted(name for name in set(sys.modules) - before if not name.startswith('rlcircuits')))"
    )
    new = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert len(new) < 40, new
