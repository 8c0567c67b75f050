"""The checks of a callback class at the moment it is defined, and the rewritten hook that an error prints.

Reads signatures and bytecode; runs nothing of the class. This file must know nothing of dispatching.
"""

from __future__ import annotations

import difflib
import dis
import inspect
import re
import textwrap
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any, Final

from surefast.callbacks.event import EVENT_NAMES
from surefast.callbacks.view import FIELD_EVENTS, SPOKEN_FOR, STATE_NAMES, VIEW_NAMES
from surefast.errors import CallbackError, nearest

FOREIGN_HOOKS: Final = {
    # Lightning
    "on_fit_start": "before_fit",
    "on_fit_end": "after_fit",
    "on_train_start": "before_fit",
    "on_train_end": "after_fit",
    "on_train_epoch_start": "before_train",
    "on_train_epoch_end": "after_train",
    "on_train_batch_start": "before_batch",
    "on_train_batch_end": "after_batch",
    "on_validation_start": "before_validate",
    "on_validation_end": "after_validate",
    "on_validation_epoch_start": "before_validate",
    "on_validation_epoch_end": "after_validate",
    "on_validation_batch_start": "before_batch",
    "on_validation_batch_end": "after_batch",
    "on_before_backward": "before_backward",
    "on_after_backward": "after_backward",
    "on_before_optimizer_step": "before_step",
    "on_before_zero_grad": "after_step",
    # Keras, Hugging Face, fastai version 1
    "on_train_begin": "before_fit",
    "on_epoch_begin": "before_epoch",
    "on_epoch_start": "before_epoch",
    "on_epoch_end": "after_epoch",
    "on_batch_begin": "before_batch",
    "on_batch_start": "before_batch",
    "on_batch_end": "after_batch",
    "on_step_begin": "before_batch",
    "on_step_end": "after_step",
    "on_test_begin": "before_validate",
    "on_test_end": "after_validate",
    "on_evaluate": "after_validate",
    "on_loss_begin": "after_pred",
    "on_backward_begin": "after_loss",
    "on_backward_end": "after_backward",
    # fastai
    "begin_fit": "before_fit",
    "begin_epoch": "before_epoch",
    "begin_train": "before_train",
    "begin_batch": "before_batch",
    "begin_validate": "before_validate",
    "after_create": "before_fit",
    "after_cancel_batch": "after_batch",
    "after_cancel_backward": "after_batch",
    "after_cancel_step": "after_batch",
    "after_cancel_train": "after_train",
    "after_cancel_validate": "after_validate",
    "after_cancel_epoch": "after_epoch",
    "after_cancel_fit": "after_fit",
}
"""Hooks of other libraries, and the event that comes at the same moment here."""

CANCELS: Final = {
    "CancelFitException": "run.stop",
    "CancelEpochException": "run.stop",
    "CancelTrainException": "run.stop",
    "CancelValidException": "run.stop",
    "CancelBatchException": "run.skip_batch",
    "CancelBackwardException": "run.skip_step",
    "CancelStepException": "run.skip_step",
}
"""fastai's control flow by exception, and the request that replaces each."""

_RENAMED: Final = {
    "iter": "batch",
    "n_iter": "n_batch",
    "train_iter": "step",
    "pct_train": "pct",
    "loss_grad": "loss",
    "smooth_loss": "loss_value",
    "opt": "optimizer",
    "x": "xb[0]",
    "y": "yb[0]",
}

_FASTAI_ORDER: Final = {
    "order": "after = (Other,)",
    "run_after": "after = (Other,)",
    "run_before": "before = (Other,)",
}


def check_class(cls: type, kind: str | None) -> None:
    """Raise for what would never work, or would work in silence otherwise than meant.

    Args:
        cls: the class that was just defined.
        kind: ``observer``, ``actor``, or None for a subclass of the bare ``Callback``.
    """
    members = dict(vars(cls))
    _check_order(cls, members)
    _check_writes(cls, members, kind)
    functions = {name: made for name, made in members.items() if isinstance(made, FunctionType)}
    for name, function in functions.items():
        _check_name(cls, name)
        if name in EVENT_NAMES:
            _check_kind(cls, name, kind)
            _check_signature(cls, function)
        _check_fastai(cls, function)
        if name in EVENT_NAMES:
            _check_run(cls, function, kind)


