"""Metrics from scores and sums: area under the ROC curve, R2, the loss itself and perplexity.

ROC-AUC needs the order of all scores, so it keeps them, on the device. R2 keeps mean and spread, merged
batch by batch without cancellation.
"""

from __future__ import annotations

import abc
import math
from typing import Literal, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from surefast.errors import ArgumentError, TaskError
from surefast.recipe.call import declared
from surefast.task.metric import Metric, like, wide


def roc_auc(scores: npt.NDArray[np.floating], truth: npt.NDArray[np.bool_]) -> float:
    """The share of (true, false) pairs in which the true one has the higher score; ties count half.

    The area under the ROC curve by ranks: Mann and Whitney, Ann. Math. Stat. 18 (1947) 50.

    Args:
        scores: shape (N,).
        truth: shape (N,).

    Returns:
        The area, or nan where all are true or none is, or a score is nan.
    """
    n_true = int(truth.sum())
    n_false = len(truth) - n_true
    if not n_true or not n_false or np.isnan(scores).any():
        return math.nan
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2  # the mean rank of equal scores
    return float((rank[place[truth]].sum() - n_true * (n_true + 1) / 2) / (n_true * n_false))


class _Ranked(Metric):
    """What areas under the ROC curve share: all scores are kept until the value is asked for."""

    higher_is_better = True
    name = "roc_auc_score"

    def __init__(self, average: str) -> None:
        if average not in {"macro", "weighted"}:
            raise ArgumentError(
                f"average={average!r} of {type(self).__name__} is not known", do="pass 'macro' or 'weighted'"
            )
        self._average = average
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._scores: list[Tensor] = []
        self._targets: list[Tensor] = []

    def update(self, pred: Tensor, *y: Tensor) -> None:
        """Keep the scores of one batch."""
        scores, targ = self._taken(pred.detach(), self._one_target(y))
        self._scores.append(scores)
        self._targets.append(targ)

    @abc.abstractmethod
    def _taken(self, pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N, C) and targets, (N,) class numbers or (N, C) of 0 and 1."""

    def value(self) -> float:
        """The mean area over the classes that occur with and without; nan where there is none."""
        if not self._scores:
            return math.nan
        scores = torch.cat(self._scores).cpu().numpy()
        targets = torch.cat(self._targets).cpu().numpy()
        ignored: int | None = getattr(self.loss, "ignore_index", None)
        if ignored is not None and targets.ndim == 1:
            scores, targets = scores[targets != ignored], targets[targets != ignored]
        if targets.ndim == 1:
            first = 1 if scores.shape[1] == 1 else 0  # one column: the score of class 1
            targets = targets[:, None] == np.arange(first, first + scores.shape[1])
        areas = np.array([roc_auc(scores[:, c], targets[:, c] == 1) for c in range(scores.shape[1])])
        weights = targets.sum(0).astype(np.float64) if self._average == "weighted" else np.ones(len(areas))
        defined = ~np.isnan(areas)
        if np.isnan(scores).any() or not defined.any() or not weights[defined].sum():
            return math.nan
        return float(np.average(areas[defined], weights=weights[defined]))


@declared()
@final
class RocAucBinary(_Ranked):
    """Area under the ROC curve for two classes, from one output a sample or from two; ties count half.

    Args:
        axis: where the two classes stand in the output.
    """

    def __init__(self, axis: int = -1) -> None:
        super().__init__("macro")
        self._axis = axis

    def _taken(self, pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
        if pred.ndim > 1 and pred.shape[self._axis] == 2:
            # Rises with the softmax of class 1, without its saturation at 0 and 1.
            pred = pred.select(self._axis, 1) - pred.select(self._axis, 0)
        elif pred.ndim > 1 and pred.shape[self._axis] != 1:
            raise TaskError(
                f"RocAucBinary is for two classes, and the model tells {pred.shape[self._axis]} apart",
                do="use RocAuc() for several classes, RocAucMulti() for several labels a sample",
            )
        targ = like(pred, targ, "RocAucBinary", "give one target for each score")
        return pred.reshape(-1, 1), targ.reshape(-1)


@declared()
@final
class RocAuc(_Ranked):
    """Area under the ROC curve, each class against the rest, from the softmax of the outputs.

    Classes that never occur are left out of the mean, where scikit-learn refuses.

    Args:
        axis: where the classes stand in the output.
        average: "macro", or "weighted" by how often a class is true.
        multi_class: "ovr", one against the rest; the only one that is offered.
    """

    def __init__(
        self,
        axis: int = -1,
        average: Literal["macro", "weighted"] = "macro",
        multi_class: Literal["ovr"] = "ovr",
    ) -> None:
        super().__init__(average)
        if multi_class != "ovr":
            raise ArgumentError(
                f"multi_class={multi_class!r} of RocAuc is not known",
                do="pass 'ovr', or a torchmetrics object for others",
            )
        self._axis = axis

    def _taken(self, pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
        pred = pred.movedim(self._axis, -1) if pred.ndim > 1 else pred[:, None]
        if pred.shape[-1] < 2:
            raise TaskError(
                "RocAuc needs one output for each class, and the model gives one number a sample",
                do="use RocAucBinary()",
                found=f"outputs {tuple(pred.shape)}",
            )
        targ = like(pred[..., 0], targ, "RocAuc", "give one class number for each row of scores")
        scores = pred.float().softmax(-1) if pred.dtype.itemsize < 4 else pred.softmax(-1)
        return scores.reshape(-1, pred.shape[-1]), targ.reshape(-1)


@declared()
@final
class RocAucMulti(_Ranked):
    """Area under the ROC curve of each label, for several labels a sample.

    Args:
        average: "macro", or "weighted" by how often a label is true.
    """

    def __init__(self, average: Literal["macro", "weighted"] = "macro") -> None:
        super().__init__(average)

    def _taken(self, pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
        targ = like(pred, targ, "RocAucMulti", "give one target for each output")
        return pred.reshape(-1, pred.shape[-1]), targ.reshape(-1, pred.shape[-1])


@declared()
@final
class R2Score(Metric):
    """Share of the variance of the targets that the predictions explain, over all numbers together.

    Targets that do not vary give 1 for perfect predictions and 0 otherwise, as in scikit-learn.
    """

    higher_is_better = True
    name = "r2_score"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._count = 0
        self._mean: Tensor | float = 0.0
        self._spread: Tensor | float = 0.0
        self._error: Tensor | float = 0.0

    def update(self, pred: Tensor, *y: Tensor) -> None:
        """Merge one batch: Chan, Golub, LeVeque, Am. Stat. 37 (1983) 242, formula 1.5."""
        pred = wide(pred.detach())
        targ = wide(like(pred, self._one_target(y), "R2Score", "give the model one output for each target"))
        count, mean = targ.numel(), targ.mean()
        total = self._count + count
        step = mean - self._mean
        self._spread = self._spread + ((targ - mean) ** 2).sum() + step**2 * (self._count * count / total)
        self._mean = self._mean + step * (count / total)
        self._error = self._error + ((pred - targ) ** 2).sum()
        self._count = total

    def value(self) -> float:
        """1 - squared error / spread; nan for fewer than two numbers."""
        if self._count < 2:
            return math.nan
        error, spread = float(self._error), float(self._spread)
        if spread == 0:
            return 1.0 if error == 0 else 0.0
        return 1 - error / spread


class _MeanLoss(Metric):
    """What metrics of the loss share: its exact mean over all targets."""

    higher_is_better = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._total: Tensor | float = 0.0
        self._weight: Tensor | int = 0

    def update(self, pred: Tensor, *y: Tensor) -> None:
        """Add the loss of one batch."""
        if self.loss is None:
            raise ArgumentError(
                f"the metric {self.name} needs the loss, and none is bound",
                do="call .bind(loss) first; a Learner does it",
            )
        weight = self.loss.weight(*y)
        self._total = self._total + wide(self.loss(pred.detach(), *y)) * weight
        self._weight = self._weight + weight

    def _mean(self) -> float:
        weight = float(self._weight)
        return float(self._total) / weight if weight else math.nan


@declared()
@final
class AvgLoss(_MeanLoss):
    """The mean of the bound loss over all targets."""

    def __init__(self) -> None:
        super().__init__("loss")

    def value(self) -> float:
        """The mean loss."""
        return self._mean()


@declared()
@final
class Perplexity(_MeanLoss):
    """exp of the mean loss over all targets, for a cross-entropy loss."""

    def __init__(self) -> None:
        super().__init__("perplexity")

    def value(self) -> float:
        """Perplexity; inf where the mean loss is too large for a float."""
        mean = self._mean()
        return math.exp(mean) if not mean > 700 else math.inf
