"""Every member of a family, found by import; a new member is tested because it exists."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import surefast


def modules() -> Iterator[ModuleType]:
    """Every module of the package but the command line and the data process."""
    for info in pkgutil.walk_packages(surefast.__path__, "surefast."):
        if not info.name.startswith(("surefast.cli", "surefast.data.worker")):
            yield importlib.import_module(info.name)


def own(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """What a module defines itself and does not hide."""
    for name, thing in vars(module).items():
        if not name.startswith("_") and getattr(thing, "__module__", None) == module.__name__:
            yield name, thing


def public(kind: type) -> list[type]:
    """The concrete public classes of a family."""
    found = {
        thing
        for module in modules()
        for _, thing in own(module)
        if inspect.isclass(thing)
        and issubclass(thing, kind)
        and thing is not kind
        and not inspect.isabstract(thing)
    }
    return sorted(found, key=lambda cls: cls.__qualname__)
