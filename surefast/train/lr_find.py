"""The learning-rate range test (Smith: Cyclical Learning Rates, arXiv 1506.01186), which leaves no trace."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

from surefast.data.batch import Batch
from surefast.data.dataloaders import AnyLoader
from surefast.errors import ArgumentError, NonFiniteError
from surefast.train.grains import windows
from surefast.train.state import TrainState
from surefast.train.step import Step


@final
@dataclass(frozen=True, slots=True)
class Curve:
    """Smoothed losses over the learning rates that were tried."""

    lrs: list[float]
    losses: list[float]


def check_range(start_lr: float, end_lr: float, num_it: int) -> None:
    """Refuse a range that nothing can be learned from, before anything is trained.

    Raises:
        ArgumentError: names the arguments.
    """
    if not 0 < start_lr < end_lr < math.inf:
        raise ArgumentError(
            f"start_lr={start_lr} and end_lr={end_lr} are no range",
            do="pass numbers above 0, the smaller one first, such as 1e-7 and 10",
        )
    if num_it < 12:
        raise ArgumentError(
            f"num_it={num_it} steps leave too few points to suggest a learning rate from",
            do="use 12 or more, such as 100",
        )


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put back every parameter, buffer and mode of a model after a block, whatever happens in it."""
    # A forward pass may exchange a buffer for another tensor (``self.mean = ...``): each has its place.
    places: list[tuple[dict[str, Any], str, torch.Tensor]] = [
        (holder, name, tensor)
        for module in model.modules()
        for holder in (module._parameters, module._buffers)
        for name, tensor in holder.items()
        if tensor is not None
    ]
    before = [(tensor, tensor.detach().clone()) for _, _, tensor in places]
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        with torch.no_grad():
            for holder, name, tensor in places:
                holder[name] = tensor
            for tensor, saved in before:
                tensor.copy_(saved)
                tensor.grad = None
        for module, training in modes:
            module.training = training


def range_test(run: TrainState, step: Step, train: AnyLoader, *, num_it: int, stop_div: bool) -> Curve:
    """Train ``num_it`` steps under the step's own schedule and record the smoothed loss of each.

    Args:
        run: the state; ``run.n_batch`` is ``num_it``, so that progress runs once through the schedule.
        step: one update, with an exponential schedule of the learning rate.
        train: the training data; its epochs are repeated as needed.
        num_it: steps.
        stop_div: stop when the loss is above four times its best value, as fastai does.
    """
    curve = Curve([], [])
    smooth, best = 0.0, float("inf")
    for batch in _endless(run, step, train):
        try:
            step.update(run, batch)
        except NonFiniteError:
            break
        assert run.loss_value is not None
        smooth = 0.98 * smooth + 0.02 * run.loss_value
        run.batch += 1
        run.step += 1
        debiased = smooth / (1 - 0.98**run.batch)
        curve.lrs.append(run.lr)
        curve.losses.append(debiased)
        best = min(best, debiased)
        if run.batch >= num_it or (stop_div and debiased > 4 * best):
            break
    return curve


def _endless(run: TrainState, step: Step, train: AnyLoader) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from windows(train.batches(run.seed, epoch, device=step.device), step.accumulate)
        epoch += 1
