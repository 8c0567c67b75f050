"""Metrics: exact over uneven batches, kept on the device, read once.

A metric keeps what its value can be computed from exactly (counts, sums, or all scores), so it does not
matter how the data was cut into batches. It gets the model's raw outputs and the targets; nothing is read
back from the device before ``value()``. Each says itself whether higher is better; nothing is guessed from
a name. Targets that the bound loss ignores (``ignore_index``) are ignored by metrics of classes as well.
"""

from __future__ import annotations

import abc
import functools
import inspect
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, TypeGuard, final

import torch
from torch import Tensor

from surefast.errors import ArgumentError, TaskError
from surefast.task.loss import BCEWithLogitsLossFlat, Loss
from surefast.task.outputs import mapped

MetricFunction: TypeAlias = Callable[..., Any]
"""``(pred, targ) -> scalar``: the mean over the rows of a batch."""


class Metric(abc.ABC):
    """A number about predictions and targets, over as many batches as one likes.

    >>> metric = as_metric(accuracy)
    >>> metric.reset()
    >>> metric.update(torch.tensor([[0.2, 0.8], [0.9, 0.1]]), torch.tensor([1, 1]))
    >>> metric.value()
    0.5
    """

    name: str
    """The column in tables and logs; fastai's name where it has the metric."""

    higher_is_better: bool | None
    """The direction; None where it is not known."""

    loss: Loss | None = None
    """The loss that the outputs were trained with; see ``bind``."""

    def bind(self, loss: Loss) -> None:
        """Say which loss the outputs belong to: its activation and ignored targets are used."""
        self.loss = loss

    @property
    def takes_any_output(self) -> bool:
        """Whether the model may give tuples or dicts of tensors; otherwise it must give one tensor."""
        return False

    @abc.abstractmethod
    def reset(self) -> None:
        """Forget all batches."""

    @abc.abstractmethod
    def update(self, pred: Tensor, *y: Tensor) -> None:
        """Take in one batch; nothing is read back from the device.

        Args:
            pred: raw outputs of the model, shape (B, ...).
            y: the targets of the batch.
        """

    @abc.abstractmethod
    def value(self) -> float:
        """The metric over all batches since ``reset``; nan where it is not defined, as for no batch."""

    def _one_target(self, y: Sequence[Tensor]) -> Tensor:
        if len(y) != 1:
            raise TaskError(
                f"the metric {self.name} compares with one target, and a batch has {len(y)}",
                do="pass metrics= with functions of (pred, *targets)",
            )
        return y[0]

    def _kept(self, targ: Tensor) -> Tensor | None:
        """Which targets count; None for all."""
        ignored: int | None = getattr(self.loss, "ignore_index", None)
        if ignored is None or targ.is_floating_point():
            return None
        return targ != ignored


