"""The moments of training, drawn as the loop that fires them.

This file must know nothing of callbacks or training: it is the vocabulary of both.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Final, final


@final
class Event(enum.Enum):
    """A moment of a fit; a callback listens by defining a method of that name.

    ::

        before_fit
        for each epoch:
            before_epoch
            before_train
            for each batch:
                before_batch
                for each grain:
                    after_pred
                    after_loss
                    before_backward
                after_backward
                before_step
                after_step
                after_batch
            after_train
            before_validate
            after_validate
            after_epoch
        after_fit

    ``on_exception`` comes just before ``after_fit`` when something was raised. ``after_fit`` always comes,
    last in first out, for every callback whose ``before_fit`` went well. Validation and prediction fire no
    batch events: what listens to ``before_batch`` listens to training.
    """

    before_fit = "before_fit"
    before_epoch = "before_epoch"
    before_train = "before_train"
    before_batch = "before_batch"
    after_pred = "after_pred"
    after_loss = "after_loss"
    before_backward = "before_backward"
    after_backward = "after_backward"
    before_step = "before_step"
    after_step = "after_step"
    after_batch = "after_batch"
    after_train = "after_train"
    before_validate = "before_validate"
    after_validate = "after_validate"
    after_epoch = "after_epoch"
    on_exception = "on_exception"
    after_fit = "after_fit"

    # Enum's own hash is a Python function that hashes the name: a call for every look-up of the hot path.
    __hash__ = object.__hash__


EVENT_NAMES: Final = frozenset(event.value for event in Event)
"""The names a hook may have."""

PER_BATCH: Final = frozenset({
    Event.before_batch,
    Event.after_pred,
    Event.after_loss,
    Event.before_backward,
    Event.after_backward,
    Event.before_step,
    Event.after_step,
    Event.after_batch,
})
"""The events that come once a batch or more often, where every microsecond counts."""


def drawn_events(*, epoch: int, batch: int, grain: int = 1) -> list[Event]:
    """The events of a fit as the drawing of ``Event`` has them, for so many turns of each loop.

    A test holds a real fit against this, so the drawing cannot grow old.

    Args:
        epoch: number of epochs.
        batch: number of training batches in an epoch.
        grain: number of grains in a batch.
    """
    return list(_expand(_drawing(), {"epoch": epoch, "batch": batch, "grain": grain}))


def _drawing() -> list[tuple[int, str]]:
    block = (Event.__doc__ or "").partition("::")[2].partition("``on_exception``")[0]
    lines = [line for line in block.splitlines() if line.strip()]
    return [(len(line) - len(line.lstrip()), line.strip()) for line in lines]


def _expand(lines: list[tuple[int, str]], turns: Mapping[str, int]) -> Iterator[Event]:
    position = 0
    while position < len(lines):
        depth, text = lines[position]
        position += 1
        if not text.startswith("for each"):
            yield Event(text)
            continue
        end = position
        while end < len(lines) and lines[end][0] > depth:
            end += 1
        for _ in range(turns[text.removeprefix("for each ").rstrip(":")]):
            yield from _expand(lines[position:end], turns)
        position = end
