"""Callbacks to a plan: who runs when, or a conflict with the names and the ways out.

Actors run before observers, so that observers see what training sees. Among each kind, ``before`` and
``after`` decide, then the order in which the callbacks were given. This file must know nothing of running.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from surefast.callbacks.contract import Callback
from surefast.callbacks.definition import attributes
from surefast.callbacks.event import Event
from surefast.callbacks.view import FIELD_EVENTS
from surefast.errors import CallbackError, ConflictError, nearest

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Plan:
    """The settled order of a run's callbacks."""

    order: tuple[Callback, ...]
    """All callbacks, in the order in which they are set up; teardown runs the other way."""

    events: Mapping[Event, tuple[Callback, ...]]
    """For each event who listens, in order."""


def resolve(callbacks: Sequence[Callback]) -> Plan:
    """Order callbacks and refuse what cannot hold together.

    Raises:
        CallbackError: something is no callback, or an order names a callback nobody knows.
        ConflictError: two of one name, a cycle of orders, or two actors that write the same field at the
            same event with no declared order.
    """
    for callback in callbacks:
        _check_callback(callback)
    _check_names(callbacks)
    earlier = _edges(callbacks)
    order = _sorted(callbacks, earlier)
    _check_writes(order, _reachable(order, earlier))
    return Plan(
        order=tuple(order),
        events={event: tuple(one for one in order if event in one.events()) for event in Event},
    )


def _check_callback(callback: object) -> None:
    if isinstance(callback, type) and issubclass(callback, Callback):
        raise CallbackError(
            f"cbs holds the class {callback.__name__}, not a callback", do=f"call it: {callback.__name__}()"
        )
    if not isinstance(callback, Callback):
        raise CallbackError(
            f"cbs holds a {type(callback).__name__}, which is no callback",
            do="make it a subclass of Observer or Actor",
            found=repr(callback)[:80],
        )
    callback.kind  # noqa: B018  # raises where the class is neither


def _check_names(callbacks: Sequence[Callback]) -> None:
    seen: dict[str, Callback] = {}
    for callback in callbacks:
        if callback.name in seen:
            same = seen[callback.name] is callback
            raise ConflictError(
                f"the same {callback.name} is given twice"
                if same
                else f"two callbacks are called {callback.name}",
                do="give it once"
                if same
                else f'name one of them: {type(callback).__name__}(name="second"), '
                'or callback.name = "second"',
                callbacks=callback.name,
            )
        seen[callback.name] = callback


def _matches(target: type[Callback] | str, callback: Callback) -> bool:
    if isinstance(target, str):
        return target in {callback.name, type(callback).__name__}
    return isinstance(callback, target)


def _edges(callbacks: Sequence[Callback]) -> dict[str, set[str]]:
    """For each name, the names that must run earlier."""
    earlier: dict[str, set[str]] = {callback.name: set() for callback in callbacks}
    for callback in callbacks:
        for target in _targets(callback, "after", callbacks):
            earlier[callback.name].add(target.name)
        for target in _targets(callback, "before", callbacks):
            earlier[target.name].add(callback.name)
    observers = {one.name for one in callbacks if one.kind == "observer"}
    for callback in callbacks:
        if callback.kind == "actor" and earlier[callback.name] & observers:
            first = min(earlier[callback.name] & observers)
            raise ConflictError(
                f"actor {callback.name} is to run after observer {first}; observers run after all actors",
                do="drop that order: an observer changes nothing an actor could wait for",
                callbacks=f"{callback.name}, {first}",
            )
    return earlier


def _targets(callback: Callback, side: str, callbacks: Sequence[Callback]) -> list[Callback]:
    wanted: object = callback.after if side == "after" else callback.before
    if not isinstance(wanted, tuple | list):
        shown = wanted.__name__ if isinstance(wanted, type) else repr(wanted)
        raise CallbackError(
            f"{callback.name}.{side} is {shown}, not a tuple",
            do=f"{side} = ({shown},)",
            callback=callback.name,
        )
    found: list[Callback] = []
    for target in wanted:
        matching = [one for one in callbacks if one is not callback and _matches(target, one)]
        if not matching and isinstance(target, str):
            _check_target(callback, side, target, callbacks)
        found += matching
    return found


def _check_target(callback: Callback, side: str, target: str, callbacks: Sequence[Callback]) -> None:
    # A class that is merely absent is fine: "after MixUp, where there is one". A misspelt one is not.
    known = {one.name for one in callbacks} | {cls.__name__ for cls in _subclasses(Callback)}
    close = None if target in known else nearest(target, known)
    if close:
        raise CallbackError(
            f"{callback.name}.{side} names {target!r}, and no callback is called that",
            do=f"write {close!r}",
            callback=callback.name,
        )


