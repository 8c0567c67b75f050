"""References: how a recipe names functions, classes and things it cannot describe.

A reference to user code carries a hash of its source, read from the file by ``ast`` without importing it.
The code of libraries carries none: their version is in the environment. This file must not import what
a recipe names.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import importlib.util
import inspect
import linecache
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any, Final, Literal, TypeAlias

Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

LIBRARIES: Final = frozenset({"surefast", "torch", "torchvision", "numpy", "builtins", "pathlib"})
"""Packages whose code is told by their version, not by a hash of each function."""

_PUBLIC: Final = ("torch.optim", "torch.nn.functional", "torch.nn", "torchvision.transforms.v2")


@dataclass(frozen=True)
class Reference:
    """A function or class by name."""

    kind: Literal["function", "class"]
    target: str
    """``module:qualname``."""

    source: str = ""
    """Hash of the source of user code, 8 hexadecimal digits; empty for libraries and built-ins."""

    file: str = ""
    """The file of code that cannot be imported by name: a script, a notebook, a nested function."""

    captures: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Plain values that a nested function or lambda takes from around it."""

    @property
    def importable(self) -> bool:
        """Whether another process can find it by its name alone."""
        return is_importable(self.target)


@dataclass(frozen=True)
class Opaque:
    """Something a recipe can recognise but not make again."""

    type: str
    digest: str