def wide(tensor: Tensor) -> Tensor:
    """As float64, or float32 on Apple's GPU, which has none."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


def winners(pred: Tensor, targ: Tensor, axis: int, name: str) -> tuple[Tensor, Tensor]:
    """The class of the highest score and the target, in one shape."""
    if pred.ndim < 2 or pred.shape[axis] == 1:
        raise TaskError(
            f"{name} takes the class with the highest score, and the outputs hold one number a sample",
            do="give the model one output for each class, or use accuracy_multi or F1ScoreMulti with thresh=",
            found=f"outputs {tuple(pred.shape)}",
        )
    winner = pred.argmax(dim=axis)
    return winner, like(winner, targ, name, f"use axis=1 where the classes stand there: {name}(..., axis=1)")


def like(pred: Tensor, targ: Tensor, name: str, do: str) -> Tensor:
    """The target in the shape of the prediction, where only dimensions of size 1 differ."""
    if targ.shape == pred.shape:
        return targ
    if [n for n in targ.shape if n != 1] != [n for n in pred.shape if n != 1]:
        raise TaskError(
            f"{name} compares element with element, and the shapes differ",
            do=do,
            found=f"predictions {tuple(pred.shape)}, targets {tuple(targ.shape)}",
        )
    return targ.reshape(pred.shape)


# Functions. Each has a twin that gives the score of every element, from which the mean is exact.


def _hits(inp: Tensor, targ: Tensor, axis: int = -1) -> Tensor:
    winner, targ = winners(inp, targ, axis, "accuracy")
    return winner == targ


def _misses(inp: Tensor, targ: Tensor, axis: int = -1) -> Tensor:
    return ~_hits(inp, targ, axis)


def _top_k_hits(inp: Tensor, targ: Tensor, k: int = 5, axis: int = -1) -> Tensor:
    inp = inp.movedim(axis, -1)
    if not 1 <= k < inp.shape[-1]:
        raise ArgumentError(
            f"the target is always in the top k={k} of {inp.shape[-1]} classes",
            do=f"pass k from 1 to {inp.shape[-1] - 1}: partial(top_k_accuracy, k=2)",
        )
    targ = like(inp[..., 0], targ, "top_k_accuracy", "give one class number for each row of scores")[
        ..., None
    ]
    own = inp.gather(-1, targ.long())
    # Of equal scores the lower class is first, as in argmax; a NaN stands before everything.
    ahead = ~(inp <= own) | ((inp == own) & (torch.arange(inp.shape[-1], device=inp.device) < targ))
    return ahead.sum(-1) < k


def _label_hits(inp: Tensor, targ: Tensor, thresh: float = 0.5, sigmoid: bool = True) -> Tensor:
    said = (inp.sigmoid() if sigmoid else inp) > thresh
    return said == like(inp, targ, "accuracy_multi", "give one target for each output").bool()


def _squares(inp: Tensor, targ: Tensor) -> Tensor:
    return (wide(inp) - wide(like(inp, targ, "mse", "give the model one output for each target"))) ** 2


def _distances(inp: Tensor, targ: Tensor) -> Tensor:
    return (wide(inp) - wide(like(inp, targ, "mae", "give the model one output for each target"))).abs()


def accuracy(inp: Tensor, targ: Tensor, axis: int = -1) -> Tensor:
    """Share of targets whose class has the highest score; raw scores or probabilities, argmax is taken.

    Args:
        inp: scores, the classes on ``axis``.
        targ: class numbers, the shape of ``inp`` without that axis.
        axis: -1 for (B, C) and (B, T, C), 1 for (B, C, H, W).
    """
    return _hits(inp, targ, axis).float().mean()


def error_rate(inp: Tensor, targ: Tensor, axis: int = -1) -> Tensor:
    """1 - ``accuracy``; lower is better."""
    return _misses(inp, targ, axis).float().mean()


def top_k_accuracy(inp: Tensor, targ: Tensor, k: int = 5, axis: int = -1) -> Tensor:
    """Share of targets among the ``k`` highest scores; of equal scores the lower class is first."""
    return _top_k_hits(inp, targ, k, axis).float().mean()


def accuracy_multi(inp: Tensor, targ: Tensor, thresh: float = 0.5, sigmoid: bool = True) -> Tensor:
    """Share of labels said right, over all samples and labels.

    Args:
        inp: outputs (B, L), before the sigmoid unless ``sigmoid=False``.
        targ: 0 or 1, (B, L).
        thresh: above it the answer is yes.
        sigmoid: whether the outputs need it.
    """
    return _label_hits(inp, targ, thresh, sigmoid).float().mean()


def mse(inp: Tensor, targ: Tensor) -> Tensor:
    """Mean squared error over all numbers; lower is better."""
    return _squares(inp, targ).mean()


def mae(inp: Tensor, targ: Tensor) -> Tensor:
    """Mean absolute error over all numbers; lower is better."""
    return _distances(inp, targ).mean()


def rmse(preds: Tensor, targs: Tensor) -> Tensor:
    """Root of ``mse``; as a metric the root is taken once, over all batches. Lower is better."""
    return _squares(preds, targs).mean().sqrt()


@dataclass(frozen=True)
class _Known:
    """What is known of a function metric."""

    elements: Callable[..., Tensor]
    higher_is_better: bool
    finish: Callable[[float], float] = float


_KNOWN: Final[dict[MetricFunction, _Known]] = {
    accuracy: _Known(_hits, higher_is_better=True),
    error_rate: _Known(_misses, higher_is_better=False),
    top_k_accuracy: _Known(_top_k_hits, higher_is_better=True),
    accuracy_multi: _Known(_label_hits, higher_is_better=True),
    mse: _Known(_squares, higher_is_better=False),
    mae: _Known(_distances, higher_is_better=False),
    rmse: _Known(_squares, higher_is_better=False, finish=math.sqrt),
}


@final
class FunctionMetric(Metric):
    """The mean of a function over all elements it scores, or over all rows for a user's function.

    Args:
        func: ``(pred, *targets) -> scalar``, the mean over rows; ``functools.partial`` is seen through.
            An attribute ``higher_is_better`` of a user's function gives its direction.
    """

    def __init__(self, func: MetricFunction) -> None:
        base = func.func if isinstance(func, functools.partial) else func
        known = _KNOWN.get(base)
        self.name = str(getattr(base, "__name__", type(base).__name__))
        self.higher_is_better = known.higher_is_better if known else getattr(base, "higher_is_better", None)
        self.arguments = ""
        if isinstance(func, functools.partial) and func.keywords:
            self.arguments = f"({', '.join(f'{name}={value}' for name, value in func.keywords.items())})"
        self._func = func
        self._finish: Callable[[float], float] = known.finish if known else float
        self._elements: Callable[..., Tensor] | None = known.elements if known else None
        if known and isinstance(func, functools.partial):
            self._elements = functools.partial(known.elements, *func.args, **func.keywords)
        self.reset()

    @property
    def takes_any_output(self) -> bool:
        """Whether the function is the user's: it knows what the model gives."""
        return self._elements is None

    def reset(self) -> None:
        """Forget all batches."""
        self._total: Tensor | float = 0.0
        self._count: Tensor | int = 0

    def update(self, pred: Tensor, *y: Tensor) -> None:
        """Add one batch to the sums."""
        if self._elements is None:
            self._update_rows(mapped(Tensor.detach, pred), y)
            return
        pred = pred.detach()
        targ = self._one_target(y)
        kept = self._kept(targ)
        if kept is None:
            scores = self._elements(pred, targ)
            self._count = self._count + scores.numel()
        else:
            scores = self._elements(pred, targ.where(kept, 0))
            scores = scores.where(kept.reshape(scores.shape), 0)
            self._count = self._count + kept.sum()
        self._total = self._total + (wide(scores).sum() if scores.is_floating_point() else scores.sum())

    def _update_rows(self, pred: Any, y: Sequence[Tensor]) -> None:
        result = self._func(pred, *y)
        if isinstance(result, Tensor):
            result = wide(result.detach())
        one = result.numel() == 1 if isinstance(result, Tensor) else isinstance(result, (int, float))
        if not one:
            raise _not_one_number(self.name, result, "end it with .mean() over the rows, or write a Metric")
        rows = len(y[0]) if y else len(pred)
        self._total = self._total + result * rows
        self._count = self._count + rows

    def value(self) -> float:
        """The mean over all elements or rows."""
        count = int(self._count)
        return self._finish(float(self._total) / count) if count else math.nan


