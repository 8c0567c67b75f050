"""Live values and the plain ones that stand in a TOML file, both ways.

``snapshot`` turns a live value into an inert one that no longer changes: scalars, lists, ``Call``,
``Reference``, ``Opaque`` and their kind. ``to_plain`` writes an inert value as TOML can hold it, with a
tagged table where TOML has no word, such as ``{ none = true }``; ``decode`` reads it back. Nothing named
in a recipe is imported or called here.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import inspect
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Final, TypeAlias

import numpy as np
import torch

from surefast.protocols import NOT_GIVEN
from surefast.recipe.call import Call, call_of
from surefast.recipe.decode import TAGS, decode
from surefast.recipe.digest import digest, plain_repr
from surefast.recipe.reference import (
    Array,
    Member,
    Opaque,
    Partial,
    Reference,
    Same,
    captured,
    is_library,
    live_source,
    reference_to,
    source_hash,
    target_of,
)
from surefast.recipe.value import Value

__all__ = ["REDACTED", "Encoder", "canonical", "decode", "encode", "to_plain"]

Plain: TypeAlias = Any
"""str, int, float, bool, date, time, list of these, or dict of str to these."""

REDACTED: Final = "<redacted>"
"""What stands in a recipe for a secret."""

MAX_LIST: Final = 20_000
"""Longer lists are told by a digest: a recipe is read by people."""

MAX_NUMBERS: Final = 256
"""Larger arrays are told by a digest."""

_SECRET = re.compile(r"password|passwd|secret|api_?key|access_?key|credential|token$|(^|_)token(_|$)", re.I)
_SPECIAL_TOKEN = re.compile(r"^(<.*>|\[.*\])$")
_URL_LOGIN = re.compile(r"(\w+://)[^/@\s:]+(:[^/@\s]*)?@")
_INERT = (Reference, Opaque, Partial, Array, Member, Same)
_CLOCK = (datetime.datetime, datetime.date, datetime.time)


def encode(value: object) -> Plain:
    """A live value as TOML can hold it.

    >>> encode(slice(1e-5, 1e-3))
    {'slice': [1e-05, 0.001, {'none': True}]}
    """
    return to_plain(Encoder().snapshot(value))


def canonical(plain: Plain) -> str:
    """One text for one value: what is hashed and compared. File names of references do not count."""
    return json.dumps(_without_files(plain), sort_keys=True, separators=(",", ":"), default=str)


def _without_files(plain: Plain) -> Plain:
    if isinstance(plain, dict):
        skip = {"file"} if "function" in plain or "class" in plain else set()
        return {key: _without_files(value) for key, value in plain.items() if key not in skip}
    if isinstance(plain, list):
        return [_without_files(value) for value in plain]
    return plain


class Encoder:
    """Takes snapshots, and remembers the digest of each opaque object as it was seen first.

    The first sight counts: the digest of a model is that of its initial weights, also after training.
    What lies underneath a short form (``made``) is told only where it says something new: not what the
    short form was given under the same name, not what it leaves empty, and no object twice.

    Args:
        as_told: take every record as it stands, because it comes from a file.
    """

    def __init__(self, *, as_told: bool = False) -> None:
        self._as_told = as_told
        self._short_forms: list[Call] = []
        self._path: list[str] = []
        self._told: dict[object, str] = {}
        self._seen: dict[int, tuple[object, Opaque]] = {}
        self._inside: list[int] = []
        self._holder = Value(None, "user")
        self._sources: dict[str, str] = {}
        self._references: dict[Any, Reference] = {}

    def call(self, call: Call) -> Call:
        """The record with every value replaced by its snapshot.

        Args:
            call: a live or an inert record.
        """
        if not self._inside:
            self._told = {}
        if id(call) in self._inside:
            return Call(call.target, {})
        self._inside.append(id(call))
        holder = self._holder
        try:
            values = {}
            for name, value in call.values.items():
                self._holder = value
                self._path.append(name)
                inert = self._snapshot_once(value.value, name)
                if not self._is_told(name, value, inert):
                    values[name] = Value(inert, value.origin, value.why, value.neutral)
                self._path.pop()
            made = self._made(call)
        finally:
            self._inside.pop()
            self._holder = holder
        return Call(call.target, values, made, call.source or self._source(call.target))

    def _made(self, call: Call) -> Call | None:
        if call.made is None:
            return None
        self._short_forms.append(call)
        self._path.append("made")
        try:
            return self.call(call.made)
        finally:
            self._short_forms.pop()
            self._path.pop()

    def _snapshot_once(self, value: Any, name: str) -> Any:
        """The inert form; inside a short form, of what was told before only where it stands."""
        if self._as_told:
            return self.snapshot(value, name)
        key = _identity(value)
        place = self._told.get(key) if key is not None else None
        if place is not None and self._short_forms:
            return Same(place)
        if key is not None:
            self._told[key] = _text_of(self._path)
        return self.snapshot(value, name)

    def snapshot(self, value: Any, name: str = "") -> Any:
        """The inert form of a live value; an inert one comes back as it is.

        Args:
            value: anything.
            name: what it is called, so that secrets are left out.
        """
        if isinstance(value, str) and call_of(value) is None:
            return _redact(name, str(value)) if not isinstance(value, enum.Enum) else self._enum(value)
        if isinstance(value, Call):
            return self.call(value)
        record = call_of(value) if not inspect.isclass(value) else None
        if record is not None:
            return self._recorded(value, record)
        known, inert = _scalar(value)
        if known:
            return inert
        if id(value) in self._inside:
            return Opaque(target_of(type(value)), "contains itself")
        self._inside.append(id(value))
        try:
            return self._composite(value)
        finally:
            self._inside.pop()

    def _is_told(self, name: str, value: Value, inert: Any) -> bool:
        """Whether a value underneath a short form says nothing new."""
        if self._as_told or not self._short_forms:
            return False
        is_empty = inert is None and value.origin == "default"
        is_idle = value.neutral and not (value.origin == "inferred" and not value.why.startswith("set by "))
        if is_empty or is_idle or self._is_known(inert):
            return True
        outer = next((form.values[name] for form in reversed(self._short_forms) if name in form.values), None)
        if outer is None:
            return False
        record = call_of(outer.value)
        if record is not None and record is call_of(value.value):
            return True
        return self._alone(outer.value, name) == self._alone(value.value, name)

    def _is_known(self, inert: Any) -> bool:
        """Whether the same opaque content was told before; a digest twice says nothing more."""
        if not isinstance(inert, Opaque):
            return False
        here = _text_of(self._path)
        return self._told.setdefault((inert.type, inert.digest), here) != here

    def _alone(self, value: Any, name: str) -> str:
        """A value in full, whatever was told before, as one text."""
        return canonical(to_plain(self._whole().snapshot(value, name)))

    def _whole(self) -> Encoder:
        """One that leaves nothing out, with the same memory."""
        if self._as_told:
            return self
        whole = Encoder(as_told=True)
        whole._seen, whole._sources, whole._references = self._seen, self._sources, self._references
        return whole

    def _source(self, target: str) -> str:
        """The hash of a user's callable; its file is parsed once for each."""
        if is_library(target):
            return ""
        if target not in self._sources:
            self._sources[target] = _source_of_target(target)
        return self._sources[target]

    def _recorded(self, value: object, record: Call) -> Any:
        if id(record) not in self._inside:
            return self.call(record)
        if record.made is not None:  # a function that gave back its own argument
            return self.call(record.made)
        return Opaque(target_of(type(value)), "contains itself")

    def _composite(self, value: Any) -> Any:
        if isinstance(value, enum.Enum):
            return self._enum(value)
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, list | tuple | set | frozenset):
            return self._sequence(value)
        if isinstance(value, slice):
            return slice(*(self.snapshot(part) for part in (value.start, value.stop, value.step)))
        if isinstance(value, functools.partial):
            args, keywords = self.snapshot(value.args), self.snapshot(value.keywords)
            return Partial(self.snapshot(value.func), args, keywords)
        if isinstance(value, torch.Tensor | np.ndarray):
            return _small_array(value) or self._opaque(value)
        if _is_named(value):
            return self._reference(value)
        if dataclasses.is_dataclass(value) and not inspect.isclass(value):
            return self._dataclass(value)
        return self._opaque(value)

    def _enum(self, value: Any) -> Member:
        return Member(target_of(type(value)), value.name)

    def _mapping(self, value: Mapping[Any, Any]) -> Any:
        return {
            self.snapshot(key): self.snapshot(inner, key if isinstance(key, str) else "")
            for key, inner in value.items()
        }

    def _sequence(self, value: Any) -> Any:
        if len(value) > MAX_LIST:
            return self._opaque(value)
        if isinstance(value, list | tuple):
            items = [self._item(position, item) for position, item in enumerate(value)]
            return items if isinstance(value, list) else tuple(items)
        inner = (self.snapshot(item) for item in value)
        try:
            return frozenset(inner) if isinstance(value, frozenset) else set(inner)
        except TypeError:  # a snapshot that has no hash
            return self._opaque(value)

    def _item(self, position: int, item: Any) -> Any:
        if call_of(item) is None:
            return self.snapshot(item)
        self._path.append(f"[{position}]")
        try:
            return self._snapshot_once(item, "")
        finally:
            self._path.pop()

    def _reference(self, value: Any) -> Any:
        owner = getattr(value, "__self__", None)
        if owner is not None and not inspect.isclass(owner) and not inspect.ismodule(owner):
            return self._opaque(value)  # a bound method: its object cannot be made again by name
        if value not in self._references:
            self._references[value] = reference_to(value)
        reference = self._references[value]
        around = {} if reference.importable else self.snapshot(captured(value))
        return dataclasses.replace(reference, captures=around) if around else reference

    def _dataclass(self, value: Any) -> Call:
        holder = self._holder
        values = {}
        for field in dataclasses.fields(value):
            if field.init:
                self._path.append(field.name)
                inert = self._snapshot_once(getattr(value, field.name), field.name)
                values[field.name] = Value(inert, holder.origin, holder.why, holder.neutral)
                self._path.pop()
        target = target_of(type(value))
        return Call(
            target, values, source="" if is_library(target) else source_hash(live_source(type(value)))
        )

    def _opaque(self, value: Any) -> Opaque:
        if id(value) not in self._seen:
            made = Opaque(target_of(type(value)), digest(value, self._whole()._describe))
            self._seen[id(value)] = (value, made)  # the object is held, so that its id stays its own
        return self._seen[id(value)][1]

    def _describe(self, value: Any) -> str:
        if isinstance(value, list | tuple | set | frozenset):
            return plain_repr(sorted(value, key=repr) if isinstance(value, set | frozenset) else value)
        if inspect.ismethod(value):
            return f"{value.__func__.__qualname__} {canonical(to_plain(self.snapshot(value.__self__)))}"
        inside = getattr(value, "__dict__", None)
        if not isinstance(inside, dict):
            return plain_repr(value)
        return canonical(to_plain(self.snapshot(dict(inside))))


