"""``declared``: the one decorator that makes a callable answer for its arguments.

A declared class or function answers an unknown argument with the nearest known one, and records how it
was called: every argument, with its origin. The recipe of a run is the tree of these records, so a new
setting is in the recipe because it is an argument of something declared; there is no second list.

What library code passes on to another declared callable was not typed by the user there: it has the
origin ``inferred`` and says from where. This file must know nothing of training or data.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from surefast.errors import ArgumentError, unknown_name
from surefast.recipe.value import Value

C = TypeVar("C", bound=Callable[..., Any])

RECORD = "_surefast_call"
"""The attribute that holds the record of what made an object."""

_DECLARED = "_surefast_declared"


class Call:
    """The record of one call: what was called, with which values, from where.

    Args:
        target: the class or function, as ``module:qualname``.
        values: argument name to value, in the order of the signature.
        made: the record of the object underneath, where the callable is a short form of another.
        source: hash of the callable's source where it is user code; empty for libraries.
    """

    def __init__(
        self, target: str, values: dict[str, Value], made: Call | None = None, source: str = ""
    ) -> None:
        self.target = target
        self.values = values
        self.made = made
        self.source = source

    def infer(self, name: str, value: object, why: str, *, neutral: bool = False) -> None:
        """Note a value that the callee worked out, and why it has that value."""
        self.values[name] = Value(value, "inferred", why, neutral)

    def settle(self, name: str, value: object, why: str) -> None:
        """Note what an argument that was left open (None) came to; one that was given stays."""
        recorded = self.values[name]
        if recorded.value is None:
            self.infer(name, value, why, neutral=recorded.neutral)

    @property
    def name(self) -> str:
        """The qualified name without its module: ``DataBlock.dataloaders``."""
        return self.target.partition(":")[2]

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={value.value!r}" for name, value in self.values.items())
        return f"{self.name}({inner})"


_active: ContextVar[tuple[Call, ...]] = ContextVar("surefast_active_calls", default=())
_replayed: ContextVar[Call | None] = ContextVar("surefast_replayed_call", default=None)


def current_call() -> Call:
    """The record of the declared call that is running; for code inside one."""
    return _active.get()[-1]


def call_of(made: object) -> Call | None:
    """The record of the call that made an object, or None for an object nobody declared."""
    record = getattr(made, RECORD, None)
    return record if isinstance(record, Call) else None


def is_declared(target: object) -> bool:
    """Whether a class, function or method answers for its arguments."""
    return getattr(target.__init__ if inspect.isclass(target) else target, _DECLARED, False) is True


def replay(function: Callable[..., Any], arguments: inspect.BoundArguments, record: Call) -> Any:
    """Call something declared again, so that its values keep the origin they have in ``record``."""
    token = _replayed.set(record)
    try:
        return function(*arguments.args, **arguments.kwargs)
    finally:
        _replayed.reset(token)


def declared(*, neutral: Collection[str] = (), skip: Collection[str] = ()) -> Callable[[C], C]:
    """Make a class, function or method answer for its arguments.

    Args:
        neutral: arguments that cannot change bits, such as ``num_workers``.
        skip: arguments that are no settings, such as a live object handed through; not recorded.
    """

    def decorate(target: C) -> C:
        if inspect.isclass(target):
            target.__init__ = _wrap_init(target, frozenset(neutral), frozenset(skip))  # type: ignore[method-assign]
            return target
        return cast("C", _wrap_function(target, frozenset(neutral), frozenset(skip)))

    return decorate


class _Signature:
    """A signature taken apart once, so that a call costs little."""

    def __init__(
        self, function: Callable[..., Any], name: str, neutral: frozenset[str], skip: frozenset[str]
    ) -> None:
        self.signature = inspect.signature(function)
        self.name = name
        self.neutral = neutral
        self.skip = skip
        kinds = inspect.Parameter
        self.open = any(p.kind is kinds.VAR_KEYWORD for p in self.signature.parameters.values())
        self.known = [
            p.name
            for p in self.signature.parameters.values()
            if p.kind in {kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY}
        ]

    def record(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, drop: str = "") -> dict[str, Value]:
        """Bind a call to names: each value with its origin."""
        again = _replayed.get()
        _replayed.set(None)  # only the call asked for, not what it calls in turn
        known = [name for name in self.known if name not in {drop, "self"}]
        for given in kwargs:
            if given not in self.known and not self.open:
                raise unknown_name(given, known, of=f"{self.name}()")
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise _binding_error(self.name, error, known) from None
        given_names = set(bound.arguments)
        bound.apply_defaults()
        outer = _active.get()
        values: dict[str, Value] = {}
        for name, value in bound.arguments.items():
            if name == drop or name in self.skip:
                continue
            values[name] = self._value(name, value, given=name in given_names, outer=outer)
            if again is not None and name in again.values:
                before = again.values[name]
                values[name] = Value(value, before.origin, before.why, values[name].neutral)
        return values

    def _value(self, name: str, value: object, *, given: bool, outer: tuple[Call, ...]) -> Value:
        neutral = name in self.neutral
        if not given:
            return Value(value, "default", neutral=neutral)
        if outer:
            return Value(value, "inferred", f"set by {outer[-1].name}", neutral)
        return Value(value, "user", neutral=neutral)


def _binding_error(name: str, error: TypeError, known: list[str]) -> ArgumentError:
    text = str(error)
    if text.startswith("missing"):
        return ArgumentError(f"{name}() is {text}", do=f"pass it; the arguments are: {', '.join(known)}")
    return ArgumentError(f"{name}(): {text}", do=f"the arguments are, in this order: {', '.join(known)}")


def _target_name(target: Any) -> str:
    return f"{target.__module__}:{target.__qualname__}"


def _takes_anything(init: Callable[..., None]) -> bool:
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(init).parameters.values())


def _no_arguments(init: Callable[..., None]) -> Callable[..., None]:
    """The constructor of a class without one: ``object``'s and torch's would swallow anything."""

    def __init__(self: Any) -> None:  # noqa: N807  # stands for the constructor
        init(self)

    return __init__


def _wrap_init(cls: type, neutral: frozenset[str], skip: frozenset[str]) -> Callable[..., None]:
    init = cls.__init__  # type: ignore[misc]  # the class is at hand; nobody calls it on an instance
    if "__init__" not in vars(cls) and _takes_anything(init):
        init = _no_arguments(init)
    signature = _Signature(init, cls.__qualname__, neutral, skip)

    @functools.wraps(init)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        if call_of(self) is not None and type(self) is not cls:  # a subclass has recorded already
            init(self, *args, **kwargs)
            return
        call = Call(_target_name(type(self)), signature.record((self, *args), kwargs, drop="self"))
        with contextlib.suppress(AttributeError):  # no room in a class with slots: told by its fields
            object.__setattr__(self, RECORD, call)
        token = _active.set((*_active.get(), call))
        try:
            init(self, *args, **kwargs)
        finally:
            _active.reset(token)

    setattr(wrapper, _DECLARED, True)
    return wrapper


def _wrap_function(
    function: Callable[..., Any], neutral: frozenset[str], skip: frozenset[str]
) -> Callable[..., Any]:
    signature = _Signature(function, function.__qualname__, neutral, skip)
    target = _target_name(function)
    # A plain function may have an argument of that name too: fastai's ImageBlock(cls=PILImage).
    of_class = "." in function.__qualname__.rpartition("<locals>.")[2]
    first = next(iter(signature.signature.parameters), "")
    drop = "cls" if first == "cls" and of_class else ""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        owner = f"{_target_name(args[0])}.{function.__name__}" if drop and args else target
        call = Call(owner, signature.record(args, kwargs, drop=drop))
        token = _active.set((*_active.get(), call))
        try:
            result = function(*args, **kwargs)
        finally:
            _active.reset(token)
        _attach(result, call)
        return result

    setattr(wrapper, _DECLARED, True)
    return wrapper


_PLAIN = (type(None), bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset)


def _attach(result: object, call: Call) -> None:
    if type(result) in _PLAIN:
        return
    call.made = call_of(result)
    try:
        object.__setattr__(result, RECORD, call)
    except (AttributeError, TypeError):  # an object without room for it, such as an array
        return
