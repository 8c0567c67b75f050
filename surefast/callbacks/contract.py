"""The two kinds of callback: an ``Observer`` looks, an ``Actor`` changes what it declares.

    class Loud(Observer):
        def after_epoch(self, run):
            print(run.epoch, run.metrics["valid_loss"])

    class Penalty(Actor):
        writes = {"loss"}

        def after_loss(self, run):
            run.loss = run.loss + 1e-4 * run.pred.square().mean()

A hook is a method named after an event, taking ``run``. What cannot work is an error where the class is
defined, see ``surefast/callbacks/definition.py``. This file must know nothing of order or dispatching.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import ClassVar, Literal

from surefast.callbacks.definition import check_class
from surefast.callbacks.event import Event
from surefast.callbacks.state import Request, State
from surefast.callbacks.view import FIELD_EVENTS, RunState, RunView
from surefast.errors import CallbackError
from surefast.recipe.call import declared

__all__ = ["FIELD_EVENTS", "Actor", "Callback", "Observer", "Request", "RunState", "RunView", "State"]

Kind = Literal["observer", "actor"]


class Callback:
    """The common base: something that listens to the events of a fit. Subclass ``Observer`` or ``Actor``.

    Args:
        name: tells several instances of one class apart; the class's name where not given.
    """

    writes: ClassVar[AbstractSet[str]] = frozenset()
    """The fields an actor changes, see ``FIELD_EVENTS``."""

    after: tuple[type[Callback] | str, ...] = ()
    """Callbacks, by class or name, that run before this one where both listen. May be set on an instance."""

    before: tuple[type[Callback] | str, ...] = ()
    """Callbacks, by class or name, that run after this one where both listen. May be set on an instance."""

    _kind: ClassVar[Kind | None] = None
    _name: str | None = None

    def __init__(self, *, name: str | None = None) -> None:
        if name is not None:
            self.name = name

    def __init_subclass__(cls) -> None:
        kinds: set[Kind] = {vars(base)["_kind"] for base in cls.__mro__ if vars(base).get("_kind")}
        if len(kinds) > 1:
            raise CallbackError(
                f"{cls.__name__} is both Observer and Actor",
                do="an Actor may look as well: leave Observer out",
                callback=cls.__name__,
            )
        check_class(cls, next(iter(kinds), None))
        # The package's own classes are declared where they stand, with what is neutral for each.
        if "__init__" in vars(cls) and not cls.__module__.startswith("surefast."):
            declared()(cls)

    @property
    def name(self) -> str:
        """What messages, orders and checkpoints call this callback."""
        return self._name or type(self).__name__

    @name.setter
    def name(self, name: str) -> None:
        if not isinstance(name, str) or not name.strip():
            raise CallbackError(f"a callback's name is a word, not {name!r}", do='name="second"')
        self._name = name

    @property
    def kind(self) -> Kind:
        """``observer`` or ``actor``."""
        if self._kind is None:
            raise CallbackError(
                f"{type(self).__name__} is neither Observer nor Actor", do="subclass one of the two"
            )
        return self._kind

    def events(self) -> tuple[Event, ...]:
        """The events this callback has a hook for, in the order of a fit."""
        return tuple(event for event in Event if callable(getattr(type(self), event.value, None)))

    def state_dict(self) -> dict[str, object]:
        """What a checkpoint must hold to go on: numbers, texts, lists, dicts, tensors. Empty by default."""
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take back what ``state_dict`` gave."""
        if state:
            raise CallbackError(
                f"{self.name} has saved state but no load_state_dict to take it back",
                do="define load_state_dict(self, state) beside state_dict",
                callback=self.name,
                state=", ".join(sorted(state)),
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self._name is None else f'name={self._name!r}'})"


class Observer(Callback):
    """A callback that looks and never changes: its exceptions are recorded, and training goes on."""

    _kind = "observer"


class Actor(Callback):
    """A callback that changes training: it declares what in ``writes``, and its exceptions end the fit."""

    _kind = "actor"
