"""TrainState: the one object that changes while a fit runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from surefast.callbacks.contract import Request


@dataclass(slots=True)
class TrainState:
    """Everything a step or a callback may want to know, with every field declared here."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    seed: int

    n_epoch: int = 1
    """Epochs of this fit."""

    n_batch: int = 0
    """Steps of one epoch of this fit."""

    epoch: int = 0
    """Epoch of this fit, from 0."""

    first_epoch: int = 0
    """Epochs that earlier fits of the same run have trained; keys of data count from the run's start."""

    batch: int = 0
    """Step of this epoch, from 0."""

    step: int = 0
    """Step of the run, from 0, over all its fits."""

    grain: int = 0
    """Grain of this step that is being computed, from 0."""

    training: bool = False
    updating: bool = False
    """Whether a step is under way; Ctrl-C waits for its end."""

    interrupted: bool = False
    """Whether Ctrl-C was pressed during a step."""

    xb: tuple[Any, ...] = ()
    yb: tuple[Any, ...] = ()
    batch_ids: npt.NDArray[np.int64] | None = None
    """Positions in the training set of the samples of this batch."""

    pred: Any = None
    loss: torch.Tensor | None = None
    loss_value: float | None = None
    """Loss of the last finished step, a mean over its targets."""

    loss_sum: float | torch.Tensor = 0.0
    """Sum over this epoch's steps of loss times weight; on the device where the weights are."""

    loss_weight: float | torch.Tensor = 0
    """Weight in ``loss_sum``: the number of targets that counted."""

    grad_norm: float | None = None
    """L2 norm of all gradients of the last finished step, before clipping."""

    lrs: list[float] = field(default_factory=list)
    """Learning rate of each parameter group, from the input to the output of the model."""

    moms: list[float] = field(default_factory=list)
    """Momentum of each parameter group."""

    metrics: dict[str, float] = field(default_factory=dict)
    """Last row of the history: train_loss, valid_loss and the metrics by name."""

    directions: dict[str, bool | None] = field(default_factory=dict)
    """For each column with a direction, whether higher is better."""

    skip_batch: Request | None = None
    skip_step: Request | None = None
    stop: Request | None = None

    def asked_to_stop(self) -> bool:
        """Whether an actor asked to end the fit."""
        return self.stop is not None

    @property
    def lr(self) -> float:
        """Learning rate of the last group, the one nearest to the output."""
        return self.lrs[-1]

    @property
    def pct(self) -> float:
        """How far the fit has come, in [0, 1)."""
        return (self.epoch + self.batch / max(self.n_batch, 1)) / max(self.n_epoch, 1)

    def release(self) -> None:
        """Let go of the last batch and its graph, so that memory is free after a fit or an error."""
        self.xb, self.yb, self.pred, self.loss, self.batch_ids = (), (), None, None, None
