"""Run the hooks of an event: bound once, isolated where they only look, torn down last in first out.

This file must know nothing of the loop; the loop calls ``fire`` and, at the end, ``close``.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, final

from surefast.callbacks.contract import Callback
from surefast.callbacks.event import PER_BATCH, Event
from surefast.callbacks.resolve import Explanation, explain, resolve
from surefast.callbacks.state import State
from surefast.callbacks.view import FIELD_EVENTS, Moment, Report, RunState, RunView
from surefast.callbacks.witness import Change, Witness
from surefast.errors import CallbackError, unknown_name

Hook: TypeAlias = Callable[[], None]
Hooks: TypeAlias = tuple[Hook, ...]

MAX_FAILURES: Final = 3
"""An observer that fails at one event so often in a row is not asked any more."""


class _Seat:
    """One callback in a run, with what the dispatcher knows of it."""

    __slots__ = ("callback", "change_count", "disabled", "failures", "last_error", "view")

    def __init__(self, callback: Callback, view: RunView) -> None:
        self.callback = callback
        self.view = view
        self.disabled = False
        self.failures = 0
        self.change_count = 0
        self.last_error = ""


@final
class Dispatch:
    """The callbacks of a fit, ready to run: for each event a tuple of calls without arguments.

    ``hooks[event]`` is such a tuple, empty where nobody listens; an observer that keeps failing is taken out.

    The order of a fit: ``fire(Event.before_fit)``, the loop, ``close(error)`` whatever happened.

    Args:
        callbacks: observers and actors, in the order in which they were given.
        state: the loop's state, read by the views.
        report: called with a kind of line and its fields for every finding: ``callback_error``,
            ``callback_disabled``, ``callback_change``, ``callback_request``.
        strict: raise where an observer changed something that cannot be put back.

    Raises:
        ConflictError: the callbacks cannot hold together.
    """

    hooks: dict[Event, Hooks]

    def __init__(
        self, callbacks: Sequence[Callback], state: State, report: Report, *, strict: bool = True
    ) -> None:
        self.plan = resolve(callbacks)
        self._state = state
        self._report = report
        self._strict = strict
        self._moment = Moment()
        self._witness = Witness(state) if callbacks else None
        self._seats = {callback.name: self._seat(callback) for callback in self.plan.order}
        self._opened: list[_Seat] = []
        self._unnamed: list[str] = []
        self.hooks = {}
        for event in Event:
            self._bind(event)

    def fire(self, event: Event) -> None:
        """Run the hooks of one event; ``after_fit`` is the same as ``close()``."""
        for hook in self.hooks[event]:
            hook()

    def close(self, error: BaseException | None = None) -> None:
        """End the fit: ``on_exception`` if something was raised, then ``after_fit``, last in first out.

        Runs for every callback whose ``before_fit`` went well, whatever the others do. A second call does
        nothing. What actors raise here is added as a note to ``error``, or raised when there is none.
        """
        opened, self._opened = self._opened[::-1], []
        self._moment.error = error
        failures: list[BaseException] = []
        events = (Event.after_fit,) if error is None else (Event.on_exception, Event.after_fit)
        for event in events:
            for seat in opened:
                self._tear_down(seat, event, failures)
        self._moment.error = None
        if error is not None:
            for failure in failures:
                error.add_note(f"while tearing down: {failure}")
        elif failures:
            for failure in failures[1:]:
                failures[0].add_note(f"also: {failure}")
            raise failures[0]

    def summary(self) -> list[str]:
        """Sentences for the end of the run: who failed, who was disabled, who changed what it must not."""
        lines: list[str] = list(self._unnamed)
        for name, seat in self._seats.items():
            if seat.disabled:
                lines.append(f"{name} was disabled after {MAX_FAILURES} failures in a row: {seat.last_error}")
            elif seat.failures:
                lines.append(f"{name} failed {seat.failures} times: {seat.last_error}")
            if seat.change_count:
                lines.append(f"{name} changed what it must not, {seat.change_count} times; see the event log")
        return lines

    def callback(self, name: str) -> Callback:
        """The callback of that name."""
        if name not in self._seats:
            raise unknown_name(name, self._seats, of="this fit", kind="callback")
        return self._seats[name].callback

    def explain(self) -> Explanation:
        """Who runs when, reads and writes what: a table for terminal and notebook."""
        return explain(self.plan)

    def state_dict(self) -> dict[str, dict[str, object]]:
        """For each callback by name what a checkpoint must hold; those without state are left out."""
        states = {name: seat.callback.state_dict() for name, seat in self._seats.items()}
        for name, state in states.items():
            check_storable(state, name)
        return {name: state for name, state in states.items() if state}

    def load_state_dict(self, states: dict[str, dict[str, object]]) -> None:
        """Give each callback its state back.

        Raises:
            CallbackError: there is state for a callback that is not there.
        """
        for name, state in states.items():
            if name not in self._seats:
                raise CallbackError(
                    f"the checkpoint holds state of {name}, and there is no such callback",
                    do="give the callbacks the run was started with, or name= as it was then",
                    found=", ".join(self._seats) or "none",
                )
            self._seats[name].callback.load_state_dict(state)

    def _seat(self, callback: Callback) -> _Seat:
        if callback.kind == "observer":
            return _Seat(callback, RunView(callback.name, self._state, self._moment))
        writes = frozenset(callback.writes)
        view = RunState(callback.name, self._state, self._moment, writes=writes, report=self._report)
        return _Seat(callback, view)

    # Binding

    def _bind(self, event: Event) -> None:
        seats = [self._seats[callback.name] for callback in self.plan.order]
        if event is not Event.before_fit:
            seats = [one for one in seats if event in one.callback.events() and not one.disabled]
        hooks: list[Hook] = [self.close] if event is Event.after_fit else []
        if event not in {Event.after_fit, Event.on_exception}:  # those are close()'s
            hooks = self._hooks(event, seats)
        self.hooks[event] = tuple(hooks)

    def _hooks(self, event: Event, seats: Sequence[_Seat]) -> list[Hook]:
        if self._witness is None or not seats:
            return []
        hooks: list[Hook] = [self._witness.note_process] if event is Event.before_fit else []
        noted = False
        for seat in seats:
            looked_at = event not in PER_BATCH or not _is_vetted(seat)
            if looked_at and not noted:
                hooks.append(self._note(event))
                noted = True
            hooks += self._calls(event, seat)
            if looked_at:  # each alone, so that a finding has one name
                hooks.append(self._look(event, seat))
        return hooks

    def _calls(self, event: Event, seat: _Seat) -> list[Hook]:
        calls: list[Hook] = []
        if event in seat.callback.events():
            call = self._guarded if seat.callback.kind == "observer" else self._plain
            calls.append(call(event, seat))
        if event is Event.before_fit:
            calls.append(lambda: self._opened.append(seat))
        return calls

    def _plain(self, event: Event, seat: _Seat) -> Hook:
        hook, view, moment = getattr(seat.callback, event.value), seat.view, self._moment

        def act() -> None:
            moment.event = event
            try:
                hook(view)
            except Exception as error:
                error.add_note(f"raised by actor {seat.callback.name} in {event.value}")
                raise

        return act

    def _guarded(self, event: Event, seat: _Seat) -> Hook:
        hook, view, moment = getattr(seat.callback, event.value), seat.view, self._moment
        streak = 0

        def observe() -> None:
            nonlocal streak
            if seat.disabled:  # for a loop that still holds an older tuple
                return
            moment.event = event
            try:
                hook(view)
            except (Exception, SystemExit) as error:  # noqa: BLE001  # an observer cannot stop training
                streak += 1
                self._failed(seat, event, error, streak)
            else:
                streak = 0

        return observe

    def _note(self, event: Event) -> Hook:
        assert self._witness is not None
        begin = self._witness.begin

        def note() -> None:
            changes = begin(event)
            if changes is not None:
                self._changed_before(event, changes)

        return note

    def _look(self, event: Event, seat: _Seat) -> Hook:
        assert self._witness is not None
        end, declared = self._witness.end, _declared(seat)

        def look() -> None:
            changes = end(event, declared)
            if changes is not None:
                self._changed(event, seat, changes)

        return look

    # Findings

    def _failed(self, seat: _Seat, event: Event, error: BaseException, streak: int) -> None:
        seat.failures += 1
        seat.last_error = f"{type(error).__name__} in {event.value}: {str(error).partition(chr(10))[0]}"
        name = seat.callback.name
        place = {"callback": name, "event": event.value, "step": self._state.step}
        # Text only: a traceback object would keep frames, and with them tensors, alive.
        text = "".join(traceback.format_exception(error))
        self._report("callback_error", {**place, "error": seat.last_error, "traceback": text})
        if streak >= MAX_FAILURES:
            seat.disabled = True
            self._report("callback_disabled", {**place, "error": seat.last_error})
            for listened in seat.callback.events():
                self._bind(listened)

    def _changed(self, event: Event, seat: _Seat, changes: Sequence[Change]) -> None:
        name, actor = seat.callback.name, seat.callback.kind == "actor"
        for change in changes:
            seat.change_count += 1
            place: dict[str, object] = {"callback": name, "event": event.value, "step": self._state.step}
            found = {"field": change.field, "what": change.what, "restored": change.restored}
            self._report("callback_change", place | found)
            if actor or (self._strict and not change.restored):
                remedy = f"declare it: writes = {{{change.field!r}}}"
                if not actor or change.field not in FIELD_EVENTS:
                    remedy = "leave it alone, or work on a copy: tensor.clone()"
                raise CallbackError(
                    f"{name} changed {change.field} in {event.value} without declaring it: {change.what}",
                    do=remedy if actor else f"{remedy}; or make it an Actor that declares what it writes",
                    callback=name,
                    event=event.value,
                    field=change.field,
                )

    def _changed_before(self, event: Event, changes: Sequence[Change]) -> None:
        """Report what was found before anyone ran: it happened at the batch events since the last look."""
        suspects = [
            name
            for name, seat in self._seats.items()
            if not _is_vetted(seat) and not PER_BATCH.isdisjoint(seat.callback.events())
        ]
        who = " or ".join(suspects) or "code outside of the callbacks"
        for change in changes:
            place: dict[str, object] = {"callback": who, "event": event.value, "step": self._state.step}
            found = {"field": change.field, "what": change.what, "restored": change.restored}
            self._report("callback_change", place | found)
            self._unnamed.append(f"{who} changed the {change.field} ({change.what}) before {event.value}")

    def _tear_down(self, seat: _Seat, event: Event, failures: list[BaseException]) -> None:
        if event not in seat.callback.events():
            return
        assert self._witness is not None
        call = self._guarded if seat.callback.kind == "observer" else self._plain
        was_disabled, seat.disabled = seat.disabled, False  # what it opened it may close
        try:
            self._note(event)()
            call(event, seat)()
            self._look(event, seat)()
        except BaseException as error:  # noqa: BLE001  # the others must be torn down too, even after Ctrl-C
            failures.append(error)
        finally:
            seat.disabled = was_disabled


def _declared(seat: _Seat) -> frozenset[str]:
    writes = frozenset(seat.callback.writes)
    return writes | {"batch"} if writes & {"xb", "yb", "pred", "loss"} else writes


def _is_vetted(seat: _Seat) -> bool:
    """Whether a test of this package shows that it changes nothing: looked at between batches only."""
    return seat.callback.kind == "observer" and type(seat.callback).__module__.startswith("surefast.")


def check_storable(value: object, owner: str, path: str = "") -> None:
    """Refuse state that a checkpoint cannot hold, with the path to it.

    Raises:
        CallbackError: something is neither number, text, list, dict, tensor nor None.
    """
    from torch import Tensor

    if value is None or isinstance(value, bool | int | float | str | Tensor):
        return
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        for key, inner in value.items():
            check_storable(inner, owner, f"{path}.{key}" if path else key)
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            check_storable(inner, owner, f"{path}[{position}]")
    else:
        raise CallbackError(
            f"state_dict of {owner} holds a {type(value).__name__} at {path or 'the top'}",
            do="give numbers, texts, lists, dicts with text keys, or tensors",
            callback=owner,
        )