@dataclass(frozen=True)
class Partial:
    """A ``functools.partial``: a callable with some of its arguments."""

    function: Any
    args: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Array:
    """A small tensor or array by its numbers."""

    library: Literal["tensor", "array"]
    dtype: str
    numbers: tuple[Any, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Member:
    """A member of an enumeration."""

    target: str
    name: str


@dataclass(frozen=True)
class Same:
    """The object that another argument of the call around it holds, told there."""

    name: str


def is_importable(target: str) -> bool:
    """Whether ``module:qualname`` can be found by import."""
    module = target.partition(":")[0]
    return "<" not in target and module not in {"", "__main__", "__mp_main__"}


def is_library(target: str) -> bool:
    """Whether ``module:qualname`` belongs to a package that is told by its version."""
    return target.partition(":")[0].partition(".")[0] in LIBRARIES


def target_of(thing: Any) -> str:
    """``module:qualname`` of a function or class, by its public module where a library has one."""
    module = str(getattr(thing, "__module__", None) or "builtins")
    name = str(getattr(thing, "__qualname__", None) or getattr(thing, "__name__", type(thing).__qualname__))
    owner = getattr(thing, "__self__", None)
    if inspect.isclass(owner):  # a class method belongs to the class it was taken from
        module, name = owner.__module__, f"{owner.__qualname__}.{thing.__name__}"
    if "." in name and getattr(sys.modules.get(module), name.rpartition(".")[2], None) is thing:
        return f"{module}:{name.rpartition('.')[2]}"  # torch.relu calls itself _VariableFunctionsClass.relu
    for public in _PUBLIC:
        is_inside = module.startswith(public + ".") and public in sys.modules
        if is_inside and getattr(sys.modules[public], name, None) is thing:
            return f"{public}:{name}"
    return f"{module}:{name}"


def reference_to(thing: Any) -> Reference:
    """The reference to a live function or class, without its captured values."""
    target = target_of(thing)
    kind: Literal["function", "class"] = "class" if inspect.isclass(thing) else "function"
    if is_library(target):
        return Reference(kind, target)
    return Reference(kind, target, source_hash(live_source(thing)), _file_of(thing, target))


def _file_of(thing: Any, target: str) -> str:
    if is_importable(target):
        return ""
    code = getattr(inspect.unwrap(thing), "__code__", None)
    file = code.co_filename if code is not None else str(getattr(sys.modules.get("__main__"), "__file__", ""))
    path = Path(file)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        return path.relative_to(Path.cwd()).as_posix()
    return path.name


def source_hash(source: str) -> str:
    """8 hexadecimal digits of BLAKE2b over source, or an empty text for none.

    The outer indentation, trailing spaces and empty lines do not count; inner indentation does, for it
    changes what Python code means.
    """
    if not source:
        return ""
    lines = (line.rstrip() for line in textwrap.dedent(source).splitlines())
    text = "\n".join(line for line in lines if line)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def live_source(thing: Any) -> str:
    """The source of a live function, lambda or class; empty where there is none (built in, typed in)."""
    thing = inspect.unwrap(thing)
    if inspect.isclass(thing):
        try:
            return inspect.getsource(thing)
        except (OSError, TypeError):
            return ""
    code = getattr(thing, "__code__", None)
    if not isinstance(code, CodeType):
        return ""
    text = "".join(linecache.getlines(code.co_filename, getattr(thing, "__globals__", None)))
    tree = _parse(text)
    if tree is None:
        return ""
    return _lambda_source(text, tree, code) if code.co_name == "<lambda>" else _def_source(text, tree, code)


def disk_source(target: str) -> str | None:
    """The source of ``module:qualname`` as it stands on disk, without importing anything; None if absent."""
    module, _, name = target.partition(":")
    path = module_file(module)
    if path is None or path.suffix != ".py":
        return None
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    tree = _parse(text)
    node = _find(tree, name.split(".")) if tree is not None else None
    return _segment(text, node) if node is not None else None


def module_file(module: str) -> Path | None:
    """The file that ``import module`` would run, found without running it or its packages."""
    spec: importlib.machinery.ModuleSpec | None = None
    for part in _prefixes(module):
        loaded = getattr(sys.modules.get(part), "__spec__", None)
        if loaded is not None:
            spec = loaded
        elif spec is None:  # the first part: to look for it runs no code of it
            spec = importlib.util.find_spec(part) if part not in sys.modules else None
        else:
            places = list(spec.submodule_search_locations or [])
            spec = importlib.machinery.PathFinder.find_spec(part, places)
        if spec is None:
            return None
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def _prefixes(module: str) -> Iterator[str]:
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        yield ".".join(parts[:count])


def _parse(text: str) -> ast.Module | None:
    if not text:
        return None
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return None


def _first_line(node: Definition) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _segment(text: str, node: Definition) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(lines[_first_line(node) - 1 : node.end_lineno])


def _def_source(text: str, tree: ast.Module, code: CodeType) -> str:
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name != code.co_name:
            continue
        if _first_line(node) == code.co_firstlineno:
            return _segment(text, node)
    return ""


def _lambda_source(text: str, tree: ast.Module, code: CodeType) -> str:
    spots = [(spot[0], spot[2]) for spot in code.co_positions() if None not in spot and spot[2] != spot[3]]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Lambda) or node.lineno != code.co_firstlineno:
            continue
        body = node.body
        start, end = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
        if all(start <= (line or 0, column or 0) < end for line, column in spots):
            return ast.get_source_segment(text, node) or ""
    return ""


def _find(tree: ast.Module, names: list[str]) -> Definition | None:
    body: list[ast.stmt] = tree.body
    found: Definition | None = None
    for name in names:
        found = None
        for node in _definitions(body):
            if node.name == name:
                found = node  # the last definition is the one that counts
        if found is None:
            return None
        body = found.body
    return found


def _definitions(body: list[ast.stmt]) -> Iterator[Definition]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node
            continue
        for part in ("body", "orelse", "finalbody"):
            yield from _definitions(getattr(node, part, []))


def captured(function: Callable[..., Any]) -> dict[str, Any]:
    """What a nested function or lambda takes from around it, defaults too: name to live value."""
    code = getattr(function, "__code__", None)
    cells = getattr(function, "__closure__", None) or ()
    if not isinstance(code, CodeType):
        return {}
    defaults = getattr(function, "__defaults__", None) or ()
    positional = code.co_varnames[: code.co_argcount]
    found = dict(zip(positional[len(positional) - len(defaults) :], defaults, strict=True))
    found |= getattr(function, "__kwdefaults__", None) or {}
    for name, cell in zip(code.co_freevars, cells, strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not yet assigned
            continue
    return found
