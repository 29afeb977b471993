"""Valid JSON, TOML and bytes, made malformed in every way that files are: generators, so that nothing is picked."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Path = tuple[str | int, ...]
"""Where a value is: keys, and places in lists."""

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
"""A value of every kind, as JSON text by name."""

JSON_ODDITIES: Mapping[str, str] = {
    "5,000 digits": "9" * 5_000,
    "1e400": "1e400",
    "NaN": "NaN",
    "minus infinity": "-Infinity",
    "minus zero": "-0.0",
    "100,000 deep": "[" * _DEEP + "]" * _DEEP,
    "lone surrogate": r'"\ud800"',
}
"""What readers of JSON stumble over."""

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
"""A value of every kind in TOML, which has no null and knows dates."""

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
    """Every field of the objects of a document; of a list of objects those of its first."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield (*within, key)
            yield from fields(value, (*within, key))
    elif isinstance(document, list) and document and isinstance(document[0], dict):
        yield from fields(document[0], (*within, 0))


def values(
    paths: Iterable[Path], kinds: Mapping[str, str], oddities: Mapping[str, str], count: int | None = None
) -> Iterator[tuple[Path, str, str]]:
    """For every field values of all kinds and the oddities: their names and texts. `count`: so many, taken in turn."""
    every = [*kinds.items(), *oddities.items()]
    turn = itertools.cycle(every)
    for path in paths:
        for name, value in itertools.islice(turn, len(every) if count is None else count):
            yield path, name, value


def without(document: Any, path: Path) -> str:
    """The document as JSON without a field."""
    changed = _copy(document)
    del _parent(changed, path)[path[-1]]
    return json.dumps(changed)


def renamed(document: Any, path: Path) -> str:
    """The document as JSON with a field of a name that is off by a letter."""
    changed = _copy(document)
    parent = _parent(changed, path)
    parent[f"{path[-1]}_"] = parent.pop(path[-1])
    return json.dumps(changed)


def replaced(document: Any, path: Path, value: str) -> str:
    """The document as JSON with another value of a field, given as text."""
    changed = _copy(document)
    _parent(changed, path)[path[-1]] = _HERE
    return json.dumps(changed).replace(f'"{_HERE}"', value)


def doubled(document: Any, path: Path, value: str = "null") -> str:
    """The document as JSON with a field twice: first with a value given as text, then as it was."""
    right = json.dumps(_parent(document, path)[path[-1]])
    return replaced(document, path, f'{value}, "{path[-1]}": {right}')


def to_toml(document: Mapping[str, Any], path: Path = (), value: str | None = None) -> str:
    """The document as TOML: with another value of one field, given as text, or without that field for None."""
    changed = _copy(document)
    if path:
        parent = _parent(changed, path)
        if value is None:
            del parent[path[-1]]
        else:
            parent[path[-1]] = _HERE
    return "".join(f"{key} = {_toml(each)}\n" for key, each in changed.items()).replace(f'"{_HERE}"', value or "")


def damaged(data: bytes, *, cuts: int = 6, flips: int = 6) -> Iterator[tuple[str, bytes]]:
    """A text file's bytes, cut short, with single bits flipped, and as other programs write or leave them."""
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
    yield "rubbish behind it", data.rstrip(b"\n") + b" }} rubbish\n"
    yield "HTML", b"<!doctype html><title>404</title>\n"
    yield "a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    yield "a list", b"[1, 2]\n"
    yield "a number", b"12\n"
    yield "null", b"null\n"


def is_json(data: bytes) -> bool:
    """Whether the bytes are one JSON value in UTF-8."""
    try:
        json.loads(data.decode())
    except (ValueError, RecursionError):
        return False
    return True


def dotted(path: Path) -> str:
    """A path as it is written: ``pair.0.name``."""
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
