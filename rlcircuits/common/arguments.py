"""Validation of public functions' arguments and dataclasses' fields against their annotations.

The annotations are the only definition of what is allowed, so nothing has to be kept in step with them.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from rlcircuits.common.errors import RLCircuitsError, truncated_repr

__all__ = ["validate_arguments", "validate_fields"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a string",
    bool: "True or False",
    Path: "a path",
    NoneType: "None",
}


def validate_arguments(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make a function raise RLCircuitsError for an argument whose type does not fit its annotation.

    Missing, unknown and too many arguments still raise Python's own TypeError.
    """
    signature = inspect.signature(function)

    @functools.cache
    def kinds() -> dict[str, Any]:
        # Resolved at the first call, because some names are imported for type checkers only; a return type may be of a
        # library that is not installed.
        of_arguments = {name: kind for name, kind in function.__annotations__.items() if name != "return"}
        return get_type_hints(SimpleNamespace(__annotations__=of_arguments), function.__globals__, _PublicNames())

    @functools.wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if name in kinds():
                _check(f"{function.__qualname__}: {name}", value, kinds()[name])
        return function(*args, **kwargs)

    return wrapper


def validate_fields(instance: Any) -> None:
    """Raise RLCircuitsError for a dataclass field whose type does not fit its annotation.

    To be called in ``__post_init__``. A numpy number becomes a Python number, and an int in a float field becomes a
    float, so that equal values are stored as equal text.
    """
    import numpy as np  # not at the top: the option table imports this module when pytest starts

    kind: Any = type(instance)
    hints = _field_kinds(kind)
    for field in fields(instance):
        value, wanted = getattr(instance, field.name), hints[field.name]
        _check(f"{kind.__name__}: {field.name}", value, wanted)
        if isinstance(value, np.generic):
            value = value.item()
            object.__setattr__(instance, field.name, value)
        if wanted is float and isinstance(value, int):
            with suppress(OverflowError):  # the limits of that field reject a number that large
                object.__setattr__(instance, field.name, float(value))


@functools.cache
def _field_kinds(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, vars(sys.modules[kind.__module__]), _PublicNames())


class _PublicNames(dict[str, Any]):
    """The package's public names, each imported at its first look-up."""

    def __missing__(self, name: str) -> Any:
        import rlcircuits

        if name not in rlcircuits.__all__:
            raise KeyError(name)
        return getattr(rlcircuits, name)


def _check(where: str, value: Any, kind: Any) -> None:
    if not _fits(value, kind):
        raise RLCircuitsError(f"{where} is {_found(value, kind)}; {_words(kind)} is wanted")


def _fits(value: Any, kind: Any) -> bool:
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, UnionType):
        if isinstance(value, str) and Path in args:
            return bool(value)  # an empty path would mean the current folder
        return any(_fits(value, each) for each in args)
    if origin is Literal:
        # The function itself checks the value, because it knows why a choice is not possible.
        return isinstance(value, str)
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    if kind is Path:
        return isinstance(value, os.PathLike)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        keys, values = args
        return isinstance(value, origin) and all(_fits(k, keys) and _fits(v, values) for k, v in value.items())
    if isinstance(origin, type) and _is_collection(origin):
        return isinstance(value, origin) and not isinstance(value, str | bytes) and _items_fit(value, args)
    if origin is not None and isinstance(origin, type):
        return isinstance(value, origin)
    return not isinstance(kind, type) or isinstance(value, kind)


def _is_collection(origin: type) -> bool:
    """Return whether the items of an annotated type are validated one by one; those of an array are not."""
    return issubclass(origin, Iterable) and (origin.__module__, origin.__name__) != ("numpy", "ndarray")


def _items_fit(value: Any, args: tuple[Any, ...]) -> bool:
    """Return whether a collection's items fit. An iterator passes, because looking at its items would consume them."""
    if isinstance(value, Iterator) or (len(args) > 1 and args[1:] != (...,)):
        return True
    if get_origin(args[0]) is None:  # whether an item fits depends on its type alone, and token ids are many
        value = {type(item): item for item in value}.values()
    return all(_fits(item, args[0]) for item in value)


def _found(value: Any, kind: Any) -> str:
    """Return what was given, for a collection of the right type its first item that does not fit."""
    args = get_args(kind)
    if isinstance(value, list | tuple) and isinstance(get_origin(kind), type) and args:
        for place, item in enumerate(value):
            if not _fits(item, args[0]):
                return f"a {type(value).__name__} with {truncated_repr(item)} at position {place}"
    return truncated_repr(value)


def _words(kind: Any) -> str:
    """Return a phrase for what is allowed."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        kinds = [each for each in args if not (each is str and Path in args)]
        return " or ".join(map(_words, kinds))
    if origin is Literal:
        return f"one of {', '.join(map(str, args))}"
    if origin is not None and isinstance(origin, type):
        if issubclass(origin, Mapping):
            return f"a mapping to {_items(args[1])}"
        if _is_collection(origin) and args:
            return f"a list of {_items(args[0])}"
        return "a function" if issubclass(origin, Callable) else f"{_article(_name(origin))}"  # type: ignore[arg-type]
    return _WORDS[kind] if kind in _WORDS else _article(_name(kind))


def _items(kind: Any) -> str:
    return {int: "whole numbers", float: "numbers", str: "strings"}.get(kind) or _name(kind)


def _name(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))


def _article(name: str) -> str:
    return f"an {name}" if name[:1] in "AEIOU" else f"a {name}"