def _check_order(cls: type, members: dict[str, Any]) -> None:
    for name, instead in _FASTAI_ORDER.items():
        if name in members and not callable(members[name]):
            raise CallbackError(
                f"{cls.__name__}.{name} is fastai's and orders nothing here",
                do=f"say which callback it follows or precedes: {instead}",
                callback=cls.__name__,
            )


def _check_writes(cls: type, members: dict[str, Any], kind: str | None) -> None:
    writes = members.get("writes", frozenset())
    if isinstance(writes, str) or not isinstance(writes, set | frozenset | tuple | list):
        raise CallbackError(
            f"{cls.__name__}.writes is {writes!r}, not a set of names",
            do=f"writes = {{{writes!r}}}" if isinstance(writes, str) else 'writes = {"loss"}',
            callback=cls.__name__,
        )
    if writes and kind != "actor":
        raise CallbackError(
            f"{cls.__name__} declares writes, but it is no Actor",
            do=f"class {cls.__name__}(Actor)",
            callback=cls.__name__,
        )
    for field in sorted(map(str, writes)):
        if field not in FIELD_EVENTS:
            close = nearest(field, FIELD_EVENTS)
            raise CallbackError(
                f"{cls.__name__} declares that it writes {field!r}, which no callback can write",
                do=f"write {close!r}" if close else "use some of: " + ", ".join(FIELD_EVENTS),
                callback=cls.__name__,
            )


def _check_name(cls: type, name: str) -> None:
    if name.startswith("_") or name in EVENT_NAMES:
        return
    event = FOREIGN_HOOKS.get(name)
    if event is None:
        reserved = name.startswith(("before_", "after_", "on_"))
        event = nearest(name, EVENT_NAMES) if reserved else _near_miss(name)
        if event is None and not reserved:
            return
    raise CallbackError(
        f"{cls.__name__}.{name} is no event, so it would never run",
        do=f"def {event}(self, run)" if event else "use one of: " + ", ".join(sorted(EVENT_NAMES)),
        callback=cls.__name__,
        note=None if event else "names that begin with before_, after_ or on_ are kept for events",
    )


def _near_miss(name: str) -> str | None:
    # Only what is nearly an event's name: `afterbatch`, `befor_fit`. A user's `batch_loss` is their own.
    matches = difflib.get_close_matches(name, sorted(EVENT_NAMES), n=1, cutoff=0.88)
    return matches[0] if matches else None


def _check_kind(cls: type, name: str, kind: str | None) -> None:
    if kind is None:
        raise CallbackError(
            f"{cls.__name__} listens to {name} but does not say whether it watches or changes training",
            do=f"class {cls.__name__}(Observer) if it only looks; class {cls.__name__}(Actor) with "
            "writes = {...} if it changes something or asks to stop",
            callback=cls.__name__,
        )


def _check_signature(cls: type, function: FunctionType) -> None:
    name = function.__name__
    parameters = list(inspect.signature(function).parameters.values())
    required = [
        p
        for p in parameters
        if p.default is p.empty and p.kind in {p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY}
    ]
    if len(required) != 2 or parameters[1].name != "run":
        raise CallbackError(
            f"{cls.__name__}.{name}{inspect.signature(function)} does not take the run",
            do=f"a hook is def {name}(self, run):\n{rewritten(function)}",
            callback=cls.__name__,
            event=name,
        )
    if function.__code__.co_flags & (
        inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
    ):
        raise CallbackError(
            f"{cls.__name__}.{name} is a generator or async, so calling it would run nothing",
            do=f"make it a plain def {name}(self, run)",
            callback=cls.__name__,
            event=name,
        )


