"""What a hook receives: ``RunView`` to look at a run, ``RunState`` to change what was declared.

A view is made once for each callback and reads the loop's state when asked, so it costs nothing until it
is used. Plain fields are read by C code: no Python call for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from surefast.callbacks.event import Event
from surefast.callbacks.state import Request, State
from surefast.errors import CallbackError, nearest
from surefast.keys.key import make_key

_BETWEEN: Final = (
    Event.before_fit,
    Event.before_epoch,
    Event.before_train,
    Event.after_train,
    Event.before_validate,
    Event.after_validate,
    Event.after_epoch,
    Event.on_exception,
    Event.after_fit,
)

FIELD_EVENTS: Final[Mapping[str, tuple[Event, ...]]] = {
    "xb": (Event.before_batch,),
    "yb": (Event.before_batch,),
    "pred": (Event.after_pred,),
    "loss": (Event.after_loss,),
    "gradients": (Event.after_backward, Event.before_step),
    "parameters": (*_BETWEEN, Event.after_step),
    "modes": _BETWEEN,
    "requires_grad": (Event.before_fit, Event.before_epoch, Event.before_train),
    "lr": (Event.before_batch,),
    "mom": (Event.before_batch,),
    "metrics": (Event.after_train, Event.after_validate, Event.after_epoch),
}
"""What an actor may declare in ``writes``, and the events at which it may then write it.

