"""Checks of the first batch: do the targets fit the outputs, and if not, what would.

They read values back from the device, so they stand outside of the losses' hot path.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from surefast.errors import TaskError


def check_one_target(name: str, y: Sequence[Tensor]) -> None:
    """Refuse a batch with no target or several, for a loss ``name`` that takes one."""
    if len(y) == 1:
        return
    raise TaskError(
        f"{name} compares the output with one target, and a batch has {len(y)}",
        do="pass loss_func= with a function of (pred, *targets), or set n_inp= of the DataBlock",
    )


def check_classes(
    name: str, pred: Tensor, targ: Tensor, *, axis: int, ignore_index: int | None, n_weights: int | None
) -> None:
    """Refuse targets that are no class numbers of the outputs.

    Args:
        name: of the loss.
        pred: scores, the classes on ``axis``.
        targ: class numbers.
        axis: where the classes stand.
        ignore_index: a target that does not count.
        n_weights: number of class weights.
    """
    if targ.is_floating_point():
        raise TaskError(
            f"{name} needs the number of a class as target, and the targets are floats",
            do="use CategoryBlock for classes, or for float targets loss_func=MSELossFlat() or "
            "BCEWithLogitsLossFlat()",
            found=_shapes(pred, targ),
        )
    if not _classes_fit(pred, targ, axis):
        raise TaskError(
            f"{name} needs one target for each row of class scores (axis={axis})",
            do=_shape_remedy(name, pred, targ, axis),
            found=_shapes(pred, targ),
        )
    n_out = pred.shape[axis]
    if n_weights not in {None, n_out}:
        raise TaskError(
            f"{name} got {n_weights} class weights, and the model gives {n_out} scores",
            do="pass one weight for each class, in the order of the vocabulary",
            found=_shapes(pred, targ),
        )
    counted = targ if ignore_index is None else targ[targ != ignore_index]
    if counted.numel():
        _check_range(name, pred, counted, n_out)


def _check_range(name: str, pred: Tensor, targ: Tensor, n_out: int) -> None:
    low, high = int(targ.min()), int(targ.max())
    if high >= n_out:
        raise TaskError(
            f"the model gives {n_out} class scores, and the targets go up to class {high}",
            do=f"give the head {high + 1} or more outputs (n_out=dls.c), or pass ignore_index= for a "
            "number that is no class",
            found=_shapes(pred, targ),
        )
    if low < 0:
        raise TaskError(
            f"{name} got the target {low}, which is no class",
            do=f"pass ignore_index={low} to CrossEntropyLossFlat where it marks targets that do not count",
            found=_shapes(pred, targ),
        )


def check_numbers(name: str, pred: Tensor, targ: Tensor) -> None:
    """Refuse shapes that would only fit by broadcasting."""
    if squeezed(pred.shape) == squeezed(targ.shape):
        return
    n_out = math.prod(targ.shape[1:])
    raise TaskError(
        f"{name} compares number with number, and outputs and targets differ in shape",
        do=f"give the head {n_out} output{'s' if n_out > 1 else ''} (n_out={n_out}), or for classes "
        "use CrossEntropyLossFlat()",
        found=_shapes(pred, targ),
        expected=f"outputs {tuple(targ.shape)}",
    )


def check_probabilities(name: str, pred: Tensor, targ: Tensor) -> None:
    """Refuse targets outside of [0, 1]."""
    low, high = float(targ.min()), float(targ.max())
    if low < 0 or high > 1:
        raise TaskError(
            f"{name} needs targets from 0 to 1, and they go from {low:g} to {high:g}",
            do="for classes use CrossEntropyLossFlat(), for numbers MSELossFlat()",
            found=_shapes(pred, targ),
        )


def squeezed(shape: Sequence[int]) -> list[int]:
    """A shape without dimensions of size 1, but for the batch."""
    return [*shape[:1], *(size for size in shape[1:] if size != 1)]


def _classes_fit(pred: Tensor, targ: Tensor, axis: int) -> bool:
    if not -pred.ndim <= axis < pred.ndim or pred.ndim < 2:
        return False
    rows = list(pred.shape)
    del rows[axis]
    return squeezed(rows) == squeezed(targ.shape)


def _shape_remedy(name: str, pred: Tensor, targ: Tensor, axis: int) -> str:
    for other in (1, -1):
        if other not in {axis, axis - pred.ndim} and _classes_fit(pred, targ, other):
            return f"the classes stand on axis {other}: {name}(axis={other})"
    if targ.shape == pred.shape and pred.ndim > 1:
        return "for several labels a sample use MultiCategoryBlock or loss_func=BCEWithLogitsLossFlat()"
    return "make the model give (batch, classes), and for pixels (batch, classes, height, width) with axis=1"


def _shapes(pred: Tensor, targ: Tensor) -> str:
    return f"outputs {tuple(pred.shape)}, targets {tuple(targ.shape)} of {targ.dtype}"