def _not_one_number(name: str, result: object, do: str) -> TaskError:
    found = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
    return TaskError(f"the metric {name} must give one number", do=do, found=found)


class _TorchMetric(Protocol):
    higher_is_better: bool | None

    def update(self, preds: Tensor, target: Tensor) -> None: ...
    def compute(self) -> Any: ...
    def reset(self) -> None: ...
    def to(self, device: torch.device) -> Any: ...


def _is_torchmetric(x: object) -> TypeGuard[_TorchMetric]:
    # By shape, so that the library is not imported.
    return all(callable(getattr(x, name, None)) for name in ("update", "compute", "reset", "to"))


@final
class TorchMetric(Metric):
    """A torchmetrics object: it is given activated predictions, so ``bind`` comes first.

    Targets of a loss over yes and no become integers, and (B, 1) predictions take the shape of (B,) targets.
    """

    def __init__(self, metric: _TorchMetric) -> None:
        self.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(metric).__name__).lower()
        self.higher_is_better = metric.higher_is_better
        self._metric = metric
        self._device: torch.device | None = None
        self._batches = 0

    def reset(self) -> None:
        """Forget all batches."""
        self._batches = 0
        self._metric.reset()

    def update(self, pred: Tensor, *y: Tensor) -> None:
        """Hand one batch on, after the activation of the bound loss."""
        targ = self._one_target(y)
        if self.loss is None:
            raise ArgumentError(
                f"the metric {self.name} of torchmetrics needs activated predictions, and no loss is bound",
                do="call as_metric(metric, loss); a Learner does it",
            )
        pred = self.loss.activation(pred.detach())
        if isinstance(self.loss, BCEWithLogitsLossFlat) and targ.is_floating_point():
            targ = targ.long()
        if pred.shape != targ.shape and pred.numel() == targ.numel():
            pred = pred.reshape(targ.shape)
        if self._device != pred.device:
            self._metric.to(pred.device)
            self._device = pred.device
        self._metric.update(pred, targ)
        self._batches += 1

    def value(self) -> float:
        """What the object computes.

        Raises:
            TaskError: when that is not one number.
        """
        if not self._batches:
            return math.nan
        result = self._metric.compute()
        if isinstance(result, Tensor) and result.numel() == 1:
            return float(result)
        do = "pass average='macro' or another average; of a collection pass the members one by one"
        raise _not_one_number(self.name, result, do)


def as_metric(x: Metric | MetricFunction | object, loss: Loss | None = None) -> Metric:
    """The metric that a user meant: one of ours, a torchmetrics object, or a function of (pred, targ).

    A user's function gets raw outputs and gives the mean over rows; batches are weighted by their rows.

    Args:
        x: what the user gave.
        loss: the loss of the outputs, bound to the metric; None to call ``bind`` later.

    Raises:
        ArgumentError: for a class in place of an object, a name, or what cannot be called.
    """
    metric = _as_metric(x)
    if loss is not None:
        metric.bind(loss)
    return metric


def _as_metric(x: object) -> Metric:
    if isinstance(x, Metric):
        return x
    if inspect.isclass(x):
        raise ArgumentError(f"metrics={x.__name__} is a class", do=f"make the metric: {x.__name__}()")
    if _is_torchmetric(x):
        return TorchMetric(x)
    if callable(x):
        return FunctionMetric(x)
    raise ArgumentError(
        f"metrics={x!r} is no metric",
        do="pass a function such as accuracy, an object such as F1Score(), or one of torchmetrics",
    )


def distinct(metrics: list[Metric]) -> list[Metric]:
    """The metrics, none of which has the name of another: a row of history holds one number a name.

    Functions of one name are told apart by the arguments that ``functools.partial`` gave them.

    Raises:
        ArgumentError: names both.
    """
    names = [metric.name for metric in metrics]
    for metric in metrics:
        if names.count(metric.name) > 1 and isinstance(metric, FunctionMetric):
            metric.name += metric.arguments
    names = [metric.name for metric in metrics]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ArgumentError(f"two metrics are called {twice!r}", do="leave one of them out")
    return metrics