def _identity(value: Any) -> object:
    """What two values share that are one recorded object, or lists of the same ones; else None."""
    if inspect.isclass(value):
        return None
    record = call_of(value)
    if record is not None:
        return id(record)
    if dataclasses.is_dataclass(value):
        return id(value)
    if not isinstance(value, list | tuple) or not value:
        return None
    records = [None if inspect.isclass(item) else call_of(item) for item in value]
    return None if any(one is None for one in records) else tuple(map(id, records))


def _text_of(path: list[str]) -> str:
    return "".join(part if part.startswith("[") else f".{part}" for part in path).removeprefix(".")


def _source_of_target(target: str) -> str:
    module, _, name = target.partition(":")
    thing: Any = sys.modules.get(module)
    for part in name.split("."):
        thing = getattr(thing, part, None)
    return source_hash(live_source(thing)) if thing is not None else ""


def _is_named(value: object) -> bool:
    return inspect.isclass(value) or inspect.isroutine(value)


def _redact(name: str, value: str) -> str:
    if value and _SECRET.search(name) and not _SPECIAL_TOKEN.match(value):
        return REDACTED
    return _URL_LOGIN.sub(rf"\1{REDACTED}@", value) if "://" in value else value


def _scalar(value: Any) -> tuple[bool, Any]:
    """Whether ``value`` is one thing without parts, and its inert form."""
    if value is None or value is NOT_GIVEN or isinstance(value, _INERT):
        return True, value
    if isinstance(value, bytes | torch.dtype | torch.device | torch.memory_format | range):
        return True, value
    if isinstance(value, enum.Enum):
        return False, None
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return True, kind(value)
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return True, value.item()
    if isinstance(value, PurePath):
        return True, Path(value)
    if isinstance(value, _CLOCK):
        return True, value.to_pydatetime() if hasattr(value, "to_pydatetime") else value
    return False, None


