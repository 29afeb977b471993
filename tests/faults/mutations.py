"""Generate malformed variants of valid JSON, TOML and text files. Generated, so that nobody picks easy cases."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Path = tuple[str | int, ...]
"""Path of a value in a document: keys of objects and indices of lists."""

_DEEP = 100_000

JSON_VALUES: Mapping[str, str] = {
    "null": "null",
    "true": "true",
    "zero": "0",
    "minus one": "-1",
    "whole": "7",
    "fraction": "0.37",
    "text": '"x y"',
    "empty text": '""',
    "list": "[]",
    "list of null": "[null]",
    "list of text": '["x y"]',
    "object": "{}",
    "object of null": '{"x": null}',
    "31 digits": "1" + "0" * 30,
}
"""A value of every JSON type, as text, by name."""

JSON_ODDITIES: Mapping[str, str] = {
    "5,000 digits": "9" * 5_000,
    "1e400": "1e400",
    "NaN": "NaN",
    "minus infinity": "-Infinity",
    "minus zero": "-0.0",
    "100,000 deep": "[" * _DEEP + "]" * _DEEP,
    "lone surrogate": r'"\ud800"',
}
"""Values that trip up JSON readers, as text, by name."""

TOML_VALUES: Mapping[str, str] = {
    "true": "true",
    "zero": "0",
    "minus one": "-1",
    "whole": "7",
    "fraction": "0.37",
    "text": '"x y"',
    "empty text": '""',
    "list": "[]",
    "list of text": '["x y"]',
    "table": "{}",
    "table of text": '{x = "y"}',
    "31 digits": "1" + "0" * 30,
    "date": "2024-07-26",
}
"""A value of every TOML type, as text, by name. TOML has no null, but dates."""

TOML_ODDITIES: Mapping[str, str] = {
    "5,000 digits": "9" * 5_000,
    "1e400": "1e400",
    "nan": "nan",
    "inf": "inf",
    "minus zero": "-0.0",
    "a list 5,000 deep": "[" * 5_000 + "]" * 5_000,
    "a table 5,000 deep": "{a = " * 5_000 + "0" + "}" * 5_000,
    "NUL": r'"\u0000"',
    "line feed": r'"\n"',
    "terminal escape": r'"\u001b[31mred"',
    "10,000 letters": '"' + "x" * 10_000 + '"',
}

_HERE = "@here@"


def fields(document: Any, within: Path = ()) -> Iterator[Path]:
    """Yield the path of every field of a document. Of a list of objects, only the first one counts."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield (*within, key)
            yield from fields(value, (*within, key))
    elif isinstance(document, list) and document and isinstance(document[0], dict):
        yield from fields(document[0], (*within, 0))


def values(
    paths: Iterable[Path], kinds: Mapping[str, str], oddities: Mapping[str, str], count: int | None = None
) -> Iterator[tuple[Path, str, str]]:
    """Yield (path, name, text) for every field and every value of `kinds` and `oddities`.

    With `count`, each field gets only so many values, which are taken in turn.
    """
    every = [*kinds.items(), *oddities.items()]
    turn = itertools.cycle(every)
    for path in paths:
        for name, value in itertools.islice(turn, len(every) if count is None else count):
            yield path, name, value


def without(document: Any, path: Path) -> str:
    """Return the document as JSON, without one field."""
    changed = _copy(document)
    del _parent(changed, path)[path[-1]]
    return json.dumps(changed)


def renamed(document: Any, path: Path) -> str:
    """Return the document as JSON, with one field's name misspelt."""
    changed = _copy(document)
    parent = _parent(changed, path)
    parent[f"{path[-1]}_"] = parent.pop(path[-1])
    return json.dumps(changed)


def replaced(document: Any, path: Path, value: str) -> str:
    """Return the document as JSON, with another value, given as text, in one field."""
    changed = _copy(document)
    _parent(changed, path)[path[-1]] = _HERE
    return json.dumps(changed).replace(f'"{_HERE}"', value)


def doubled(document: Any, path: Path, value: str = "null") -> str:
    """Return the document as JSON, with one field twice: first with a value given as text, then unchanged."""
    right = json.dumps(_parent(document, path)[path[-1]])
    return replaced(document, path, f'{value}, "{path[-1]}": {right}')


def to_toml(document: Mapping[str, Any], path: Path = (), value: str | None = None) -> str:
    """Return the document as TOML, with another value, given as text, in one field, or without it for None."""
    changed = _copy(document)
    if path:
        parent = _parent(changed, path)
        if value is None:
            del parent[path[-1]]
        else:
            parent[path[-1]] = _HERE
    return "".join(f"{key} = {_toml(each)}\n" for key, each in changed.items()).replace(f'"{_HERE}"', value or "")


def damaged(data: bytes, *, cuts: int = 6, flips: int = 6) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of a damaged text file: truncated, with flipped bits, or as other programs write it."""
    for number in range(cuts):
        end = len(data) * number // cuts
        yield f"cut at byte {end}", data[:end]
    rng = random.Random(0)
    for _ in range(flips):
        place, bit = rng.randrange(len(data)), rng.randrange(8)
        flipped = bytearray(data)
        flipped[place] ^= 1 << bit
        yield f"bit {bit} of byte {place} flipped", bytes(flipped)
    text = data.decode()
    yield "UTF-16", text.encode("utf-16")
    yield "Latin-1", data[:1] + "é".encode("latin-1") + data[1:]
    yield "byte order mark", b"\xef\xbb\xbf" + data
    yield "two byte order marks", b"\xef\xbb\xbf" * 2 + data
    yield "CRLF", data.replace(b"\n", b"\r\n")
    yield "NUL at the end", data + b"\0"
    yield "NUL within", data[:9] + b"\0" + data[9:]
    yield "white space alone", b" \t\n \n"
    yield "random bytes", random.Random(1).randbytes(300)
    yield "an executable", b"\x7fELF\x02\x01\x01" + bytes(200)
    yield "rubbish at the end", data.rstrip(b"\n") + b" }} rubbish\n"
    yield "HTML", b"<!doctype html><title>404</title>\n"
    yield "a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    yield "a list", b"[1, 2]\n"
    yield "a number", b"12\n"
    yield "null", b"null\n"


def is_json(data: bytes) -> bool:
    """Return True if the bytes are one JSON value in UTF-8."""
    try:
        json.loads(data.decode())
    except (ValueError, RecursionError):
        return False
    return True


def dotted(path: Path) -> str:
    """Return a path as text: ``pair.0.name``."""
    return ".".join(map(str, path))


def _copy(document: Any) -> Any:
    return json.loads(json.dumps(document))


def _parent(document: Any, path: Sequence[str | int]) -> Any:
    for key in path[:-1]:
        document = document[key]
    return document


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
