"""A small state and a loop in the order of the drawing, with a real model and a real optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from surefast.callbacks.contract import Callback, Request
from surefast.callbacks.dispatch import Dispatch
from surefast.callbacks.event import Event


@dataclass(slots=True)
class SmallState:
    model: nn.Module
    optimizer: torch.optim.Optimizer
    seed: int = 42
    n_epoch: int = 2
    first_epoch: int = 0
    n_batch: int = 3
    epoch: int = 0
    batch: int = 0
    step: int = 0
    grain: int = 0
    training: bool = False
    xb: tuple[Any, ...] = ()
    yb: tuple[Any, ...] = ()
    batch_ids: Any = None
    pred: Any = None
    loss: Tensor | None = None
    loss_value: float | None = None
    grad_norm: float | None = None
    lrs: list[float] = field(default_factory=lambda: [0.1])
    moms: list[float] = field(default_factory=lambda: [0.0])
    metrics: dict[str, float] = field(default_factory=dict)
    directions: dict[str, bool | None] = field(
        default_factory=lambda: {"train_loss": False, "valid_loss": False, "accuracy": True, "seconds": None}
    )
    skip_batch: Request | None = None
    skip_step: Request | None = None
    stop: Request | None = None

    @property
    def lr(self) -> float:
        return self.lrs[-1]

    @property
    def pct(self) -> float:
        return (self.epoch + self.batch / self.n_batch) / self.n_epoch


@dataclass
class SmallRun:
    """Trains a model with batch norm for two epochs of three steps, fires events, keeps what was reported."""

    state: SmallState
    dispatch: Dispatch
    lines: list[tuple[str, dict[str, Any]]]
    fired: list[Event] = field(default_factory=list)
    rows: list[dict[str, float]] = field(default_factory=list)

    def fire(self, event: Event) -> None:
        self.fired.append(event)
        self.dispatch.fire(event)

    def fit(self) -> SmallRun:
        state, error = self.state, None
        data = torch.Generator().manual_seed(0)
        try:
            self.fire(Event.before_fit)
            while state.epoch < state.n_epoch and state.stop is None:
                self.fire(Event.before_epoch)
                state.training = True
                self.fire(Event.before_train)
                for batch in range(state.n_batch):
                    state.batch = batch
                    x = torch.randn(8, 4, generator=data)
                    self.step(x, x.sum(1, keepdim=True))
                    state.step += 1
                self.fire(Event.after_train)
                state.training = False
                self.fire(Event.before_validate)
                row = self.rows[state.epoch] if self.rows else {"valid_loss": 1.0 / (1 + state.epoch)}
                state.metrics = {"train_loss": state.loss_value or 0.0, **row, "seconds": 61.0}
                self.fire(Event.after_validate)
                self.fire(Event.after_epoch)
                state.epoch += 1
        except BaseException as caught:
            error = caught
            raise
        finally:
            self.fired.append(Event.after_fit)
            self.dispatch.close(error)
        return self

    def step(self, x: Tensor, y: Tensor) -> None:
        state = self.state
        state.xb, state.yb, state.batch_ids = (x,), (y,), np.arange(len(x))
        state.lrs = [0.1]
        state.optimizer.param_groups[0]["lr"] = 0.1
        self.fire(Event.before_batch)
        if state.skip_batch is None:
            state.pred = state.model(*state.xb)
            self.fire(Event.after_pred)
            state.loss = nn.functional.mse_loss(state.pred, *state.yb)
            self.fire(Event.after_loss)
            self.fire(Event.before_backward)
            state.loss.backward()
            self.fire(Event.after_backward)
            state.loss_value = state.loss.item()
            self.fire(Event.before_step)
            if state.skip_step is None:
                state.optimizer.step()
                self.fire(Event.after_step)
            state.optimizer.zero_grad()
        self.fire(Event.after_batch)
        state.skip_batch = state.skip_step = None

    @property
    def weights(self) -> list[Tensor]:
        return [tensor.clone() for tensor in self.state.model.state_dict().values()]

    def kinds(self, kind: str) -> list[dict[str, Any]]:
        return [fields for found, fields in self.lines if found == kind]


class SmallRunMaker:
    """Makes a run of the same start for some callbacks."""

    def __call__(
        self, *callbacks: Callback, strict: bool = True, rows: Sequence[dict[str, float]] = ()
    ) -> SmallRun:
        generator = torch.Generator().manual_seed(1)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.5)
        lines: list[tuple[str, dict[str, Any]]] = []
        state = SmallState(model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9))
        if rows:
            state.n_epoch = len(rows)
        dispatch = Dispatch(
            callbacks, state, lambda kind, fields: lines.append((kind, fields)), strict=strict
        )
        return SmallRun(state, dispatch, lines, rows=list(rows))


@pytest.fixture
def small_run() -> SmallRunMaker:
    """``small_run(*callbacks).fit()`` trains and gives weights, lines and events."""
    return SmallRunMaker()
