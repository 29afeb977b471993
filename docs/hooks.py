"""What mkdocs cannot do by itself: pages that stand outside docs/, and reference pages made from the code.

mkdocs calls the four ``on_…`` functions (see ``hooks`` in ``mkdocs.yml``).

1. `on_files` adds the pages and pictures of `OUTSIDE`, which stand elsewhere in the repository.
2. `on_page_markdown` replaces a line ``<!-- insert: NAME -->`` by what the function of that name in `INSERTS` returns.
3. It also rewrites relative links, so that one link works on a page of the site and in a checkout of the repository.
4. `on_page_content` takes the roles of Sphinx (``:func:``, ``:data:``, …) off the names in docstrings.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent

OUTSIDE = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "trained-checkpoints.md": "fixtures/README.md",
    "pretrained-model.md": "fixtures/smollm2/README.md",
    "results/dynamics.png": "fixtures/results/dynamics.png",
}
"""Where a file of the repository stands on the site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files of `OUTSIDE` to the site."""
    for place, source in OUTSIDE.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in what is made from the code, and point links at the site's pages."""
    markdown = re.sub(r"^<!-- insert: (\w+) -->$", lambda match: INSERTS[match[1]](), markdown, flags=re.M)
    places = {Path(file.abs_src_path).resolve(): file.src_uri for file in files if file.abs_src_path}
    here = Path(str(page.file.abs_src_path)).parent

    def on_site(match: re.Match[str]) -> str:
        place = places.get((here / match[1]).resolve())
        return f"]({os.path.relpath(place, os.path.dirname(page.file.src_uri))}" if place else match[0]

    return re.sub(r"\]\((?!\w+:)([^)#\s]+)", on_site, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leave of ``:func:`~package.name` `` the name."""
    html = re.sub(r"<code>~[\w.]*?(\w+)</code>", r"<code>\1</code>", html)
    return re.sub(r":(?:attr|class|data|exc|func|meth|mod):(?=<code>)", "", html)


def public_names() -> str:
    """Return a section for each room and in it an mkdocstrings directive for each public name of ``__init__.pyi``."""
    rooms: dict[str, list[str]] = {}
    for node in ast.parse((ROOT / "rlcircuits" / "__init__.pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            rooms.setdefault(node.module.split(".")[0], []).extend(alias.name for alias in node.names)
    return "\n".join(line for room, names in rooms.items() for line in _room(room, names))


def _room(room: str, names: list[str]) -> Iterator[str]:
    module = ast.parse((ROOT / "rlcircuits" / room / "__init__.py").read_text(encoding="utf-8"))
    yield f"## {room}\n\n{ast.get_docstring(module) or ''}\n"
    for name in sorted(names, key=str.lower):
        yield f"::: rlcircuits.{name}\n"


def commands() -> str:
    """Return a section for each command of ``rlcircuits``, with its usage and a table of its options."""
    from rlcircuits.cli.main import _parser

    return "\n".join(line for parser in _commands_of(_parser()) for line in _command(parser))


def _commands_of(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for command in action.choices.values():
            yield from _commands_of(command)


def _command(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"### {parser.prog}\n\n{parser.description}\n"
    yield _options(parser)


def _options(parser: argparse.ArgumentParser) -> str:
    actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    return _table(("option", "what it does"), [(_names(action), _what_it_does(action)) for action in actions])


def _names(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else action.metavar or (not action.choices and action.dest.upper()) or ""
    if action.choices:
        value = "|".join(map(str, action.choices))
    if not action.option_strings:
        return f"`{value}`"
    return ", ".join(f"`{name} {value}`" if value else f"`{name}`" for name in action.option_strings)


def _what_it_does(action: argparse.Action) -> str:
    text = (action.help or "") % {"default": action.default, "prog": "rlcircuits"}
    text = text.replace("<", "&lt;").replace("|", "&#124;")
    return f"{text} **Required.**" if action.required and action.option_strings else text


def pytest_options() -> str:
    """Return a table of the options that the pytest plugin adds."""
    from rlcircuits.pytest_session.options import add_options

    parser = argparse.ArgumentParser(add_help=False)
    group = SimpleNamespace(addoption=parser.add_argument)
    add_options(SimpleNamespace(getgroup=lambda *_: group, addini=lambda *_: None))  # type: ignore[arg-type]
    return _options(parser)


def pairs_file() -> str:
    """Return the commented ``release.toml`` that ``rlcircuits init`` writes, as a block of code."""
    from rlcircuits.cli.main import main

    with TemporaryDirectory() as folder:
        file = Path(folder, "release.toml")
        with contextlib.redirect_stdout(io.StringIO()):
            main(["init", str(file)])
        return f"```toml\n{file.read_text(encoding='utf-8')}```"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


INSERTS = {function.__name__: function for function in (public_names, commands, pytest_options, pairs_file)}