``parameters`` covers buffers; ``modes`` the training flag of each module.
"""

REQUEST_EVENTS: Final[Mapping[str, tuple[Event, ...]]] = {
    "skip_batch": (Event.before_batch,),
    "skip_step": (
        Event.after_pred,
        Event.after_loss,
        Event.before_backward,
        Event.after_backward,
        Event.before_step,
    ),
    "stop": tuple(event for event in Event if event not in {Event.on_exception, Event.after_fit}),
}
"""What an actor may ask of the loop, and when."""

SPOKEN_FOR: Final = frozenset({"gradients", "parameters", "modes", "requires_grad"})
"""Fields that are changed in place, through ``run.model`` or ``run.gradients()``, not by assignment."""

Report = Callable[[str, dict[str, object]], None]
"""Where findings go: the kind of line and its fields."""


class Moment:
    """Where in training the hooks are; one for all views of a fit."""

    __slots__ = ("error", "event")

    def __init__(self) -> None:
        self.event = Event.before_fit
        self.error: BaseException | None = None


def _read(path: str, doc: str) -> Any:
    return property(attrgetter(path), doc=doc)


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, tuple | list):
        return type(value)(_detached(part) for part in value)
    return value


class RunView:
    """A run as an observer sees it: everything to read, nothing to change."""

    __slots__ = ("_moment", "_name", "_state")

    _moment: Moment
    _name: str
    _state: State

    epoch: int = _read("_state.epoch", "The epoch of this fit, from 0.")
    first_epoch: int = _read("_state.first_epoch", "Epochs of the run that were trained before this fit.")
    n_epoch: int = _read("_state.n_epoch", "Epochs of this fit.")
    batch: int = _read("_state.batch", "The batch in its epoch, from 0.")
    n_batch: int = _read("_state.n_batch", "Batches of the running phase.")
    step: int = _read("_state.step", "Optimizer updates of the run so far.")
    grain: int = _read("_state.grain", "The grain in its batch, from 0.")
    pct: float = _read("_state.pct", "The part of the fit that is done, 0 to 1.")
    training: bool = _read("_state.training", "False while validating.")
    xb: tuple[Any, ...] = _read(
        "_state.xb", "Inputs of the batch; changing them in place is found and named."
    )
    yb: tuple[Any, ...] = _read("_state.yb", "Targets of the batch.")
    loss_value: float | None = _read("_state.loss_value", "The last step's loss as a number, read already.")
    grad_norm: float | None = _read("_state.grad_norm", "The last step's gradient norm, where measured.")
    lr: float = _read("_state.lr", "Learning rate of the last parameter group.")
    lrs: Sequence[float] = _read("_state.lrs", "Learning rate of each parameter group.")
    moms: Sequence[float] = _read("_state.moms", "Momentum, or first beta, of each parameter group.")
    error: BaseException | None = _read("_moment.error", "What was raised, in ``on_exception``.")
    event: Event = _read("_moment.event", "The running event.")

    def __init__(self, name: str, state: State, moment: Moment) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_state", state)
        object.__setattr__(self, "_moment", moment)

    @property
    def pred(self) -> Any:
        """The model's output, without its graph."""
        return _detached(self._state.pred)

    @property
    def loss(self) -> Tensor | None:
        """The loss as a scalar tensor, without its graph."""
        loss = self._state.loss
        return None if loss is None else loss.detach()

    @property
    def metrics(self) -> Mapping[str, float]:
        """The latest row by name: ``train_loss``, ``valid_loss``, each metric, ``seconds``."""
        return MappingProxyType(self._state.metrics)

    @property
    def directions(self) -> Mapping[str, bool | None]:
        """For each monitored number, whether higher is better; None where neither is."""
        return MappingProxyType(dict(self._state.directions))

    @property
    def batch_ids(self) -> npt.NDArray[np.int64] | None:
        """Positions of the batch's samples in their data set, read-only, shape (B,); None between batches."""
        if self._state.batch_ids is None:
            return None
        ids = self._state.batch_ids.view()
        ids.flags.writeable = False
        return ids

    batch_skipped: Request | None = _read("_state.skip_batch", "Who asked to leave this batch out, or None.")

    @property
    def skipped(self) -> Request | None:
        """Who asked to leave this batch or its step out, and why; None where nobody did."""
        return self._state.skip_batch or self._state.skip_step

    @property
    def stopped(self) -> Request | None:
        """Who asked to end the fit, and why; None where nobody did."""
        return self._state.stop

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Name and detached value of every parameter."""
        for name, parameter in self._state.model.named_parameters():
            yield name, parameter.detach()

    def __setattr__(self, field: str, value: object) -> NoReturn:
        event = self._moment.event.value
        if field in FIELD_EVENTS and field not in SPOKEN_FOR:
            do = f"make it an Actor: class {self._name}(Actor) with writes = {{{field!r}}}"
        else:
            do = "keep it on the callback itself: self." + field
        raise CallbackError(
            f"observer {self._name} set run.{field} in {event}; an observer only looks",
            do=do,
            callback=self._name,
            event=event,
            field=field,
        )

    def __delattr__(self, field: str) -> NoReturn:
        self.__setattr__(field, None)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self._name}, epoch={self.epoch}, batch={self.batch}, step={self.step})"
        )


class RunState(RunView):
    """A run as an actor sees it: what it declared in ``writes`` can be assigned, at the right events."""

    __slots__ = ("_report", "_writes")

    _report: Report
    _writes: frozenset[str]

    model: nn.Module = _read("_state.model", "The model; changing what is not declared is found and raised.")
    optimizer: torch.optim.Optimizer = _read("_state.optimizer", "The optimizer.")
    seed: int = _read("_state.seed", "The run's seed; draw from ``key()``, not from this.")
    pred: Any = _read("_state.pred", "The model's output with its graph.")
    loss: Tensor | None = _read("_state.loss", "The loss with its graph.")

    def __init__(
        self, name: str, state: State, moment: Moment, *, writes: frozenset[str], report: Report
    ) -> None:
        super().__init__(name, state, moment)
        object.__setattr__(self, "_writes", writes)
        object.__setattr__(self, "_report", report)

    @property
    def mom(self) -> float:
        """Momentum, or first beta, of the last parameter group."""
        return self._state.moms[-1]

    def gradients(self) -> Iterator[tuple[str, Tensor]]:
        """Name and gradient of every parameter that has one; to be changed in place where declared."""
        self._check("gradients")
        for name, parameter in self._state.model.named_parameters():
            if parameter.grad is not None:
                yield name, parameter.grad

    def key(self, name: str = "") -> int:
        """A key for random draws that depends only on seed, callback, step and grain.

        Args:
            name: separates several draws of one callback in one step.
        """
        domain = f"user:{self._name}.{name}" if name else f"user:{self._name}"
        return make_key(self._state.seed, domain, self._state.step, self._state.grain)

    def skip_batch(self, why: str) -> None:
        """Leave this batch out: no forward, no step. Recorded with your name and reason."""
        self._state.skip_batch = self._request("skip_batch", why, self._state.skip_batch)

    def skip_step(self, why: str) -> None:
        """Drop this batch's gradients instead of stepping. Recorded with your name and reason."""
        self._state.skip_step = self._request("skip_step", why, self._state.skip_step)

    def stop(self, why: str) -> None:
        """End the fit in good order, with teardown and the last checkpoint. Recorded with name and reason."""
        self._state.stop = self._request("stop", why, self._state.stop)

    def _request(self, action: str, why: str, earlier: Request | None) -> Request:
        event = self._moment.event
        allowed = REQUEST_EVENTS[action]
        if event not in allowed:
            raise CallbackError(
                f"{self._name} called run.{action}() in {event.value}, where it has no meaning",
                do="call it in " + " or ".join(one.value for one in allowed),
                callback=self._name,
                event=event.value,
            )
        if not isinstance(why, str) or not why.strip():
            raise CallbackError(
                f"{self._name} called run.{action}({why!r}) without a reason",
                do=f'say why, for the record: run.{action}("the reader of the log will ask")',
                callback=self._name,
                event=event.value,
            )
        request = Request(self._name, why, event, self._state.step)
        line = {"action": action, "callback": self._name, "why": why, "event": event.value}
        self._report("callback_request", {**line, "step": request.step})
        return earlier or request  # who asked first is who did it; the log has all

    def _check(self, field: str) -> None:
        event = self._moment.event
        place = {"callback": self._name, "event": event.value, "field": field}
        if field not in FIELD_EVENTS:
            close = nearest(field, FIELD_EVENTS)
            hint = f"write run.{close}" if close else "actors write: " + ", ".join(FIELD_EVENTS)
            raise CallbackError(f"{self._name} set run.{field}, which no callback writes", do=hint, **place)
        if field not in self._writes:
            now = ", ".join(repr(one) for one in sorted({*self._writes, field}))
            raise CallbackError(
                f"{self._name} wrote {field} in {event.value} without declaring it",
                do=f"declare it: writes = {{{now}}}",
                **place,
            )
        if event not in FIELD_EVENTS[field]:
            raise CallbackError(
                f"{self._name} wrote {field} in {event.value}, where that changes nothing or too much",
                do="write it in " + " or ".join(one.value for one in FIELD_EVENTS[field]),
                **place,
            )

    def __setattr__(self, field: str, value: Any) -> None:  # type: ignore[override]  # the one that may write
        self._check(field)
        if field in SPOKEN_FOR:
            raise CallbackError(
                f"{self._name} assigned run.{field}; this is changed in place",
                do="for name, gradient in run.gradients(): ..." if field == "gradients" else "use run.model",
                callback=self._name,
                event=self._moment.event.value,
                field=field,
            )
        _WRITERS[field](self._state, value)


