"""Metrics from counts: for each class how often it was said, true, and both.

Checked against scikit-learn: F1, precision and recall, for one class a target and for several labels a
sample, and the overlap of masks (Dice, Jaccard). The counts are integers on the device, so any cut into
batches gives the same value.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from surefast.errors import ArgumentError, TaskError
from surefast.recipe.call import declared
from surefast.task.metric import Metric, like, winners

Average: TypeAlias = Literal["binary", "micro", "macro", "weighted"]
Array: TypeAlias = npt.NDArray[np.float64]


def _ratio(above: Array, below: Array) -> Array:
    """0 where nothing stands below, as scikit-learn's default."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _precision(hit: Array, said: Array, true: Array) -> Array:
    return _ratio(hit, said)


def _recall(hit: Array, said: Array, true: Array) -> Array:
    return _ratio(hit, true)


def _f_beta(hit: Array, said: Array, true: Array, beta: float = 1.0) -> Array:
    return _ratio((1 + beta**2) * hit, said + beta**2 * true)


def _jaccard(hit: Array, said: Array, true: Array) -> Array:
    return _ratio(hit, said + true - hit)


class _Counts(Metric):
    """What scores of classes share: for each class how often it was hit, said and true."""

    higher_is_better = True

    def __init__(self, name: str, score: Callable[[Array, Array, Array], Array], average: str) -> None:
        if average not in {"binary", "micro", "macro", "weighted"}:
            raise ArgumentError(
                f"average={average!r} of {type(self).__name__} is not known, or gives more than one number",
                do="pass 'binary', 'micro', 'macro' or 'weighted'; for each class use "
                "ClassificationInterpretation",
            )
        self.name = name
        self._score = score
        self._average = average
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._state: Tensor | None = None

    def _add(self, counts: Tensor) -> None:
        self._state = counts if self._state is None else self._state + counts

    def _averaged(self, labels: Sequence[int] | None, pos_label: int) -> float:
        if self._state is None:
            return math.nan
        counts = self._state.cpu().numpy().astype(np.float64)
        if self._average == "binary":
            return float(self._score(*counts[:, [pos_label]])[0])
        # Without labels= the classes that occur, said or true: scikit-learn's rule.
        chosen = np.flatnonzero(counts[1] + counts[2]) if labels is None else np.asarray(labels)
        hit, said, true = counts[:, chosen]
        if not len(chosen) or (self._average == "weighted" and not true.sum()):
            return math.nan if not len(chosen) else 0.0
        if self._average == "micro":
            return float(self._score(*counts[:, chosen].sum(1, keepdims=True))[0])
        return float(
            np.average(self._score(hit, said, true), weights=true if self._average == "weighted" else None)
        )


class _ClassScore(_Counts):
    """Scores of one class a target: the highest output says which."""

    def __init__(
        self,
        name: str,
        score: Callable[[Array, Array, Array], Array],
        *,
        axis: int,
        average: str,
        labels: Sequence[int] | None = None,
        pos_label: int = 1,
    ) -> None:
        super().__init__(name, score, average)
        self._axis = axis
        self._labels = labels
        self._pos_label = pos_label

    def update(self, pred: Tensor, *y: Tensor) -> None:
        """Count one batch."""
        winner, targ = winners(pred.detach(), self._one_target(y), self._axis, type(self).__name__)
        n_classes = pred.shape[self._axis]
        if self._average == "binary" and n_classes > 2:
            raise TaskError(
                f"{type(self).__name__} with average='binary' is for two classes, and the model tells "
                f"{n_classes} apart",
                do=_BINARY_REMEDY.get(type(self).__name__, "pass average='macro', 'micro' or 'weighted'"),
            )
        winner, targ = winner.reshape(-1), targ.reshape(-1).long()
        kept = self._kept(targ)
        ones = torch.ones_like(targ) if kept is None else kept.long()
        targ = targ if kept is None else targ.where(kept, 0)
        counts = torch.zeros(3, n_classes, dtype=torch.int64, device=pred.device)
        counts[0].index_add_(0, targ, (winner == targ) * ones)
        counts[1].index_add_(0, winner, ones)
        counts[2].index_add_(0, targ, ones)
        self._add(counts)

    def value(self) -> float:
        """The average asked for; classes that never occur do not count unless in ``labels``."""
        return self._averaged(self._labels, self._pos_label)


_BINARY_REMEDY: Final = {"Dice": "use DiceMulti()", "JaccardCoeff": "use JaccardCoeffMulti()"}


class _LabelScore(_Counts):
    """Scores of several labels a sample: every output is one yes or no."""

    def __init__(
        self,
        name: str,
        score: Callable[[Array, Array, Array], Array],
        *,
        thresh: float,
        sigmoid: bool,
        labels: Sequence[int] | None,
        average: str,
    ) -> None:
        super().__init__(name, score, average)
        if average == "binary":
            raise ArgumentError(
                f"{type(self).__name__} averages over labels, and average='binary' has one",
                do="pass average='macro', 'micro' or 'weighted'",
            )
        self._thresh = thresh
        self._sigmoid = sigmoid
        self._labels = labels

    def update(self, pred: Tensor, *y: Tensor) -> None:
        """Count one batch."""
        pred = pred.detach()
        targ = like(pred, self._one_target(y), type(self).__name__, "give one target for each output").bool()
        said = (pred.sigmoid() if self._sigmoid else pred) > self._thresh
        rows = torch.stack([said & targ, said, targ])
        self._add(rows.reshape(3, -1, pred.shape[-1]).sum(1))

    def value(self) -> float:
        """The average asked for, over all labels or ``labels``."""
        n_labels = 0 if self._state is None else self._state.shape[1]
        return self._averaged(range(n_labels) if self._labels is None else self._labels, 1)


