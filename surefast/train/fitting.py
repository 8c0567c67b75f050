"""Put together what the loop needs, from what a Learner holds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from surefast.callbacks.dispatch import Dispatch
from surefast.callbacks.event import Event
from surefast.data.dataloaders import AnyLoader
from surefast.task.loss import Loss
from surefast.task.metric import Metric
from surefast.train.grains import Buffers
from surefast.train.optimizer import frozen_norms_eval, momenta
from surefast.train.parts import checked_epochs
from surefast.train.policies import Policies
from surefast.train.predict import Evaluator
from surefast.train.schedule import Curve
from surefast.train.scheduler import Scheduler
from surefast.train.state import TrainState
from surefast.train.step import Step

FitArguments: TypeAlias = tuple[TrainState, Step, AnyLoader, Callable[[TrainState], None], Dispatch]
"""What ``train/loop.py`` takes, in its order."""


@final
@dataclass(frozen=True, kw_only=True)
class Training:
    """A model with everything that decides how it is trained and evaluated."""

    model: nn.Module
    groups: list[list[nn.Parameter]]
    """Parameters from input to output, each group with its own learning rate."""

    frozen: int
    """How many of the first groups do not train."""

    loss: Loss
    metrics: Sequence[Metric]
    policies: Policies
    device: torch.device
    seed: int
    grains: int
    train_bn: bool
    average: AveragedModel | None

    def state(
        self,
        optimizer: torch.optim.Optimizer,
        train: AnyLoader,
        valid: AnyLoader | None,
        n_epoch: int,
        *,
        first_epoch: int = 0,
        step: int = 0,
    ) -> TrainState:
        """The state of a fit that is about to begin."""
        checked_epochs("n_epoch", n_epoch)
        directions: dict[str, bool | None] = {"train_loss": False}
        if valid is not None:
            directions["valid_loss"] = False
            directions |= {m.name: m.higher_is_better for m in self.metrics}
        groups = optimizer.param_groups
        return TrainState(
            self.model,
            optimizer,
            self.seed,
            n_epoch=n_epoch,
            n_batch=-(-len(train) // self.policies.accumulate),
            first_epoch=first_epoch,
            step=step,
            lrs=[next(g["lr"] for g in groups if g["group"] == i) for i in range(len(self.groups))],
            moms=momenta(optimizer, len(self.groups)),
            directions=directions,
        )

    def set_modes(self) -> None:
        """Training mode, but for norm layers whose statistics are frozen; gradients of others are gone."""
        self.model.train()
        if self.policies.channels_last is not None:
            self.policies.channels_last.arrange(self.model)
        for p in self._parameters():
            p.grad = None
        if not self.train_bn:
            for module in frozen_norms_eval(self.model, self.groups, self.frozen):
                module.eval()

    def step(
        self,
        run: TrainState,
        train: AnyLoader,
        curves: Mapping[str, Curve],
        fire: Callable[[Event], None],
    ) -> Step:
        """One update, with the policies in their places."""
        return Step(
            forward=self.policies.forward_of(self.model),
            loss=self.loss,
            optimizer=run.optimizer,
            params=self._parameters(),
            buffers=Buffers(self.model) if any(True for _ in self.model.buffers()) else None,
            scheduler=Scheduler(run.optimizer, len(self.groups), curves) if curves else None,
            device=self.device,
            fire=fire,
            name_samples=lambda ids: _names(train, ids),
            grains=self.grains,
            accumulate=self.policies.accumulate,
            autocast=self.policies.autocast(self.device),
            scale=self.policies.scale(),
            clip=self.policies.clip,
            average=self.average,
            channels_last=self.policies.channels_last,
        )

    def _parameters(self) -> list[nn.Parameter]:
        """In the order of the model, then what else the groups hold, such as parameters of the loss."""
        ordered = {id(p): p for p in self.model.parameters()}
        ordered |= {id(p): p for group in self.groups for p in group if id(p) not in ordered}
        return list(ordered.values())

    def evaluator(self) -> Evaluator:
        """The model as validation and prediction see it: the average of the weights where one is kept."""
        model = self.average.module if self.average is not None else self.model
        return Evaluator(
            model=model,
            forward=model,
            loss=self.loss,
            device=self.device,
            autocast=self.policies.autocast(self.device),
            seed=self.seed,
        )

    def validation(self, valid: AnyLoader | None) -> Callable[[TrainState], None]:
        """A function that writes the row of an epoch into ``run.metrics``."""
        evaluator, started = self.evaluator(), time.perf_counter()

        def validate(run: TrainState) -> None:
            nonlocal started
            weight = float(run.loss_weight)
            row = {"train_loss": float(run.loss_sum) / weight if weight else math.nan}
            if valid is not None:
                row |= evaluator.evaluate(valid, self.metrics)
            row["seconds"] = time.perf_counter() - started
            run.metrics, run.loss_sum, run.loss_weight = row, 0.0, 0
            started = time.perf_counter()

        return validate


def _names(loader: AnyLoader, ids: npt.NDArray[np.int64]) -> str:
    """The first samples of a batch by name, for a message."""
    shown = ", ".join(loader.item_name(int(i)) for i in ids[:4])
    return shown if len(ids) <= 4 else f"{shown} and {len(ids) - 4} more"
