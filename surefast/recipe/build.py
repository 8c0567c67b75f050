"""From a recipe to live objects: the declared calls are made again, with the values of the file.

What was ``made`` underneath a short form is not built: calling the short form makes it again, and
``diff`` tells afterwards whether it came out the same. All that stands in the way is said at once,
before anything is called.
"""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from surefast.errors import RecipeError
from surefast.protocols import NOT_GIVEN
from surefast.recipe.call import Call, is_declared, replay
from surefast.recipe.encode import REDACTED
from surefast.recipe.recipe import Recipe
from surefast.recipe.reference import Array, Member, Opaque, Partial, Reference
from surefast.recipe.trust import find_callable, find_member, find_reference
from surefast.recipe.value import Value


def build(recipe: Recipe, *, trust_code: bool = False) -> Any:
    """What the setup of a recipe makes: the Learner, with its data and its model.

    Args:
        recipe: as read from a file.
        trust_code: run user code the recipe names even where it is not known to be unchanged.

    Raises:
        RecipeError: lists everything that cannot or may not be built, by its path.
    """
    found = [*_problems(recipe.setup, "setup", trust_code)]
    for index in range(len(recipe.fits)):
        call = recipe.fit_call(index)
        for name, value in call.values.items():
            found += _problems_inside(value, f"fit[{index}].{name}", trust_code)
    if found:
        raise _together(found)
    return _Builder(trust_code=trust_code).call(recipe.setup)


def rebuild_fit(learner: Any, call: Call, *, trust_code: bool = False) -> Any:
    """Call a ``fit`` method of a learner again, with the values of a recipe.

    Args:
        learner: what ``build`` gave.
        call: the call of a fit, from ``recipe.fits``.
        trust_code: as for ``build``.

    Raises:
        RecipeError: where the learner has no such method.
    """
    name = call.target.rpartition(".")[2]
    method = getattr(learner, name, None)
    if not name.startswith(("fit", "fine_tune")) or method is None or not is_declared(method):
        what = f"{type(learner).__name__} has no {name}() that fits"
        raise RecipeError(what, do="mend the call in [[fit]]")
    return _Builder(trust_code=trust_code).apply(method, call)


class _Builder:
    """Builds one recipe; an equal call in two places makes two objects, as it did in the recipe."""

    def __init__(self, *, trust_code: bool) -> None:
        self._trust = trust_code

    def call(self, call: Call) -> Any:
        return self.apply(find_callable(call.target, call.source, trust_code=self._trust), call)

    def apply(self, function: Callable[..., Any], call: Call) -> Any:
        signature = inspect.signature(function)
        known = signature.parameters
        given = {
            name: self.value(value.value)
            for name, value in call.values.items()
            if name in known and _is_passed(value)
        }
        ordered = OrderedDict((name, given[name]) for name in known if name in given)
        arguments = inspect.BoundArguments(signature, ordered)
        if is_declared(function):
            return replay(function, arguments, call)
        return function(*arguments.args, **arguments.kwargs)

    def value(self, inert: Any) -> Any:
        match inert:
            case Call():
                return self.call(inert)
            case Reference():
                return find_reference(inert, trust_code=self._trust)
            case Member():
                return find_member(inert.target, inert.name)
            case Partial():
                args = [self.value(item) for item in inert.args]
                keywords = {key: self.value(item) for key, item in inert.keywords.items()}
                return functools.partial(self.value(inert.function), *args, **keywords)
            case Array():
                return _array(inert)
            case list():
                return [self.value(item) for item in inert]
            case tuple():
                return tuple(self.value(item) for item in inert)
            case dict():
                return {self.value(key): self.value(item) for key, item in inert.items()}
            case slice():
                return slice(*(self.value(part) for part in (inert.start, inert.stop, inert.step)))
            case _:
                return inert


def _array(inert: Array) -> Any:
    if inert.library == "tensor":
        return torch.tensor(inert.numbers, dtype=getattr(torch, inert.dtype)).reshape(inert.shape)
    return np.array(inert.numbers, dtype=inert.dtype).reshape(inert.shape)


def _is_passed(value: Value) -> bool:
    """Whether a value is handed over: not what nobody gave, nor what the callee finds again by itself."""
    if value.value is NOT_GIVEN:
        return False
    return value.origin == "user" or not any(isinstance(item, Opaque) for item in _walk(value.value))


def _walk(inert: Any) -> Iterator[Any]:
    yield inert
    match inert:
        case Call():
            for value in inert.values.values():
                yield from _walk(value.value)
        case Partial():
            for item in (inert.function, *inert.args, *inert.keywords.values()):
                yield from _walk(item)
        case list() | tuple():
            for item in inert:
                yield from _walk(item)
        case dict():
            for item in inert.values():
                yield from _walk(item)


def _problems(call: Call, path: str, trust_code: bool) -> Iterator[tuple[str, RecipeError]]:
    """What stands in the way of a call: path and error. Nothing is called to find out."""
    try:
        find_callable(call.target, call.source, trust_code=trust_code)
    except RecipeError as error:
        yield path, error
    for name, value in call.values.items():
        if _is_passed(value):
            yield from _problems_inside(value, f"{path}.{name}", trust_code)


def _problems_inside(value: Value, path: str, trust_code: bool) -> Iterator[tuple[str, RecipeError]]:
    inert = value.value
    if isinstance(inert, Call):
        yield from _problems(inert, path, trust_code)
    elif isinstance(inert, list | tuple):
        for index, item in enumerate(inert):
            yield from _problems_inside(Value(item, value.origin), f"{path}[{index}]", trust_code)
    elif isinstance(inert, dict):
        for key, item in inert.items():
            yield from _problems_inside(Value(item, value.origin), f"{path}.{key}", trust_code)
    elif isinstance(inert, Partial):
        for item in (inert.function, *inert.args, *inert.keywords.values()):
            yield from _problems_inside(Value(item, value.origin), path, trust_code)
    else:
        error = _problem_of_leaf(inert, trust_code)
        if error is not None:
            yield path, error


def _problem_of_leaf(inert: Any, trust_code: bool) -> RecipeError | None:
    if isinstance(inert, Opaque):
        what = f"a {inert.type.partition(':')[2]} is known by its digest {inert.digest} only"
        return RecipeError(what, do="run the script that made it, or pass something a recipe can describe")
    if isinstance(inert, str) and REDACTED in inert:
        return RecipeError("a secret was left out", do="write it into a copy of the file")
    try:
        if isinstance(inert, Reference):
            find_reference(inert, trust_code=trust_code)
        elif isinstance(inert, Member):
            find_member(inert.target, inert.name)
    except RecipeError as error:
        return error
    return None


def _together(problems: list[tuple[str, RecipeError]]) -> RecipeError:
    if len(problems) == 1:
        path, error = problems[0]
        return RecipeError(f"{path}: {error.what}", do=error.do)
    details = "".join(f"\n  {path}: {error.what}" for path, error in problems)
    remedies = "; ".join(dict.fromkeys(error.do for _, error in problems))
    return RecipeError(f"the recipe has {len(problems)} parts that cannot be built:{details}", do=remedies)
