"""The policies a user chose, one of a kind, and what they come to on a device."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import nn

from surefast.callbacks.contract import Callback
from surefast.errors import ArgumentError, CallbackError, ConflictError
from surefast.train.accumulate import GradientAccumulation
from surefast.train.average import EMA
from surefast.train.clip import GradientClip
from surefast.train.compiled import ChannelsLast, Compile
from surefast.train.policy import Policy
from surefast.train.precision import LossScale, MixedPrecision, PrecisionName, autocast


@final
@dataclass(frozen=True, kw_only=True)
class Policies:
    """At most one policy of each kind."""

    mixed: MixedPrecision | None = None
    clip: GradientClip | None = None
    accumulation: GradientAccumulation | None = None
    average: EMA | None = None
    compile: Compile | None = None
    channels_last: ChannelsLast | None = None
    precision: PrecisionName = "fp32"

    @property
    def accumulate(self) -> int:
        """Loader batches a step."""
        return self.accumulation.accumulate if self.accumulation else 1

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """The context of every forward pass."""
        return autocast(self.precision, device)

    def scale(self) -> LossScale | None:
        """A fresh loss scale where float16 needs one."""
        if self.precision != "fp16":
            return None
        mixed = self.mixed or MixedPrecision("fp16")
        return LossScale(mixed.init_scale, mixed.growth_interval)

    def forward_of(self, model: nn.Module) -> Callable[..., Any]:
        """How the model is called: compiled or as it is."""
        return self.compile.forward_of(model) if self.compile else model


_FIELDS = {
    "precision": "mixed",
    "clip": "clip",
    "accumulate": "accumulation",
    "average": "average",
    "compile": "compile",
    "memory format": "channels_last",
}


def sort_out(
    cbs: Iterable[object], *, precision: str, device: torch.device
) -> tuple[Policies, list[Callback]]:
    """Take policies and callbacks apart; users hand both over in ``cbs``.

    Raises:
        ConflictError: two policies of one kind, or a precision that contradicts a policy.
        CallbackError: something that is neither.
    """
    chosen: dict[str, Policy] = {}
    callbacks: list[Callback] = []
    for cb in cbs:
        if isinstance(cb, Policy):
            _choose(chosen, cb)
        elif isinstance(cb, Callback):
            callbacks.append(cb)
        else:
            raise _not_a_callback(cb)
    name = _precision(cast("MixedPrecision | None", chosen.get("mixed")), precision, device)
    return Policies(**chosen, precision=name), callbacks  # type: ignore[arg-type]  # keyed by kind above


def _choose(chosen: dict[str, Policy], policy: Policy) -> None:
    field = _FIELDS.get(policy.kind)
    if field is None:
        raise CallbackError(
            f"the step knows no policy of the kind {policy.kind!r}",
            do=f"a policy is one of: {', '.join(_FIELDS)}",
        )
    if field in chosen:
        raise ConflictError(
            f"two policies decide the {policy.kind}: {chosen[field]!r} and {policy!r}", do="keep one of them"
        )
    chosen[field] = policy


def _not_a_callback(cb: object) -> CallbackError:
    if isinstance(cb, type):
        return CallbackError(f"cbs holds the class {cb.__name__}", do=f"make one: cbs=[{cb.__name__}()]")
    return CallbackError(
        f"cbs holds {cb!r}, which is neither a callback nor a policy",
        do="subclass surefast.Observer or surefast.Actor",
    )


def _precision(mixed: MixedPrecision | None, precision: str, device: torch.device) -> PrecisionName:
    if precision not in {"fp32", "bf16", "fp16"}:
        raise ArgumentError(f"precision={precision!r}", do='use "fp32", "bf16" or "fp16"')
    asked = cast("PrecisionName", precision)
    if mixed is None:
        return asked
    name = mixed.name_for(device)
    if asked not in {"fp32", name}:
        raise ConflictError(
            f"precision={precision!r} and MixedPrecision() disagree: here the latter means {name}",
            do="keep one of them",
        )
    return name
