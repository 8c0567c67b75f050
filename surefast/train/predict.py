"""Validation and prediction: the model in evaluation mode over a loader. No training event fires here."""

from __future__ import annotations

import contextlib
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
from surefast.task.metric import Metric


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
            total = total + self.loss(output, *batch.y).double() * weight
            weights = weights + weight
            for metric in metrics:
                metric.update(output, *batch.y)
        row = {"valid_loss": float(total / weights)}
        row.update((metric.name, metric.value()) for metric in metrics)
        return row

    def predictions(self, loader: AnyLoader, *, with_loss: bool = False) -> Predictions:
        """Activated outputs and targets of a whole loader, on the CPU."""
        preds: list[torch.Tensor] = []
        targets: list[torch.Tensor] = []
        losses: list[torch.Tensor] = []
        for batch, output in self.outputs(loader):
            preds.append(self.loss.activation(output).cpu())
            if batch.y:
                targets.append(batch.y[0].cpu())
            if with_loss:
                losses.append(_each_loss(self.loss, output, batch.y).cpu())
        return Predictions(
            torch.cat(preds),
            torch.cat(targets) if targets else None,
            torch.cat(losses) if losses else None,
        )


@final
@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model says about a whole loader."""

    preds: torch.Tensor
    targets: torch.Tensor | None
    losses: torch.Tensor | None


def _each_loss(loss: Loss, output: torch.Tensor, targets: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The loss of each sample, shape (B,): one call a sample, for any loss whatever."""
    if not targets:
        raise ArgumentError("losses need targets, and the loader has none", do="leave out with_loss=True")
    return torch.stack([
        loss(output[i : i + 1], *(y[i : i + 1] for y in targets)) for i in range(len(output))
    ]).float()


def _to_float(output: Any) -> Any:
    if isinstance(output, torch.Tensor) and output.is_floating_point() and output.dtype != torch.float64:
        return output.float()
    return output


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
    sums: torch.Tensor | None = None
    for k in range(n):
        outputs = [evaluator.loss.activation(o).cpu() for _, o in evaluator.outputs(augmented, epoch=k)]
        sums = torch.cat(outputs) if sums is None else sums + torch.cat(outputs)
    base = evaluator.predictions(plain)
    if sums is None:
        return base
    return Predictions(torch.lerp(sums / n, base.preds, beta), base.targets, None)