def _small_array(value: torch.Tensor | np.ndarray[Any, Any]) -> Array | None:
    if isinstance(value, torch.Tensor):
        is_plain = value.device.type == "cpu" and value.layout is torch.strided and not value.is_complex()
        if not is_plain or value.is_quantized or value.numel() > MAX_NUMBERS:
            return None
        dtype = str(value.dtype).removeprefix("torch.")
        return Array("tensor", dtype, tuple(value.detach().reshape(-1).tolist()), tuple(value.shape))
    if value.dtype.kind not in "biuf" or value.size > MAX_NUMBERS or value.dtype.itemsize > 8:
        return None
    return Array("array", value.dtype.name, tuple(value.reshape(-1).tolist()), tuple(value.shape))


def to_plain(value: Any) -> Plain:
    """An inert value as TOML can hold it."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, _CLOCK):
        return _clock(value)
    if isinstance(value, Call):
        return call_to_plain(value)
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return _table(value)
    return _tagged(value)


def call_to_plain(call: Call) -> dict[str, Plain]:
    """A call as a table: ``call``, its arguments, and ``made`` for what is underneath."""
    table: dict[str, Plain] = {"call": call.target}
    if call.source:
        table["call_source"] = call.source
    for name, value in call.values.items():
        table[argument_key(name)] = to_plain(value.value)
    if call.made is not None:
        table["made"] = call_to_plain(call.made)
    return table


def argument_key(name: str) -> str:
    """The key of an argument in the table of its call; the words of the format get an underscore."""
    return f"{name}_" if name.rstrip("_") in {"call", "call_source", "made", "frozen"} else name


def _text(value: str) -> Plain:
    try:
        value.encode()
    except UnicodeEncodeError:  # file names that are no UTF-8 come with lone surrogates
        return {"text": value.encode("utf-8", "surrogatepass").hex()}
    return value


def _clock(value: Any) -> Plain:
    offset = value.utcoffset() if isinstance(value, datetime.datetime) else getattr(value, "tzinfo", None)
    is_native = offset is None or (isinstance(offset, datetime.timedelta) and offset.seconds % 60 == 0)
    if not is_native or (offset is not None and offset.microseconds):
        return {"opaque": target_of(type(value)), "digest": value.isoformat()}
    return value


def _table(value: dict[Any, Any]) -> Plain:
    is_plain = all(isinstance(key, str) and isinstance(_text(key), str) for key in value)
    if is_plain and not TAGS.intersection(value):
        return {key: to_plain(inner) for key, inner in value.items()}
    return {"dict": [[to_plain(key), to_plain(inner)] for key, inner in value.items()]}


def _tagged(value: Any) -> Plain:
    match value:
        case None:
            return {"none": True}
        case tuple():
            return {"tuple": [to_plain(item) for item in value]}
        case set() | frozenset():
            items = sorted((to_plain(item) for item in value), key=canonical)
            return {"frozenset" if isinstance(value, frozenset) else "set": items}
        case slice():
            return {"slice": [to_plain(part) for part in (value.start, value.stop, value.step)]}
        case range():
            return {"range": [value.start, value.stop, value.step]}
        case PurePath():
            return {"path": _text(value.as_posix())}
        case bytes():
            return {"bytes": value.hex()}
        case torch.device():
            return {"device": str(value)}
        case torch.dtype() | torch.memory_format():
            return {"torch": str(value).removeprefix("torch.")}
        case _:
            return {"not_given": True} if value is NOT_GIVEN else _named(value)


def _named(value: Any) -> Plain:
    match value:
        case Reference():
            extra = {"source": value.source, "file": value.file, "captures": _table(dict(value.captures))}
            return {value.kind: value.target} | {key: part for key, part in extra.items() if part}
        case Partial():
            parts = {
                "args": [to_plain(item) for item in value.args],
                "keywords": _table(dict(value.keywords)),
            }
            return {"partial": to_plain(value.function)} | {key: part for key, part in parts.items() if part}
        case Member():
            return {"enum": value.target, "member": value.name}
        case Array():
            return {value.library: list(value.numbers), "dtype": value.dtype, "shape": list(value.shape)}
        case Same():
            return {"same": value.name}
        case Opaque():
            return {"opaque": value.type, "digest": value.digest}
        case _:
            raise AssertionError(f"no snapshot: {value!r}")
