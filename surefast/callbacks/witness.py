"""Cheap witnesses of what a hook changed that it had not declared.

Before and after the hooks of an event the witness notes version counters, flags and modes, and compares.
Version counters do not see ``p.data.add_()`` or writes through numpy: those are found by the digests of
the receipt, a step later. This file must know nothing of callbacks.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any, Final

import torch
from torch import Tensor

from surefast.callbacks.event import PER_BATCH, Event
from surefast.callbacks.state import State
from surefast.keys.settings import read_flags, write_flags

_GRADIENT_EVENTS: Final = frozenset({Event.after_backward, Event.before_step})
_BATCH_EVENTS: Final = PER_BATCH - {Event.before_step, Event.after_step, Event.after_batch}
# Later the batch has been used up.

_version = attrgetter("_version")
_requires_grad = attrgetter("requires_grad")

_SIGNALS: Final = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if name in signal.Signals.__members__
)


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was changed while only hooks ran."""

    field: str
    """A name of ``FIELD_EVENTS``, or a setting of the process such as ``grad mode``."""

    what: str
    """The change in words."""

    restored: bool
    """Whether the witness has put it back."""


class Witness:
    """Takes note before hooks run, and says afterwards what is not as it was.

    Args:
        state: the loop's state; its model is walked at construction and at each event between batches.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._seen: tuple[Any, ...] = ()
        self._closely = False
        self._walk()
        self.note_process()

    def _walk(self) -> None:
        named: dict[str, Tensor] = dict(self._state.model.named_parameters())
        self._parameters = tuple(named.values())
        named.update(self._state.model.named_buffers())
        self._names, self._tensors = tuple(named), tuple(named.values())
        modules = dict(self._state.model.named_modules())
        self._module_names, self._modules = tuple(modules), tuple(modules.values())
        # Asking a module for an attribute costs three times as much as asking its dict. Scripted modules
        # keep the flag elsewhere.
        plain = all("training" in vars(module) for module in self._modules)
        self._flag_holders: tuple[Any, ...] = tuple(map(vars, self._modules)) if plain else self._modules
        self._flag: Callable[[Any], Any] = itemgetter("training") if plain else attrgetter("training")

    def begin(self, event: Event) -> list[Change] | None:
        """Note how things are before the hooks of an event; what the process has changed since the last look.

        Working directory, signal handlers and the rarer flags are looked at between batches only, until
        once something is found: from then on at every event, so that a second time has one name.
        """
        found: list[Change] = []
        if event not in PER_BATCH:
            self._walk()  # an actor or the loop may have exchanged modules since
            found = list(self._process_changes())
            self._closely = self._closely or bool(found)
        self._seen = self._look(event)
        return found or None

    def end(self, event: Event, declared: frozenset[str]) -> list[Change] | None:
        """What changed since the last ``begin`` or ``end`` and was not declared; None for nothing.

        What can be put back has been.
        """
        before, after = self._seen, self._look(event)
        changes: list[Change] = []
        if before != after:
            changes = [
                *self._contents(before, after),
                *self._modes(before, after, declared),
                *_flags(before, after),
            ]
            after = self._look(event)
        self._seen = after
        if self._closely or event not in PER_BATCH:
            changes += self._process_changes()
        return [change for change in changes if change.field not in declared] or None

    def note_process(self) -> None:
        """Take the working directory, signal handlers and flags of this moment as the right ones."""
        self._cwd = os.getcwd()
        self._signals = [signal.getsignal(number) for number in _SIGNALS]
        self._settings = read_flags()

    def _look(self, event: Event) -> tuple[Any, ...]:
        # Comparing two of these is one C call; about 30 ns for each tensor and module.
        return (
            list(map(_version, self._tensors)),
            self._gradients() if event in _GRADIENT_EVENTS else None,
            self._batch() if event in _BATCH_EVENTS else None,
            list(map(self._flag, self._flag_holders)),
            list(map(_requires_grad, self._parameters)),
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
        )

    def _gradients(self) -> list[tuple[int, int]]:
        grads = [parameter.grad for parameter in self._parameters]
        return [(id(grad), 0 if grad is None else grad._version) for grad in grads]

    def _batch(self) -> list[int]:
        state = self._state
        parts = (*state.xb, *state.yb, state.pred, state.loss)
        # Tensors made under inference mode keep no version; nothing is learned from those.
        return [part._version for part in parts if isinstance(part, Tensor) and not part.is_inference()]

    def _contents(self, before: tuple[Any, ...], after: tuple[Any, ...]) -> Iterator[Change]:
        changed = [
            name for name, one, two in zip(self._names, before[0], after[0], strict=True) if one != two
        ]
        if changed:
            yield Change("parameters", f"changed in place: {_listed(changed)}", restored=False)
        if before[1] != after[1]:
            yield Change("gradients", "gradients were replaced or changed in place", restored=False)
        if before[2] != after[2]:
            yield Change("batch", "xb, yb, pred or loss was changed in place", restored=False)

    def _modes(
        self, before: tuple[Any, ...], after: tuple[Any, ...], declared: frozenset[str]
    ) -> Iterator[Change]:
        pairs = zip(self._modules, self._module_names, before[3], after[3], strict=True)
        turned = [(module, name, was) for module, name, was, now in pairs if was != now]
        if turned and "modes" not in declared:
            for module, _, was in turned:
                module.training = was
            yield Change(
                "modes", f"training flag of {_listed([name or 'the model' for _, name, _ in turned])}", True
            )
        asked = zip(self._parameters, self._names, before[4], after[4], strict=False)  # parameters come first
        frozen = [(parameter, name, was) for parameter, name, was, now in asked if was != now]
        if frozen and "requires_grad" not in declared:
            for parameter, _, was in frozen:
                parameter.requires_grad_(was)
            yield Change(
                "requires_grad", f"requires_grad of {_listed([name for _, name, _ in frozen])}", True
            )

    def _process_changes(self) -> Iterator[Change]:
        """Settings that are looked at between batches only, against those at the start of the fit."""
        here = os.getcwd()
        if here != self._cwd:
            os.chdir(self._cwd)
            yield Change("working directory", f"from {self._cwd} to {here}", True)
        main = threading.current_thread() is threading.main_thread()
        for number, handler in zip(_SIGNALS, self._signals, strict=True):
            if signal.getsignal(number) is not handler:
                back = main and handler is not None  # None: set by C code, which Python cannot put back
                if back:
                    signal.signal(number, handler)
                yield Change("signal handler", f"of {number.name}", back)
        settings = read_flags()
        if settings != self._settings:
            write_flags(self._settings)
            yield Change("determinism flags", f"from {self._settings} to {settings}", True)


def _flags(before: tuple[Any, ...], after: tuple[Any, ...]) -> Iterator[Change]:
    if before[5] != after[5]:
        torch.set_grad_enabled(before[5])
        yield Change("grad mode", f"from {before[5]} to {after[5]}", True)
    if before[6] != after[6]:
        torch.set_default_dtype(before[6])
        yield Change("default dtype", f"from {before[6]} to {after[6]}", True)
    if before[7] != after[7]:
        torch.set_num_threads(before[7])
        yield Change("threads", f"from {before[7]} to {after[7]}", True)
    if before[8] != after[8]:
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        torch.use_deterministic_algorithms(before[8], warn_only=warn_only)
        yield Change("determinism flags", f"deterministic algorithms from {before[8]} to {after[8]}", True)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
