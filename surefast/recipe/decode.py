"""From the plain values of a recipe file to inert ones. Nothing is imported or called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from surefast.errors import RecipeError, nearest
from surefast.protocols import NOT_GIVEN
from surefast.recipe.call import Call
from surefast.recipe.reference import Array, Member, Opaque, Partial, Reference, Same
from surefast.recipe.value import Value

_WORDS: Final = frozenset({"call", "call_source", "made", "frozen"})


def decode(plain: Any) -> Any:
    """The inert value of a plain one; a table with ``call`` becomes a ``Call`` whose values are the user's.

    Raises:
        RecipeError: for a tagged table that is not as the format says.
    """
    if isinstance(plain, list):
        return [decode(item) for item in plain]
    if not isinstance(plain, dict):
        return plain
    tags = TAGS.intersection(plain)
    if not tags:
        return {key: decode(inner) for key, inner in plain.items()}
    tag = "call" if "call" in tags else sorted(tags)[0]
    try:
        return _READERS[tag](plain)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if isinstance(error, RecipeError):
            raise
        raise RecipeError(
            f"{plain!r:.200} is no {tag} that a recipe can hold", do=f"write it as {_FORMS[tag]}"
        ) from None


def decode_call(plain: Mapping[str, Any]) -> Call:
    """The call of a table; every value has the origin ``user`` until the file says otherwise."""
    target = _words(plain["call"])
    if target.count(":") != 1:
        raise ValueError(target)
    values = {
        argument_name(key): Value(decode(inner), "user") for key, inner in plain.items() if key not in _WORDS
    }
    made = decode_call(plain["made"]) if "made" in plain else None
    return Call(target, values, made, _words(plain.get("call_source", "")))


def argument_name(key: str) -> str:
    """The argument of a key in the table of a call: the reverse of ``argument_key``."""
    return key[:-1] if key.endswith("_") and key.rstrip("_") in _WORDS else key


def _words(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _only(plain: Mapping[str, Any], *known: str) -> None:
    for key in plain:
        if key not in known:
            close = nearest(key, known)
            hint = f"write {close!r}" if close else f"its keys are: {', '.join(known)}"
            raise RecipeError(f"{plain!r:.200} has an unknown key {key!r}", do=hint)


def _reference(plain: dict[str, Any]) -> Reference:
    kind = "class" if "class" in plain else "function"
    _only(plain, kind, "source", "file", "captures")
    target = _words(plain[kind])
    if target.count(":") != 1:
        raise ValueError(target)
    captures = decode(plain.get("captures", {}))
    source, file = _words(plain.get("source", "")), _words(plain.get("file", ""))
    return Reference("class" if kind == "class" else "function", target, source, file, captures)


def _partial(plain: dict[str, Any]) -> Partial:
    _only(plain, "partial", "args", "keywords")
    args = tuple(decode(item) for item in plain.get("args", []))
    return Partial(decode(plain["partial"]), args, dict(decode(plain.get("keywords", {}))))


def _array(plain: dict[str, Any]) -> Array:
    library = "tensor" if "tensor" in plain else "array"
    _only(plain, library, "dtype", "shape")
    shape = tuple(int(size) for size in plain["shape"])
    numbers = tuple(plain[library])
    if not all(isinstance(number, int | float) for number in numbers):
        raise TypeError(numbers)
    return Array("tensor" if library == "tensor" else "array", _words(plain["dtype"]), numbers, shape)


def _dict(plain: dict[str, Any]) -> dict[Any, Any]:
    return {decode(key): decode(inner) for key, inner in plain["dict"]}


def _single(tag: str, read: Callable[[Any], Any]) -> Callable[[dict[str, Any]], Any]:
    def reader(plain: dict[str, Any]) -> Any:
        _only(plain, tag)
        return read(plain[tag])

    return reader


def _slice(parts: list[Any]) -> slice:
    start, stop, step = (decode(part) for part in parts)
    return slice(start, stop, step)


def _torch(name: str) -> Any:
    thing = getattr(torch, _words(name))
    if not isinstance(thing, torch.dtype | torch.memory_format):
        raise TypeError(name)
    return thing


def _text(value: str) -> str:
    return bytes.fromhex(_words(value)).decode("utf-8", "surrogatepass")


def _path(value: Any) -> Path:
    return Path(decode(value))


def _range(parts: list[int]) -> range:
    return range(*parts)


def _member(plain: dict[str, Any]) -> Member:
    _only(plain, "enum", "member")
    return Member(_words(plain["enum"]), _words(plain["member"]))


def _opaque(plain: dict[str, Any]) -> Opaque:
    _only(plain, "opaque", "digest")
    return Opaque(_words(plain["opaque"]), _words(plain["digest"]))


_READERS: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "call": decode_call,
    "function": _reference,
    "class": _reference,
    "partial": _partial,
    "opaque": _opaque,
    "enum": _member,
    "tensor": _array,
    "array": _array,
    "dict": _dict,
    "none": _single("none", lambda _: None),
    "not_given": _single("not_given", lambda _: NOT_GIVEN),
    "tuple": _single("tuple", lambda items: tuple(decode(item) for item in items)),
    "set": _single("set", lambda items: {decode(item) for item in items}),
    "frozenset": _single("frozenset", lambda items: frozenset(decode(item) for item in items)),
    "slice": _single("slice", _slice),
    "range": _single("range", _range),
    "path": _single("path", _path),
    "bytes": _single("bytes", bytes.fromhex),
    "same": _single("same", lambda name: Same(_words(name))),
    "device": _single("device", torch.device),
    "torch": _single("torch", _torch),
    "text": _single("text", _text),
}

TAGS: Final = frozenset(_READERS)
"""Keys that make a table mean something; a plain dict that has one is written as ``{ dict = ... }``."""

_FORMS: Final[dict[str, str]] = dict.fromkeys(TAGS, "the recipe of a run shows it") | {
    "call": '{ call = "module:qualname", ...arguments... }',
    "function": '{ function = "module:qualname", source = "8 digits" }',
    "class": '{ class = "module:qualname" }',
    "slice": "{ slice = [start, stop, step] }, with { none = true } for what is left out",
    "path": '{ path = "folder/file" }',
    "torch": '{ torch = "float32" }',
    "device": '{ device = "cpu" }',
    "tensor": '{ tensor = [1.0, 2.0], dtype = "float32", shape = [2] }',
}