def _subclasses(cls: type[Callback]) -> set[type[Callback]]:
    found = set(cls.__subclasses__())
    return found.union(*(_subclasses(one) for one in found))


def _sorted(callbacks: Sequence[Callback], earlier: Mapping[str, set[str]]) -> list[Callback]:
    waiting = [one for one in callbacks if one.kind == "actor"] + [
        one for one in callbacks if one.kind != "actor"
    ]
    order: list[Callback] = []
    done: set[str] = set()
    while waiting:
        ready = next((one for one in waiting if earlier[one.name] <= done), None)
        if ready is None:
            raise _cycle_error(waiting, earlier)
        waiting.remove(ready)
        order.append(ready)
        done.add(ready.name)
    return order


def _cycle_error(waiting: Sequence[Callback], earlier: Mapping[str, set[str]]) -> ConflictError:
    names = {one.name for one in waiting}
    path = [waiting[0].name]
    while path[-1] not in path[:-1]:
        path.append(min(earlier[path[-1]] & names))
    cycle = path[path.index(path[-1]) :][::-1]
    return ConflictError(
        "the declared orders of callbacks form a circle: " + " before ".join(cycle),
        do="take one of their before= or after= away",
        callbacks=", ".join(dict.fromkeys(cycle)),
    )


def _reachable(order: Sequence[Callback], earlier: Mapping[str, set[str]]) -> dict[str, set[str]]:
    reached: dict[str, set[str]] = {}
    for callback in order:
        direct = earlier[callback.name]
        reached[callback.name] = direct.union(*(reached[name] for name in direct))
    return reached


def _check_writes(order: Sequence[Callback], reached: Mapping[str, set[str]]) -> None:
    actors = [one for one in order if one.kind == "actor"]
    for position, second in enumerate(actors):
        for first in actors[:position]:
            clash = _clash(first, second)
            if clash is None or first.name in reached[second.name]:
                continue
            field, event = clash
            raise ConflictError(
                f"{first.name} and {second.name} both write {field} in {event.value} with no declared order",
                do=f"say who comes first, {_assign(second, first)} or {_assign(first, second)}, "
                "on the class or the object; or leave one of the two out",
                callbacks=f"{first.name}, {second.name}",
                field=field,
                event=event.value,
            )


def _assign(second: Callback, first: Callback) -> str:
    target = type(first).__name__ if type(first) is not type(second) else repr(first.name)
    return f"{second.name}.after = ({target},)"


def _clash(first: Callback, second: Callback) -> tuple[str, Event] | None:
    shared = set(first.events()) & set(second.events())
    for field in sorted(set(first.writes) & set(second.writes)):
        for event in FIELD_EVENTS[field]:
            if event in shared:
                return field, event
    return None


_COLUMNS: Final = ("event", "order", "callback", "kind", "reads", "writes")


@final
@dataclass(frozen=True)
class Explanation:
    """Who runs when and touches what: prints as a table in a terminal and in a notebook."""

    rows: tuple[tuple[str, ...], ...]
    """One row for each hook: event, order, callback, kind, reads, writes."""

    def __str__(self) -> str:
        table = [_COLUMNS, *self.rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(_COLUMNS))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        )

    def __rich__(self) -> Table:
        from rich.table import Table

        table = Table(*_COLUMNS)
        for row in self.rows:
            table.add_row(*row)
        return table

    def _repr_html_(self) -> str:
        lines = [
            "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"
            for tag, row in [("th", _COLUMNS), *(("td", row) for row in self.rows)]
        ]
        return "<table>" + "".join(lines) + "</table>"


def explain(plan: Plan) -> Explanation:
    """A plan as a table: event, order, callback, and what its hook reads and may write there."""
    rows: list[tuple[str, ...]] = []
    for event, listeners in plan.events.items():
        shown = listeners[::-1] if event in {Event.after_fit, Event.on_exception} else listeners
        for position, callback in enumerate(shown, start=1):
            hook = getattr(type(callback), event.value)
            reads = sorted(set(attributes(hook.__code__, "run", load=True)))
            writes = sorted(field for field in callback.writes if event in FIELD_EVENTS[field])
            rows.append((
                event.value,
                str(position),
                callback.name,
                callback.kind,
                ", ".join(reads) or "-",
                ", ".join(writes) or "-",
            ))
    return Explanation(tuple(rows))