def _write_xb(state: State, value: Any) -> None:
    state.xb = _as_tuple("xb", value)


def _write_yb(state: State, value: Any) -> None:
    state.yb = _as_tuple("yb", value)


def _as_tuple(field: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, tuple | list):
        raise CallbackError(
            f"run.{field} is a tuple of tensors, not a {type(value).__name__}", do=f"run.{field} = (value,)"
        )
    return tuple(value)


def _write_pred(state: State, value: Any) -> None:
    state.pred = value


def _write_loss(state: State, value: Any) -> None:
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise CallbackError("run.loss is a tensor with one number", do="run.loss = run.loss + penalty.mean()")
    state.loss = value


def _write_lr(state: State, value: Any) -> None:
    state.lrs = _per_group("lr", value, len(state.lrs))
    for position, group in enumerate(state.optimizer.param_groups):
        group["lr"] = state.lrs[group.get("group", position)]


def _write_mom(state: State, value: Any) -> None:
    moms = _per_group("mom", value, len(state.lrs))
    for position, group in enumerate(state.optimizer.param_groups):
        mom = moms[group.get("group", position)]
        if "betas" in group:
            group["betas"] = (mom, *group["betas"][1:])
        elif "momentum" in group:
            group["momentum"] = mom
        else:
            raise CallbackError(
                f"run.mom was set, but {type(state.optimizer).__name__} has no momentum",
                do="choose an optimizer with momentum, or leave run.mom alone",
            )
    state.moms = moms


def _per_group(field: str, value: Any, count: int) -> list[float]:
    # The groups of a model, not the optimizer's: that one may split each in two, with and without weight
    # decay, and notes under "group" which is which.
    values = [float(one) for one in value] if isinstance(value, tuple | list) else [float(value)] * count
    if len(values) != count:
        raise CallbackError(
            f"run.{field} got {len(values)} values for {count} parameter groups",
            do=f"give one number, or {count} of them",
        )
    return values


def _write_metrics(state: State, value: Any) -> None:
    state.metrics = {str(name): float(number) for name, number in dict(value).items()}


_WRITERS: Final[Mapping[str, Callable[[State, Any], None]]] = {
    "xb": _write_xb,
    "yb": _write_yb,
    "pred": _write_pred,
    "loss": _write_loss,
    "lr": _write_lr,
    "mom": _write_mom,
    "metrics": _write_metrics,
}

VIEW_NAMES: Final = frozenset(name for name in dir(RunView) if not name.startswith("_"))
"""What an observer finds on ``run``."""

STATE_NAMES: Final = frozenset(name for name in dir(RunState) if not name.startswith("_")) | frozenset(
    _WRITERS
)
"""What an actor finds on ``run``."""
