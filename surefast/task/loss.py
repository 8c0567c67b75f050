"""Losses, each with the activation and the decoding that belong to it.

A loss gives the mean over its targets, and says over how many (``weight``). With both, the loss and the
gradients of a batch cut into grains are exact: sum(mean_v * weight_v) / sum(weight_v) is the mean over the
whole batch, also where targets are ignored or classes weigh differently. This file knows nothing of data
or training.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surefast.errors import ArgumentError
from surefast.recipe.call import declared
from surefast.task.loss_check import check_classes, check_numbers, check_one_target, check_probabilities
from surefast.task.outputs import mapped, one_tensor

_NO_TARGET = -(2**62)
# Never a target: F.cross_entropy must not skip -100 unless somebody asked for it.


class Loss(nn.Module, abc.ABC):
    """The mean loss over the targets, how many there were, and what the model's numbers stand for."""

    @abc.abstractmethod
    def forward(self, pred: Tensor, *y: Tensor) -> Tensor:
        """The mean loss, a scalar.

        Args:
            pred: what the model gave, before any activation, shape (B, ...).
            y: the targets of the batch.
        """

    def weight(self, *y: Tensor) -> int | Tensor:
        """How much the mean of these targets counts beside the mean of others: the number of elements."""
        return y[0].numel()

    def activation(self, pred: Tensor) -> Tensor:
        """Raw outputs to what they stand for, such as probabilities; same shape."""
        return pred

    def decodes(self, pred: Tensor) -> Tensor:
        """Activated outputs to decisions, such as the index of the class."""
        return pred

    def each(self, pred: Any, *y: Any) -> Tensor:
        """The loss of each sample, shape (B,): the mean over the sample's own targets.

        Here one call for each sample; losses that can do it in one go have their own.
        """
        return torch.stack([self(*(_row(part, i) for part in (pred, *y))) for i in range(len(y[0]))])

    def check(self, pred: Tensor, *y: Tensor) -> None:
        """Refuse targets that do not fit the outputs; called on the first batch, it may read values.

        Raises:
            TaskError: with the shapes found and what would fit.
        """
        check_one_target(type(self).__name__, y)


def _row(part: Any, index: int) -> Any:
    return mapped(lambda tensor: tensor[index : index + 1], part)


