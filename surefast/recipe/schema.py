"""Arguments in a recipe file against the signature of what they are for.

Only callables of this package are looked at: to read a recipe must not import anything else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from surefast.errors import nearest
from surefast.protocols import NOT_GIVEN
from surefast.recipe.call import Call, is_declared
from surefast.recipe.decode import argument_name
from surefast.recipe.encode import Plain, argument_key, to_plain
from surefast.recipe.reference import Member, Partial, Reference, module_file

_SIMPLE = (int, float, bool, str, Path, type(None))
_WORDS = {int: "int", float: "float", bool: "true or false", str: "str", Path: "a path", type(None): "none"}

Problem: typing.TypeAlias = tuple[tuple[str | int, ...], str]
"""Path of keys in the file, and what is wrong there."""


def find_own(target: str) -> Callable[..., Any] | str:
    """A declared callable or dataclass of this package, or a sentence why a recipe may not call it."""
    module, _, name = target.partition(":")
    if module.partition(".")[0] != "surefast":
        return f"{target} is not part of surefast"
    if module_file(module) is None:
        return f"there is no module {module}"
    thing: Any = importlib.import_module(module)
    for part in name.split("."):
        known = [entry for entry in vars(thing) if not entry.startswith("_")] if part else []
        if part.startswith("_") or getattr(thing, part, None) is None:
            close = nearest(part, known)
            return f"{module} has no {name!r}" + (f"; write {close!r}" if close else "")
        thing = getattr(thing, part)
    if not callable(thing) or not (is_declared(thing) or dataclasses.is_dataclass(thing)):
        return f"{target} is not something a recipe may call"
    return typing.cast("Callable[..., Any]", thing)


def problems_of_call(
    call: Call, path: tuple[str | int, ...], inferred: Callable[[tuple[str | int, ...]], bool]
) -> Iterator[Problem]:
    """What is wrong with the arguments of a call and of the calls in it; ``made`` is not called again.

    Args:
        call: a decoded call.
        path: where it stands.
        inferred: whether the value at a path is one that the callee noted, which need not be an argument.
    """
    if call.target.partition(".")[0] == "surefast" or call.target.startswith("surefast:"):
        found = find_own(call.target)
        if isinstance(found, str):
            yield (*path, "call"), found
        else:
            yield from _problems_of_arguments(found, call, path, inferred)
    for name, value in call.values.items():
        yield from _problems_inside(value.value, (*path, argument_key(name)), inferred)


def _problems_inside(
    value: Any, path: tuple[str | int, ...], inferred: Callable[[tuple[str | int, ...]], bool]
) -> Iterator[Problem]:
    if isinstance(value, Call):
        yield from problems_of_call(value, path, inferred)
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            yield from _problems_inside(item, (*path, position), inferred)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _problems_inside(item, (*path, str(key)), inferred)


def _problems_of_arguments(
    function: Callable[..., Any],
    call: Call,
    path: tuple[str | int, ...],
    inferred: Callable[[tuple[str | int, ...]], bool],
) -> Iterator[Problem]:
    parameters = inspect.signature(function).parameters
    hints = _hints(function)
    for name, value in call.values.items():
        here = (*path, argument_key(name))
        if name not in parameters:
            if not inferred(here):
                close = nearest(name, parameters)
                known = f"write {close!r}" if close else f"known: {', '.join(parameters) or 'none'}"
                yield here, f"{call.name}() has no argument {argument_name(name)!r}; {known}"
            continue
        kind = parameters[name].kind
        is_plain = kind not in {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
        if is_plain and name in hints and not inferred(here):
            wrong = wrong_type(value.value, hints[name])
            if wrong:
                yield here, wrong


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations that can be read, one by one: some name what only a type checker imports."""
    plain: Any = inspect.unwrap(function.__init__ if inspect.isclass(function) else function)
    names = getattr(plain, "__globals__", {})
    hints: dict[str, Any] = {}
    for name, annotation in getattr(plain, "__annotations__", {}).items():
        one = types.SimpleNamespace(__annotations__={name: annotation})
        with contextlib.suppress(NameError, TypeError, AttributeError):
            hints |= typing.get_type_hints(one, names)
    return hints


def wrong_type(value: Any, hint: Any) -> str:
    """A sentence where a plain value is not of a simple annotation; empty where it is, or nobody can tell."""
    kinds = list(_kinds(hint))
    is_judged = all(kind in _SIMPLE or isinstance(kind, _Word) for kind in kinds)
    if not is_judged or value is NOT_GIVEN or any(_fits(value, kind) for kind in kinds):
        return ""
    if isinstance(value, Call | Reference | Partial | Member):
        return f"a {type(value).__name__.lower()} stands here; expected {_in_words(kinds)}"
    plain: Plain = to_plain(value)
    return f"{plain!r:.60} is {_kind_of(value)}; expected {_in_words(kinds)}"


class _Word:
    """One allowed value of a Literal."""

    def __init__(self, value: object) -> None:
        self.value = value


def _kinds(hint: Any) -> Iterator[Any]:
    origin = typing.get_origin(hint)
    if origin in {typing.Union, types.UnionType}:
        for part in typing.get_args(hint):
            yield from _kinds(part)
    elif origin is Literal:
        yield from (_Word(part) for part in typing.get_args(hint))
    else:
        yield hint


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, _Word):
        return bool(type(value) is type(kind.value) and value == kind.value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is Path:
        return isinstance(value, str | Path)
    return isinstance(value, kind)


def _kind_of(value: Any) -> str:
    names: dict[type, str] = {list: "a list", dict: "a table", bool: "a truth value"}
    return names.get(type(value), f"a {type(value).__name__}")


def _in_words(kinds: list[Any]) -> str:
    words = []
    for kind in kinds:
        if not isinstance(kind, _Word):
            words.append(_WORDS[kind])
        elif not isinstance(kind.value, enum.Enum):
            words.append(repr(kind.value))
    return " or ".join(dict.fromkeys(words))
