"""In which numbers forward and backward are computed, and how small gradients survive float16."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal, TypeAlias, final

import torch

from surefast.errors import ArgumentError
from surefast.recipe.call import declared
from surefast.train.policy import Policy

PrecisionName: TypeAlias = Literal["fp32", "bf16", "fp16"]
_SMALLEST_SCALE = 1e-4
_DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


@final
@declared()
class MixedPrecision(Policy):
    """Autocast to float16 with loss scaling on CUDA, to bfloat16 elsewhere.

    Args:
        precision: ``"fp16"`` or ``"bf16"``; by default chosen by the device, and shown as ``inferred``.
        init_scale: first factor of the float16 loss.
        growth_interval: finite steps before the factor is doubled; it is halved at every overflow.
    """

    kind: ClassVar[str] = "precision"

    def __init__(
        self,
        precision: Literal["fp16", "bf16"] | None = None,
        *,
        init_scale: float = 2.0**16,
        growth_interval: int = 2000,
    ) -> None:
        if precision not in {None, "fp16", "bf16"}:
            raise ArgumentError(f"MixedPrecision(precision={precision!r})", do='use "fp16" or "bf16"')
        self.precision = precision
        self.init_scale = init_scale
        self.growth_interval = growth_interval

    def name_for(self, device: torch.device) -> PrecisionName:
        """The precision on this device."""
        return self.precision or ("fp16" if device.type == "cuda" else "bf16")


@final
class LossScale:
    """The factor that keeps small float16 gradients from vanishing.

    Halved when a step overflows, which skips that step, and doubled after ``growth_interval`` finite ones
    (Micikevicius et al.: Mixed Precision Training, arXiv 1710.03740).
    """

    def __init__(self, scale: float = 2.0**16, growth_interval: int = 2000) -> None:
        self.scale = scale
        self.growth_interval = growth_interval
        self.good_steps = 0

    @property
    def exhausted(self) -> bool:
        """Whether the factor is so small that it no longer explains an overflow; fairseq stops there too."""
        return self.scale < _SMALLEST_SCALE

    def update(self, *, finite: bool) -> None:
        """Learn from one step whether its gradients were finite."""
        if not finite:
            self.scale, self.good_steps = self.scale / 2, 0
            return
        self.good_steps += 1
        if self.good_steps == self.growth_interval:
            self.scale, self.good_steps = self.scale * 2, 0


def autocast(name: PrecisionName, device: torch.device) -> AbstractContextManager[Any]:
    """The context in which the forward pass runs; it may be entered again and again."""
    if name == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=_DTYPES[name])
