"""torchvision's v2 transforms in a recipe: their arguments are read back from the object.

A transform of a library is no declared call; told by a digest alone, its settings would be hidden and
training could not start again from the file. torchvision is not imported here.
This file must not know what a transform does.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any, Final

from surefast.recipe.call import RECORD, Call, call_of
from surefast.recipe.value import Value

_V2: Final = "torchvision.transforms.v2"


def is_v2(function: object) -> bool:
    """Whether this is a transform of torchvision v2, told by its classes; it is not imported."""
    return any(kind.__module__.startswith(_V2) for kind in type(function).__mro__)


def describe_v2(transform: Any) -> None:
    """Give a transform of torchvision v2 the record of a call that makes an equal one.

    Left as it is where the arguments cannot be read back, or where the class is the user's own.
    """
    kind = type(transform)
    public = getattr(sys.modules.get(_V2), kind.__name__, None)
    if call_of(transform) is not None or public is not kind:
        return
    values: dict[str, Value] = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD or parameter.kind is parameter.VAR_POSITIONAL:
            return
        if not hasattr(transform, name):
            return
        value = getattr(transform, name)
        if isinstance(parameter.default, str):  # this torchvision takes interpolation by name
            value = _plain(value)
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if is_v2(part):
                describe_v2(part)
        is_default = type(value) is type(parameter.default) and bool(value == parameter.default)
        values[name] = Value(value, "default" if is_default else "user")
    if _makes_equal(kind, {name: value.value for name, value in values.items()}, transform):
        object.__setattr__(transform, RECORD, Call(f"{_V2}:{kind.__name__}", values))


def _makes_equal(kind: Any, arguments: dict[str, Any], transform: Any) -> bool:
    try:
        return _state(kind(**arguments)) == _state(transform)
    except Exception:  # noqa: BLE001  # what it keeps is not what it takes
        return False


def _state(transform: Any) -> dict[str, str]:
    # As text: some hold tensors or other transforms, whose equality is no truth value.
    return {name: repr(_plain(value)) for name, value in vars(transform).items() if name != RECORD}


def _plain(value: Any) -> Any:
    """A way of interpolation by its name."""
    return value.value if type(value).__name__ == "InterpolationMode" else value