@declared()
@final
class Precision(_ClassScore):
    """Of the times a class was said, how often it was true.

    Args:
        axis: where the classes stand in the output.
        labels: the classes to average over; None for all that occur.
        pos_label: the class scored with ``average="binary"``.
        average: "binary" for two classes, else "macro", "micro" or "weighted", as in scikit-learn.
    """

    def __init__(
        self,
        axis: int = -1,
        labels: Sequence[int] | None = None,
        pos_label: int = 1,
        average: Average = "binary",
    ) -> None:
        super().__init__(
            "precision_score", _precision, axis=axis, labels=labels, pos_label=pos_label, average=average
        )


@declared()
@final
class Recall(_ClassScore):
    """Of the times a class was true, how often it was said; arguments as in ``Precision``."""

    def __init__(
        self,
        axis: int = -1,
        labels: Sequence[int] | None = None,
        pos_label: int = 1,
        average: Average = "binary",
    ) -> None:
        super().__init__(
            "recall_score", _recall, axis=axis, labels=labels, pos_label=pos_label, average=average
        )


@declared()
@final
class F1Score(_ClassScore):
    """Harmonic mean of precision and recall; arguments as in ``Precision``."""

    def __init__(
        self,
        axis: int = -1,
        labels: Sequence[int] | None = None,
        pos_label: int = 1,
        average: Average = "binary",
    ) -> None:
        super().__init__("f1_score", _f_beta, axis=axis, labels=labels, pos_label=pos_label, average=average)


@declared()
@final
class FBeta(_ClassScore):
    """As ``F1Score``, with recall ``beta`` times as important as precision."""

    def __init__(
        self,
        beta: float,
        axis: int = -1,
        labels: Sequence[int] | None = None,
        pos_label: int = 1,
        average: Average = "binary",
    ) -> None:
        score = functools.partial(_f_beta, beta=beta)
        super().__init__("fbeta_score", score, axis=axis, labels=labels, pos_label=pos_label, average=average)


@declared()
@final
class Dice(_ClassScore):
    """2 |A & B| / (|A| + |B|) of the pixels of class 1, over all images together; two classes.

    Args:
        axis: where the classes stand in the output (B, 2, H, W).
    """

    def __init__(self, axis: int = 1) -> None:
        super().__init__("dice", _f_beta, axis=axis, average="binary")


@declared()
@final
class JaccardCoeff(_ClassScore):
    """|A & B| / |A or B| of the pixels of class 1, over all images together; arguments as in ``Dice``."""

    def __init__(self, axis: int = 1) -> None:
        super().__init__("jaccard_coeff", _jaccard, axis=axis, average="binary")


@declared()
@final
class DiceMulti(_ClassScore):
    """The mean of ``Dice`` over the classes that occur; arguments as in ``Dice``."""

    def __init__(self, axis: int = 1) -> None:
        super().__init__("dice_multi", _f_beta, axis=axis, average="macro")


@declared()
@final
class JaccardCoeffMulti(_ClassScore):
    """The mean of ``JaccardCoeff`` over the classes that occur; arguments as in ``Dice``."""

    def __init__(self, axis: int = 1) -> None:
        super().__init__("jaccard_coeff_multi", _jaccard, axis=axis, average="macro")


@declared()
@final
class PrecisionMulti(_LabelScore):
    """``Precision`` for several labels a sample.

    Args:
        thresh: above it the answer is yes.
        sigmoid: whether the outputs need it.
        labels: the labels to average over; None for all.
        average: "macro", "micro" or "weighted", as in scikit-learn.
    """

    def __init__(
        self,
        thresh: float = 0.5,
        sigmoid: bool = True,
        labels: Sequence[int] | None = None,
        average: Average = "macro",
    ) -> None:
        super().__init__(
            "precision_score", _precision, thresh=thresh, sigmoid=sigmoid, labels=labels, average=average
        )


@declared()
@final
class RecallMulti(_LabelScore):
    """``Recall`` for several labels a sample; arguments as in ``PrecisionMulti``."""

    def __init__(
        self,
        thresh: float = 0.5,
        sigmoid: bool = True,
        labels: Sequence[int] | None = None,
        average: Average = "macro",
    ) -> None:
        super().__init__(
            "recall_score", _recall, thresh=thresh, sigmoid=sigmoid, labels=labels, average=average
        )


@declared()
@final
class F1ScoreMulti(_LabelScore):
    """``F1Score`` for several labels a sample; arguments as in ``PrecisionMulti``."""

    def __init__(
        self,
        thresh: float = 0.5,
        sigmoid: bool = True,
        labels: Sequence[int] | None = None,
        average: Average = "macro",
    ) -> None:
        super().__init__("f1_score", _f_beta, thresh=thresh, sigmoid=sigmoid, labels=labels, average=average)
