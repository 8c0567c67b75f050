"""Losses of users and of torch, as a ``Loss``.

This file knows nothing of data or training.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias, final

import torch.nn.functional as F
from torch import Tensor, nn

from surefast.errors import ArgumentError, TaskError
from surefast.recipe.call import declared
from surefast.task.loss import BCEWithLogitsLossFlat, CrossEntropyLossFlat, L1LossFlat, Loss, MSELossFlat

LossFunction: TypeAlias = Callable[..., Any]
"""``(pred, *targets) -> scalar``: the mean over the rows of a batch."""


@declared()
@final
class UserLoss(Loss):
    """A loss written by a user: the mean over the rows of a batch.

    Args:
        func: ``(pred, *targets) -> scalar``. Its ``activation`` and ``decodes`` are used where it has them.
    """

    def __init__(self, func: LossFunction) -> None:
        super().__init__()
        self.func = func
        self._activation: Callable[[Tensor], Tensor] | None = getattr(func, "activation", None)
        self._decodes: Callable[[Tensor], Tensor] | None = getattr(func, "decodes", None)

    def forward(self, pred: Tensor, *y: Tensor) -> Tensor:
        """What the function gives.

        Raises:
            TaskError: when that is not one number.
        """
        loss = self.func(pred, *y)
        if not isinstance(loss, Tensor) or loss.ndim != 0:
            found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise TaskError(
                f"the loss {_name_of(self.func)} must give one number, the mean over the rows",
                do="end it with .mean(), or build it with reduction='mean'",
                found=found,
            )
        return loss

    def weight(self, *y: Tensor) -> int:
        """The number of rows."""
        if not y:
            raise TaskError(
                f"the loss {_name_of(self.func)} got no target, so the number of its rows is not known",
                do="give the batch a target, such as the input itself",
            )
        return len(y[0])

    def activation(self, pred: Tensor) -> Tensor:
        """The function's own activation; without one the outputs themselves."""
        return pred if self._activation is None else self._activation(pred)

    def decodes(self, pred: Tensor) -> Tensor:
        """The function's own decoding; without one the outputs themselves."""
        return pred if self._decodes is None else self._decodes(pred)

    def check(self, pred: Tensor, *y: Tensor) -> None:
        """Refuse a batch without a target; the rest is the user's, whose result is checked in ``forward``."""
        self.weight(*y)


def as_loss(loss_func: LossFunction) -> Loss:
    """The loss that a user meant: one of ours, one of torch's with its activation, or a function.

    ``nn.CrossEntropyLoss``, ``nn.BCEWithLogitsLoss``, ``nn.MSELoss``, ``nn.L1Loss`` and their functions are
    recognised. Any other function or module is taken to give the mean over the rows.

    Raises:
        ArgumentError: for a class in place of an object, or a loss that does not give a mean.
    """
    if isinstance(loss_func, Loss):
        return loss_func
    if inspect.isclass(loss_func):
        name = loss_func.__name__
        raise ArgumentError(f"loss_func={name} is a class", do=f"make the loss: loss_func={name}()")
    if not callable(loss_func):
        raise ArgumentError(
            f"loss_func={loss_func!r} cannot be called",
            do="pass a loss such as CrossEntropyLossFlat(), or a function of (pred, targ)",
        )
    reduction = getattr(loss_func, "reduction", "mean")
    if reduction != "mean":
        raise ArgumentError(
            f"the loss {_name_of(loss_func)} has reduction={reduction!r}, and training needs the mean",
            do="build it with reduction='mean'; the exact weighting of uneven batches is done for you",
        )
    return _from_torch(loss_func) or UserLoss(loss_func)


def _from_torch(func: LossFunction) -> Loss | None:
    # By exact type: a subclass may do anything.
    made: Loss | None = None
    if type(func) is nn.CrossEntropyLoss:
        made = CrossEntropyLossFlat(1, func.weight, func.ignore_index, func.label_smoothing)
    elif func is F.cross_entropy:
        made = CrossEntropyLossFlat(1, ignore_index=-100)
    elif type(func) is nn.BCEWithLogitsLoss and func.weight is None:
        made = BCEWithLogitsLossFlat(pos_weight=func.pos_weight)
    elif func is F.binary_cross_entropy_with_logits:
        made = BCEWithLogitsLossFlat()
    elif type(func) is nn.MSELoss or func is F.mse_loss:
        made = MSELossFlat()
    elif type(func) is nn.L1Loss or func is F.l1_loss:
        made = L1LossFlat()
    return made


def _name_of(func: object) -> str:
    return str(getattr(func, "__name__", type(func).__name__))