class _ClassLoss(Loss):
    """What losses over classes share: the axis of the classes, ignored targets, weights of classes."""

    class_weight: Tensor | None

    def __init__(self, axis: int, weight: Sequence[float] | Tensor | None, ignore_index: int | None) -> None:
        super().__init__()
        self.axis = axis
        self.ignore_index = ignore_index
        tensor = None if weight is None else torch.as_tensor(weight, dtype=torch.get_default_dtype())
        if tensor is not None and (tensor.ndim != 1 or not bool((tensor >= 0).all())):
            raise ArgumentError(
                f"{type(self).__name__}(weight=...) needs one number of 0 or more for each class",
                do="pass a list or tensor of shape (C,)",
                found=f"shape {tuple(tensor.shape)}",
            )
        self.register_buffer("class_weight", tensor, persistent=False)

    def activation(self, pred: Tensor) -> Tensor:
        """Probabilities: softmax over the axis of the classes."""
        return F.softmax(pred, dim=self.axis)

    def decodes(self, pred: Tensor) -> Tensor:
        """The index of the most probable class; the axis of the classes is gone."""
        return pred.argmax(dim=self.axis)

    def _flat(self, pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
        # Rows of scores (N, C) and targets (N,): the 2-D NLL has no deterministic kernel on CUDA.
        if pred.ndim != 2:
            pred = pred.movedim(self.axis, -1).reshape(-1, pred.shape[self.axis])
        if targ.ndim != 1:
            targ = targ.reshape(-1)
        if targ.dtype is not torch.int64 and not targ.dtype.is_floating_point:
            targ = targ.long()
        return pred, targ

    def _counted(self, targ: Tensor) -> int | Tensor:
        """The number of targets that count."""
        if self.ignore_index is None:
            return targ.numel()
        return (targ != self.ignore_index).sum()

    def _weight_of(self, targ: Tensor) -> Tensor:
        """The class weight of each target, 0 where it is ignored; shape of ``targ``."""
        assert self.class_weight is not None
        if self.ignore_index is None:
            return self.class_weight[targ]
        kept = targ != self.ignore_index
        return self.class_weight[targ.where(kept, 0)] * kept

    @abc.abstractmethod
    def _unreduced(self, pred: Tensor, targ: Tensor) -> Tensor:
        """The loss of each of the flat targets (N,), 0 where it does not count."""

    def _shares(self, targ: Tensor) -> Tensor:
        """How much each of the flat targets (N,) counts in a mean."""
        if self.class_weight is not None:
            return self._weight_of(targ)
        return torch.ones_like(targ) if self.ignore_index is None else targ != self.ignore_index

    def each(self, pred: Tensor, *y: Tensor) -> Tensor:
        """The loss of each sample, shape (B,): the mean over the sample's targets that count."""
        rows = len(y[0])
        pred, targ = self._flat(pred, y[0])
        counts = self._shares(targ).reshape(rows, -1).sum(1)
        return self._unreduced(pred, targ).reshape(rows, -1).sum(1) / counts.where(counts > 0, 1)

    def check(self, pred: Tensor, *y: Tensor) -> None:
        """Refuse targets that are no class numbers of this head; see ``Loss.check``."""
        one_tensor(type(self).__name__, pred)
        check_one_target(type(self).__name__, y)
        n_weights = None if self.class_weight is None else len(self.class_weight)
        check_classes(
            type(self).__name__,
            pred,
            y[0],
            axis=self.axis,
            ignore_index=self.ignore_index,
            n_weights=n_weights,
        )


def _check_smoothing(name: str, value: float, class_weight: Tensor | None) -> None:
    if not 0 <= value <= 1:
        raise ArgumentError(f"{name}={value} is no share", do="pass a number from 0 to 1, such as 0.1")
    if value > 0 and class_weight is not None and bool((class_weight == 0).any()):
        # The smoothed part of such a target has a loss but no weight: no mean over grains could be exact.
        raise ArgumentError(
            f"{name}={value} and a class weight of 0 do not go together",
            do="give the class a small weight, or leave it out with ignore_index=",
        )


@declared()
@final
class CrossEntropyLossFlat(_ClassLoss):
    """Cross-entropy of class scores, for any number of dimensions: images, pixels, tokens.

    Args:
        axis: where the classes stand in the output: -1 for (B, C) and (B, T, C), 1 for (B, C, H, W).
        weight: weight of each class, shape (C,); the mean is then over the sum of weights.
        ignore_index: target that does not count. None, the default, means that every target counts; -100 is
            then out of range, where torch skips it in silence.
        label_smoothing: share of the target spread over all classes, in [0, 1].

    >>> loss = CrossEntropyLossFlat()
    >>> round(float(loss(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))), 4)
    0.6931
    """

    def __init__(
        self,
        axis: int = -1,
        weight: Sequence[float] | Tensor | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(axis, weight, ignore_index)
        _check_smoothing("label_smoothing", label_smoothing, self.class_weight)
        self.label_smoothing = label_smoothing

    def forward(self, pred: Tensor, *y: Tensor) -> Tensor:
        """The mean over the targets that count; 0 where none does."""
        return _cross_entropy(self, pred, y[0], self.label_smoothing)

    def _unreduced(self, pred: Tensor, targ: Tensor) -> Tensor:
        return _summands(self, pred, targ, self.label_smoothing, "none")

    def weight(self, *y: Tensor) -> int | Tensor:
        """The number of targets that count, or the sum of their class weights."""
        return _class_weight_sum(self, y[0])


@declared()
@final
class LabelSmoothingCrossEntropy(_ClassLoss):
    """Cross-entropy with the share ``eps`` of each target spread over all classes.

    Szegedy et al.: Rethinking the Inception Architecture, arXiv 1512.00567, section 7.

    Args:
        eps: the share, in [0, 1].
        weight: weight of each class, shape (C,), as in ``CrossEntropyLossFlat``.
        axis: where the classes stand in the output.
    """

    def __init__(
        self, eps: float = 0.1, weight: Sequence[float] | Tensor | None = None, axis: int = -1
    ) -> None:
        super().__init__(axis, weight, None)
        _check_smoothing("eps", eps, self.class_weight)
        self.eps = eps

    def forward(self, pred: Tensor, *y: Tensor) -> Tensor:
        """The mean over the targets."""
        return _cross_entropy(self, pred, y[0], self.eps)

    def _unreduced(self, pred: Tensor, targ: Tensor) -> Tensor:
        return _summands(self, pred, targ, self.eps, "none")

    def weight(self, *y: Tensor) -> int | Tensor:
        """The number of targets, or the sum of their class weights."""
        return _class_weight_sum(self, y[0])


@declared()
@final
class FocalLossFlat(_ClassLoss):
    """Cross-entropy times (1 - p)**gamma, p the probability of the target: easy samples count less.

    Lin et al.: Focal Loss for Dense Object Detection, arXiv 1708.02002. The class weight is the paper's
    alpha: it multiplies the loss and stays out of p, and the mean is over the number of targets (fastai puts
    it into p as well).

    Args:
        gamma: how much easy samples are discounted; 0 is cross-entropy.
        axis: where the classes stand in the output.
        weight: weight of each class, shape (C,).
        ignore_index: target that does not count; None means that every target counts.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        axis: int = -1,
        weight: Sequence[float] | Tensor | None = None,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(axis, weight, ignore_index)
        if gamma < 0:
            raise ArgumentError(f"gamma={gamma} would favour easy samples", do="pass 0 or more, such as 2")
        self.gamma = gamma

    def forward(self, pred: Tensor, *y: Tensor) -> Tensor:
        """The mean over the targets that count; 0 where none does."""
        loss = self._unreduced(*self._flat(pred, y[0]))
        if self.ignore_index is None:
            return loss.mean()
        return loss.sum() / _at_least_one(self._counted(y[0]))

    def _unreduced(self, pred: Tensor, targ: Tensor) -> Tensor:
        ignore = _NO_TARGET if self.ignore_index is None else self.ignore_index
        entropy = F.cross_entropy(pred, targ, ignore_index=ignore, reduction="none")
        # 1 - p, exact for p near 1; the clamp keeps the slope of the power finite there.
        missing = (-torch.expm1(-entropy)).clamp_min(torch.finfo(entropy.dtype).tiny)
        loss = missing**self.gamma * entropy
        return loss if self.class_weight is None else loss * self._weight_of(targ)

    def _shares(self, targ: Tensor) -> Tensor:
        # The mean of this loss is over the number of targets.
        return torch.ones_like(targ) if self.ignore_index is None else targ != self.ignore_index

    def weight(self, *y: Tensor) -> int | Tensor:
        """The number of targets that count."""
        return self._counted(y[0])


def _cross_entropy(loss: _ClassLoss, pred: Tensor, targ: Tensor, smoothing: float) -> Tensor:
    pred, targ = loss._flat(pred, targ)
    if loss.ignore_index is None and loss.class_weight is None:
        return F.cross_entropy(pred, targ, ignore_index=_NO_TARGET, label_smoothing=smoothing)
    total = _summands(loss, pred, targ, smoothing, "sum")
    # Not torch's mean: a grain in which nothing counts would give 0 / 0, and poison the others.
    return total / _at_least_one(_class_weight_sum(loss, targ))


def _summands(loss: _ClassLoss, pred: Tensor, targ: Tensor, smoothing: float, reduction: str) -> Tensor:
    ignore = _NO_TARGET if loss.ignore_index is None else loss.ignore_index
    return F.cross_entropy(
        pred, targ, loss.class_weight, ignore_index=ignore, reduction=reduction, label_smoothing=smoothing
    )


def _class_weight_sum(loss: _ClassLoss, targ: Tensor) -> int | Tensor:
    if loss.class_weight is None:
        return loss._counted(targ)
    return loss._weight_of(targ).sum()


def _at_least_one(count: int | Tensor) -> int | Tensor:
    """The count, with 1 in place of 0, without reading it."""
    if isinstance(count, int):
        return max(count, 1)
    return count.where(count > 0, 1)


class _ElementLoss(Loss):
    """What losses over pairs of numbers share: outputs and targets of one shape."""

    @abc.abstractmethod
    def _reduced(self, pred: Tensor, targ: Tensor, reduction: str) -> Tensor:
        """The loss of a pair, ``mean`` or ``none``."""

    def forward(self, pred: Tensor, *y: Tensor) -> Tensor:
        """The mean over all numbers."""
        return self._reduced(*_pair(pred, y[0]), "mean")

    def each(self, pred: Tensor, *y: Tensor) -> Tensor:
        """The loss of each sample, shape (B,): the mean over the sample's numbers."""
        return self._reduced(*_pair(pred, y[0]), "none").reshape(len(y[0]), -1).mean(1)

    def check(self, pred: Tensor, *y: Tensor) -> None:
        """Refuse shapes that would only fit by broadcasting; see ``Loss.check``."""
        one_tensor(type(self).__name__, pred)
        check_one_target(type(self).__name__, y)
        check_numbers(type(self).__name__, pred, y[0])


def _pair(pred: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and targets in one shape and floating type, without broadcasting."""
    if targ.shape != pred.shape:
        targ = targ.reshape(pred.shape)
    if targ.dtype is not pred.dtype:
        if pred.dtype in {torch.float16, torch.bfloat16}:  # rounding the targets would lose digits
            pred = pred.float()
        targ = targ.to(pred.dtype)
    return pred, targ


@declared()
@final
class BCEWithLogitsLossFlat(_ElementLoss):
    """Binary cross-entropy of scores before the sigmoid: several labels a sample, or one yes or no.

    Args:
        thresh: probability above which ``decodes`` says yes.
        pos_weight: weight of the positive answer of each label, shape (C,).
    """

    pos_weight: Tensor | None

    def __init__(self, thresh: float = 0.5, pos_weight: Sequence[float] | Tensor | None = None) -> None:
        super().__init__()
        self.thresh = thresh
        tensor = None if pos_weight is None else torch.as_tensor(pos_weight, dtype=torch.get_default_dtype())
        self.register_buffer("pos_weight", tensor, persistent=False)

    def _reduced(self, pred: Tensor, targ: Tensor, reduction: str) -> Tensor:
        return F.binary_cross_entropy_with_logits(pred, targ, pos_weight=self.pos_weight, reduction=reduction)

    def activation(self, pred: Tensor) -> Tensor:
        """Probabilities, one for each label."""
        return pred.sigmoid()

    def decodes(self, pred: Tensor) -> Tensor:
        """True where the probability is above ``thresh``."""
        return pred > self.thresh

    def check(self, pred: Tensor, *y: Tensor) -> None:
        """Refuse other shapes, and targets outside [0, 1]; see ``Loss.check``."""
        _ElementLoss.check(self, pred, *y)
        check_probabilities(type(self).__name__, pred, y[0])


@declared()
@final
class MSELossFlat(_ElementLoss):
    """Mean squared error; (B, 1) and (B,) are compared number by number, never broadcast."""

    def __init__(self) -> None:
        super().__init__()

    def _reduced(self, pred: Tensor, targ: Tensor, reduction: str) -> Tensor:
        return F.mse_loss(pred, targ, reduction=reduction)


@declared()
@final
class L1LossFlat(_ElementLoss):
    """Mean absolute error; (B, 1) and (B,) are compared number by number, never broadcast."""

    def __init__(self) -> None:
        super().__init__()

    def _reduced(self, pred: Tensor, targ: Tensor, reduction: str) -> Tensor:
        return F.l1_loss(pred, targ, reduction=reduction)
