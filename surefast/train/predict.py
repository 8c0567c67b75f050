"""Validation and prediction: the model in evaluation mode over a loader. No training event fires here."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

from surefast.data.batch import Batch
from surefast.data.dataloaders import AnyLoader
from surefast.errors import ArgumentError, EmptyDataError
from surefast.task.loss import Loss
from surefast.task.metric import Metric, wide
from surefast.task.outputs import joined, mapped, one_tensor


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a block; afterwards every module is back in the mode it was in."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """A model with what is needed to run it over a loader."""

    model: nn.Module
    forward: Callable[..., Any]
    """The model, compiled or not."""

    loss: Loss
    device: torch.device
    autocast: AbstractContextManager[Any]
    seed: int

    def outputs(self, loader: AnyLoader, *, epoch: int = 0) -> Iterator[tuple[Batch, Any]]:
        """Every batch of a loader with the model's raw output in float32."""
        if len(loader) == 0:
            raise EmptyDataError("there is nothing to predict: the loader has no batch", do="give it items")
        with eval_mode(self.model), torch.no_grad():
            for batch in loader.batches(self.seed, epoch, device=self.device):
                with self.autocast:
                    output = self.forward(*batch.x)
                yield batch, _to_float(output)

    def evaluate(self, loader: AnyLoader, metrics: Sequence[Metric]) -> dict[str, float]:
        """Loss and metrics over a loader, exact over uneven batches.

        Args:
            loader: data with targets.
            metrics: reset, updated and read here.
        """
        for metric in metrics:
            metric.reset()
        total: Any = 0.0
        weights: Any = 0
        for batch, output in self.outputs(loader):
            if not batch.y:
                raise ArgumentError("the loader has no targets", do="use get_preds for data without labels")
            weight = self.loss.weight(*batch.y)
            total = total + wide(self.loss(output, *batch.y)) * weight
            weights = weights + weight
            for metric in metrics:
                if not metric.takes_any_output:
                    one_tensor(f"the metric {metric.name}", output)
                metric.update(output, *batch.y)
        count = float(weights)  # 0 where every target is ignored: no loss is known then
        row = {"valid_loss": float(total) / count if count else math.nan}
        row.update((metric.name, metric.value()) for metric in metrics)
        return row

    def predictions(self, loader: AnyLoader, *, with_loss: bool = False) -> Predictions:
        """Activated outputs and targets of a whole loader, on the CPU."""
        preds: list[Any] = []
        targets: list[Any] = []
        losses: list[torch.Tensor] = []
        for batch, output in self.outputs(loader):
            preds.append(mapped(torch.Tensor.cpu, self.loss.activation(output)))
            if batch.y:
                targets.append(mapped(torch.Tensor.cpu, batch.y[0] if len(batch.y) == 1 else batch.y))
            if with_loss:
                losses.append(_each_loss(self.loss, output, batch.y).cpu())
        return Predictions(
            joined(preds), joined(targets) if targets else None, torch.cat(losses) if losses else None
        )


@final
@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model says about a whole loader."""

    preds: Any
    """A tensor, or what the model gives: tuples and dicts of tensors."""

    targets: Any
    """A tensor, a tuple where there are several targets, None without labels."""

    losses: torch.Tensor | None


def _each_loss(loss: Loss, output: Any, targets: tuple[Any, ...]) -> torch.Tensor:
    """The loss of each sample, shape (B,)."""
    if not targets:
        raise ArgumentError("losses need targets, and the loader has none", do="leave out with_loss=True")
    return loss.each(output, *targets).float()


def _to_float(output: Any) -> Any:
    return mapped(_wide_enough, output)


def _wide_enough(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor


@torch.no_grad()
def tta_predictions(
    evaluator: Evaluator, plain: AnyLoader, augmented: AnyLoader, *, n: int, beta: float
) -> Predictions:
    """Test-time augmentation: the mean over ``n`` augmented passes, mixed with the plain one.

    Args:
        evaluator: the model.
        plain: the data as validation sees it.
        augmented: the same data as training sees it.
        n: augmented passes; pass k draws the augmentation of epoch k.
        beta: share of the plain prediction; ``torch.lerp(augmented, plain, beta)`` as in fastai.
    """
    if n < 0 or not 0 <= beta <= 1:
        raise ArgumentError(f"tta(n={n}, beta={beta})", do="use n of 0 or more, and beta from 0 to 1")
    base = evaluator.predictions(plain)
    if n == 0:
        return base
    if not isinstance(base.preds, torch.Tensor):
        raise ArgumentError(
            f"the model gives a {type(base.preds).__name__}, and the mean of those is not known",
            do="average get_preds(dl=...) over your own augmented loaders",
        )
    total: Any = 0
    for k in range(n):
        outputs = [
            evaluator.loss.activation(output).cpu() for _, output in evaluator.outputs(augmented, epoch=k)
        ]
        total = joined(outputs) + total
    return Predictions(torch.lerp(total / n, base.preds, beta), base.targets, None)
