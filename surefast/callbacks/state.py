"""What the loop must offer so that callbacks can look at it: a Protocol, and requests to the loop.

This file must know nothing of the loop itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from surefast.callbacks.event import Event


@dataclass(frozen=True, slots=True)
class Request:
    """What an actor asked of the loop: who, why and when."""

    who: str
    """The name of the callback."""

    why: str
    """Its reason, in words."""

    event: Event
    """The moment at which it asked."""

    step: int
    """The step of the run at which it asked."""


class State(Protocol):
    """The loop's state as callbacks see it; views read these attributes at the moment they are asked."""

    xb: tuple[Any, ...]
    """Inputs of the batch or grain, on the device."""

    yb: tuple[Any, ...]
    """Its targets."""

    pred: Any
    """Output of the model, or None before there is one."""

    loss: Tensor | None
    """The loss with its graph, or None before there is one."""

    metrics: dict[str, float]
    """The latest row: ``train_loss``, ``valid_loss``, each metric, ``seconds``."""

    lrs: list[float]
    """Learning rate of each parameter group, as the optimizer will use it."""

    moms: list[float]
    """Momentum, or the first beta, of each parameter group."""

    skip_batch: Request | None
    """Set: the loop leaves this batch out. The loop clears it after ``after_batch``."""

    skip_step: Request | None
    """Set: the loop drops the gradients instead of stepping. Cleared after ``after_batch``."""

    stop: Request | None
    """Set: the loop ends the fit after the running batch or epoch."""

    @property
    def epoch(self) -> int:
        """The epoch of this fit, from 0."""

    @property
    def first_epoch(self) -> int:
        """Epochs of the run that were trained before this fit."""

    @property
    def n_epoch(self) -> int:
        """Epochs of this fit."""

    @property
    def batch(self) -> int:
        """The batch in its epoch, from 0."""

    @property
    def n_batch(self) -> int:
        """Steps of one epoch of this fit."""

    @property
    def step(self) -> int:
        """Steps of the run so far, over all its fits; a step that was skipped counts."""

    @property
    def grain(self) -> int:
        """The grain in its batch, from 0."""

    @property
    def pct(self) -> float:
        """The part of the fit that is done, 0 to 1."""

    @property
    def training(self) -> bool:
        """False while validating."""

    @property
    def seed(self) -> int:
        """The run's seed."""

    @property
    def loss_value(self) -> float | None:
        """The loss of the last step as it was read once for the finiteness check."""

    @property
    def grad_norm(self) -> float | None:
        """The gradients' norm of the last step, where it was measured."""

    @property
    def lr(self) -> float:
        """Learning rate of the last parameter group."""

    @property
    def directions(self) -> Mapping[str, bool | None]:
        """For each monitored number, whether higher is better; None where neither is."""

    @property
    def batch_ids(self) -> npt.NDArray[np.int64] | None:
        """Positions of the batch's samples in their data set; None between batches."""

    @property
    def model(self) -> nn.Module:
        """The model that is trained."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer that updates it."""