def _check_fastai(cls: type, function: FunctionType) -> None:
    if "learn" in set(attributes(function.__code__, "self", load=True)):
        raise CallbackError(
            f"{cls.__name__}.{function.__name__} uses self.learn; a callback has no learner",
            do=f"read from run instead:\n{rewritten(function)}",
            callback=cls.__name__,
        )
    for code in _codes(function.__code__):
        cancels = [name for name in code.co_names if name in CANCELS]
        if cancels:
            raise CallbackError(
                f"{cls.__name__}.{function.__name__} raises {cancels[0]}; here one asks",
                do=f"an Actor calls {CANCELS[cancels[0]]}(why):\n{rewritten(function)}",
                callback=cls.__name__,
            )


def _check_run(cls: type, function: FunctionType, kind: str | None) -> None:
    known = STATE_NAMES if kind == "actor" else VIEW_NAMES
    for field in attributes(function.__code__, "run", load=True):
        if field in known:
            continue
        if field in STATE_NAMES:
            do = f"class {cls.__name__}(Actor); an observer only looks"
        elif field in _RENAMED:
            do = f"write run.{_RENAMED[field]}"
        else:
            close = nearest(field, known)
            do = f"write run.{close}" if close else "run has: " + ", ".join(sorted(known))
        raise CallbackError(
            f"{cls.__name__}.{function.__name__} reads run.{field}, which is not there",
            do=do,
            callback=cls.__name__,
            event=function.__name__,
            field=field,
        )
    if kind == "observer":
        for field in attributes(function.__code__, "run", load=False):
            raise CallbackError(
                f"observer {cls.__name__} sets run.{field} in {function.__name__}; an observer only looks",
                do=f"make it an Actor: class {cls.__name__}(Actor) with writes = {{{field!r}}}"
                if field in FIELD_EVENTS and field not in SPOKEN_FOR
                else f"keep it on the callback itself: self.{field}",
                callback=cls.__name__,
                event=function.__name__,
                field=field,
            )


def attributes(code: CodeType, variable: str, *, load: bool) -> Iterator[str]:
    """Names of the attributes that code loads from, or stores to, a variable called ``variable``.

    Sees ``run.loss``, not what is reached through another name for the same object.
    """
    wanted = {"LOAD_ATTR", "LOAD_METHOD"} if load else {"STORE_ATTR"}
    for inner in _codes(code):
        before: dis.Instruction | None = None
        for instruction in dis.get_instructions(inner):
            if instruction.opname in wanted and before is not None and _loads(before, variable):
                yield str(instruction.argval)
            if instruction.opname not in {"CACHE", "EXTENDED_ARG"}:
                before = instruction


def _loads(instruction: dis.Instruction, variable: str) -> bool:
    if not instruction.opname.startswith(("LOAD_FAST", "LOAD_DEREF", "STORE_FAST_LOAD_FAST")):
        return False
    loaded = instruction.argval
    # Newer versions join two loads into one instruction; the second is what the attribute is taken from.
    return bool((loaded[-1] if isinstance(loaded, tuple) else loaded) == variable)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def rewritten(function: FunctionType) -> str:
    """A hook's source as it would be written here, indented for an error message."""
    name = function.__name__
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):  # typed into a prompt: the source is gone
        return f"      def {name}(self, run):\n          ..."
    if name in EVENT_NAMES:
        source = re.sub(rf"def {name}\(\s*self\s*[^)]*\)", f"def {name}(self, run)", source, count=1)
    cancels = "|".join(CANCELS)
    source = re.sub(
        rf"raise\s+(?:\w+\.)*({cancels})(?:\(\s*\))?", lambda found: f'{CANCELS[found[1]]}("why")', source
    )
    source = re.sub(r"\bself\.learn\.(\w+)", lambda found: f"run.{_RENAMED.get(found[1], found[1])}", source)
    known = "|".join(sorted({*STATE_NAMES, *_RENAMED} - {"parameters", "seed", "key"}, key=len, reverse=True))
    if name in EVENT_NAMES:  # fastai reaches these through self; here they are the run's
        source = re.sub(
            rf"\bself\.({known})\b(?!\s*=[^=])(?!\()",
            lambda found: f"run.{_RENAMED.get(found[1], found[1])}",
            source,
        )
    return textwrap.indent(source.rstrip(), "      ")
