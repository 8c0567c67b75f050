"""Which names in a recipe may be turned into code, and finding them.

Without trust a recipe reaches: declared callables of this package, the classes of ``torch.nn`` and
``torch.optim``, torchvision's models and v2 transforms, a few built-ins, and functions of local files
whose source is, on disk, what the recipe says. A local file is read before it is imported.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import re
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from surefast.errors import RecipeError
from surefast.recipe.call import is_declared
from surefast.recipe.reference import Reference, disk_source, is_importable, module_file, source_hash
from surefast.recipe.schema import find_own

_BUILTINS: Final = frozenset({
    "int", "float", "str", "bool", "len", "list", "tuple", "dict", "set",
    "abs", "min", "max", "sum", "round", "sorted",
})  # fmt: skip
_OPEN: Final = ("torch.nn", "torch.optim", "torchvision.models", "torchvision.transforms.v2")
# The rooms whose objects a recipe describes. All else of this package acts: it writes, unpickles over its own
# pipes, runs commands or reads recipes, and is closed to a file that somebody may have sent.
_ROOMS: Final = tuple(
    f"surefast.{room}" for room in ("data", "task", "train", "callbacks", "vision", "learner")
)
_CLOSED: Final = tuple(
    f"surefast.{module}"
    for module in (
        "data.fetch",
        "data.wire",
        "data.worker",
        "data.workers",
        "train.weights",
        "vision.pretrained",
    )
)
# Where functions are described that nobody declares, because they are called for every batch or item.
_PLAIN: Final = tuple(
    f"surefast.{module}"
    for module in ("task", "data.label", "vision.digits", "vision.models", "vision.xresnet")
)
# What writes files or trains has no place in a setup, declared or not.
_DEEDS: Final = re.compile(
    r"save|write|append|export|eject|remove|delete|fit|fine_tune|lr_find|train_|run_|main$"
)
_HOW = "pass trust_code=True (surefast train --trust-code) if you know where this recipe is from"


def find_callable(target: str, source: str, *, trust_code: bool) -> Any:
    """What a ``call`` in a recipe names.

    Args:
        target: ``module:qualname``.
        source: the hash of its source that the recipe holds, for user code.
        trust_code: whether other code than this package's may run.

    Raises:
        RecipeError: says why it may not be called.
    """
    if is_own(target):
        found = find_own(target)
        if isinstance(found, str):
            raise RecipeError(found, do="mend the name")
        _require_described(target)
        return found
    library = _find_library(target, classes_only=not target.startswith("torchvision."))
    if library is not None:
        return library
    if not trust_code:
        hint = f" (source {source})" if source else ""
        raise RecipeError(f"{target}{hint} would be called, which is code from outside surefast", do=_HOW)
    return _import(target)


def find_reference(reference: Reference, *, trust_code: bool) -> Any:
    """The function or class a reference names.

    Raises:
        RecipeError: says that it changed, is gone or may not be used, and how to trust it.
    """
    target = reference.target
    if not is_importable(target):
        where = f" in {reference.file}" if reference.file else ""
        raise RecipeError(
            f"{target}{where} is a function that only its own script knows",
            do="move it to the top level of a module and import it from there",
        )
    if target.startswith("builtins:") and target.partition(":")[2] in _BUILTINS:
        return _import(target)
    if is_own(target):
        return _find_inside(target)
    library = _find_library(target, classes_only=False)
    if library is not None:
        return library
    if not trust_code:
        _require_unchanged(reference)
    return _import(target)


def find_member(target: str, name: str) -> Any:
    """A member of an enumeration of this package or of a known library.

    Raises:
        RecipeError: where there is none.
    """
    kind = _find_inside(target) if is_own(target) else _find_library(target, classes_only=True)
    if not isinstance(kind, enum.EnumMeta):
        raise RecipeError(f"{target} is no enumeration a recipe may use", do="mend the name")
    if name not in kind.__members__:
        raise RecipeError(f"{target} has no {name!r}", do=f"use one of: {', '.join(kind.__members__)}")
    return kind[name]


def is_own(target: str) -> bool:
    """Whether a name is one of this package, and not of another whose name begins alike."""
    return target.partition(":")[0].partition(".")[0] == "surefast"


def _require_described(target: str) -> None:
    module, _, qualname = target.partition(":")
    is_open = _is_in(module, _ROOMS) and not _is_in(module, _CLOSED)
    acts = target.startswith("surefast.learner:Learner.") or _DEEDS.match(qualname.rpartition(".")[2])
    if acts or not is_open:
        raise RecipeError(f"{target} has no place in a setup", do="remove it, or write it as a [[fit]]")


def _find_inside(target: str) -> Any:
    """A public function or class that this package defines, declared or not, by reference only."""
    module, _, name = target.partition(":")
    if module_file(module) is None or any(part.startswith("_") for part in name.split(".")):
        raise RecipeError(f"there is no {target}", do="mend the name")
    _require_described(target)
    found = _walk(importlib.import_module(module), name)
    if found is None or not is_own(str(getattr(found, "__module__", ""))):
        raise RecipeError(f"{module} has no {name!r}", do="mend the name")
    if not (inspect.isclass(found) or is_declared(found) or _is_in(module, _PLAIN)):
        raise RecipeError(f"{target} has no place in a recipe: it describes nothing", do="remove it")
    return found


def _is_in(module: str, homes: tuple[str, ...]) -> bool:
    return any(module == home or module.startswith(f"{home}.") for home in homes)


def _find_library(target: str, *, classes_only: bool) -> Any | None:
    """A public name of the libraries that may be used without trust; None for all else."""
    module, _, name = target.partition(":")
    is_open = _is_in(module, _OPEN)
    is_private = any(part.startswith("_") for part in (*module.split("."), *name.split(".")))
    if not is_open or is_private or module_file(module) is None:
        return None
    if name.count(".") and not module.startswith("torchvision.models"):
        return None
    found = _walk(importlib.import_module(module), name)
    home = str(getattr(found, "__module__", ""))
    is_own = any(home.startswith(open_) and module.startswith(open_) for open_ in _OPEN)
    if module == "torch.nn.functional" and inspect.isbuiltin(found):
        is_own = True  # the kernels themselves say they live elsewhere
    is_function = inspect.isroutine(found) and not classes_only and not module.startswith("torch.optim")
    return found if is_own and (inspect.isclass(found) or is_function) else None


def _require_unchanged(reference: Reference) -> None:
    """Refuse what is not local code, or not the code the recipe knows, without importing it."""
    module = reference.target.partition(":")[0]
    file = module_file(module)
    if module.partition(".")[0] in sys.stdlib_module_names:
        raise RecipeError(f"{reference.target} would run: Python's own library", do=_HOW)
    if file is None:
        raise RecipeError(
            f"{reference.target} is not found: there is no module {module}",
            do="run from the folder that holds it, or put that folder on PYTHONPATH",
        )
    if any(file.resolve().is_relative_to(place) for place in _installed()):
        raise RecipeError(f"{reference.target} would run: installed code outside surefast ({file})", do=_HOW)
    found = source_hash(disk_source(reference.target) or "")
    if not found:
        raise RecipeError(
            f"{file} has no {reference.target.partition(':')[2]}", do=f"mend the name, or {_HOW}"
        )
    if found != reference.source:
        recorded = reference.source or "no source"
        raise RecipeError(
            f"{reference.target} has changed: {file} has {found}, the recipe {recorded}",
            do=f"put the old source back; to run what is there now, {_HOW}",
        )


def _installed() -> Iterator[Path]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    for place in {
        *(sysconfig.get_path(name) for name in names),
        *site.getsitepackages(),
        site.getusersitepackages(),
    }:
        yield Path(place).resolve()


def _import(target: str) -> Any:
    module, _, name = target.partition(":")
    try:
        found = _walk(importlib.import_module(module), name)
    except ImportError as error:
        raise RecipeError(
            f"{target} cannot be imported: {error}", do="run where its module is found"
        ) from error
    if found is None:
        raise RecipeError(f"{module} has no {name!r}", do="mend the name")
    return found


def _walk(thing: Any, name: str) -> Any:
    for part in name.split("."):
        thing = getattr(thing, part, None)
    return thing
