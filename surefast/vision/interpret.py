"""What a trained model gets wrong: the worst items, the confused classes, the report by class.

Predictions are made once, when the object is made, and kept. This file must not train anything.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from surefast.data.dataloaders import AnyLoader
from surefast.errors import ArgumentError, DataError, MissingExtraError, TaskError
from surefast.learner import Learner
from surefast.recipe.call import declared

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 3
"""Pictures in a row of a figure."""


class TopLosses(NamedTuple):
    """The items with the largest (or smallest) losses, in order."""

    losses: Tensor
    """Shape (k,)."""

    idxs: Tensor
    """Positions of the items in their data set, shape (k,)."""

    items: tuple[str, ...]
    """Names of the items: files, where they come from files."""


@declared(skip={"preds", "targets", "losses", "decoded", "vocab", "dl"})
class Interpretation:
    """Predictions over a data set, with what is needed to look at single items.

    Args:
        preds: activated predictions, shape (N, ...).
        targets: shape (N, ...).
        losses: of each item, shape (N,).
        decoded: predictions as decisions, such as positions of classes, shape (N, ...).
        vocab: names of the classes; empty where there are none.
        dl: the loader that the items came from.
    """

    def __init__(
        self, preds: Tensor, targets: Tensor, losses: Tensor, decoded: Tensor,
        *, vocab: Sequence[str], dl: AnyLoader,
    ) -> None:  # fmt: skip
        self.preds, self.targets, self.losses, self.decoded = preds, targets, losses, decoded
        self.vocab, self.dl = tuple(vocab), dl

    @classmethod
    @declared(skip={"learn", "dl"})
    def from_learner(cls, learn: Learner, ds_idx: int = 1, dl: AnyLoader | None = None) -> Self:
        """Predict once over the validation data, or over another loader.

        Args:
            learn: the trained learner.
            ds_idx: 0 for the training data, 1 for the validation data.
            dl: another loader, with targets.

        Raises:
            TaskError: the loader has no targets.
            DataError: items were left out of the loader, so that predictions have no names.
        """
        if dl is None and ds_idx >= len(learn.dls.loaders):
            raise ArgumentError("there is no validation data to interpret", do="pass ds_idx=0 or dl=")
        source = learn.dls.loaders[ds_idx].plain() if dl is None else dl
        preds, targets, losses = learn.get_preds(ds_idx, dl, with_loss=True)
        if targets is None:
            raise TaskError(
                "the loader has no targets to compare with", do="pass a loader made with with_labels=True"
            )
        if len(preds) != source.n:
            raise DataError(
                f"{len(preds)} of {source.n} items were predicted, so it is not known which is which",
                do='use a loader with on_error="raise" and drop_last=False',
            )
        return cls(
            preds, targets, losses, learn.loss_func.decodes(preds), vocab=learn.dls.vocab, dl=source
        )  # fmt: skip

    @declared()
    def top_losses(self, k: int | None = None, largest: bool = True) -> TopLosses:
        """The items with the largest losses, the worst first; equal losses in the order of the items.

        Args:
            k: how many; all where None.
            largest: False gives the smallest losses instead.
        """
        count = len(self.losses) if k is None else min(k, len(self.losses))
        order = torch.sort(self.losses, descending=largest, stable=True).indices[:count]
        return TopLosses(
            self.losses[order], order, tuple(self.dl.item_name(i) for i in order.tolist())
        )  # fmt: skip

    @declared()
    def plot_top_losses(
        self, k: int = 9, largest: bool = True, figsize: tuple[float, float] | None = None
    ) -> Figure:
        """A figure of the items with the largest losses, each with its file.

        Above each stand predicted / actual / loss / probability.

        Args:
            k: how many.
            largest: False shows the smallest losses instead.
            figsize: width and height, inches; chosen by the number of pictures where None.
        """
        top = self.top_losses(k, largest)
        if not len(top.idxs):
            raise ArgumentError(f"k={k}: there is nothing to show", do="pass k of 1 or more")
        columns = min(_COLUMNS, len(top.idxs))
        rows = math.ceil(len(top.idxs) / columns)
        figure = _new_figure(figsize or (3.2 * columns, 3.4 * rows + 0.5))
        figure.suptitle("predicted / actual / loss / probability")
        for place, (index, loss, name) in enumerate(
            zip(top.idxs.tolist(), top.losses.tolist(), top.items, strict=True), start=1
        ):
            axes = figure.add_subplot(rows, columns, place)
            _show(axes, self.dl.dataset[index][0])
            axes.set_title(f"{self._title(index, loss)}\n{Path(name).name}", fontsize=9)
        return figure

    def _title(self, index: int, loss: float) -> str:
        predicted, actual = self._named(self.decoded[index]), self._named(self.targets[index])
        return f"{predicted} / {actual} / {loss:.2f}"

    def _named(self, value: Tensor) -> str:
        """A decision or target as a person reads it."""
        if value.ndim == 0 and self.vocab and not value.is_floating_point():
            return self.vocab[int(value)]
        if value.ndim == 1 and self.vocab and len(value) == len(self.vocab):
            on = [name for name, flag in zip(self.vocab, value.tolist(), strict=True) if flag]
            return ";".join(on) or "none"
        return ", ".join(f"{number:.3g}" for number in value.flatten().tolist()[:4])


class ClassificationInterpretation(Interpretation):
    """What a classifier of one class an item gets wrong.

    The arguments are those of ``Interpretation``.

    Raises:
        TaskError: the targets are no classes.
    """

    def __init__(
        self, preds: Tensor, targets: Tensor, losses: Tensor, decoded: Tensor,
        *, vocab: Sequence[str], dl: AnyLoader,
    ) -> None:  # fmt: skip
        super().__init__(preds, targets, losses, decoded, vocab=vocab, dl=dl)
        if preds.ndim != 2 or targets.ndim != 1 or targets.is_floating_point() or decoded.ndim != 1:
            raise TaskError(
                f"targets of {tuple(targets.shape)} for predictions of {tuple(preds.shape)} are no classes",
                do="use Interpretation.from_learner(learn) for other tasks",
            )
        self.vocab = self.vocab or tuple(map(str, range(preds.shape[1])))

    def _title(self, index: int, loss: float) -> str:
        probability = self.preds[index, self.decoded[index]]
        return f"{super()._title(index, loss)} / {probability:.2f}"

    @declared()
    def confusion_matrix(self) -> npt.NDArray[np.int64]:
        """How often each actual class (row) was predicted as each class (column): (C, C)."""
        count = len(self.vocab)
        pairs = self.targets.numpy().astype(np.int64) * count + self.decoded.numpy()
        return np.bincount(pairs, minlength=count * count).reshape(count, count)

    @declared()
    def plot_confusion_matrix(
        self, normalize: bool = False, figsize: tuple[float, float] | None = None, cmap: str = "Blues"
    ) -> Figure:
        """A figure of the confusion matrix, each cell with its number.

        Args:
            normalize: whether a row shows shares of its class instead of counts.
            figsize: width and height, inches; chosen by the number of classes where None.
            cmap: matplotlib's name of the colours.
        """
        matrix: npt.NDArray[Any] = self.confusion_matrix()
        if normalize:
            matrix = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        side = max(4.0, 0.55 * len(self.vocab) + 2)
        figure = _new_figure(figsize or (side, side))
        axes = figure.add_subplot()
        axes.imshow(matrix, cmap=cmap)
        ticks = range(len(self.vocab))
        axes.set_xticks(ticks, self.vocab, rotation=90)
        axes.set_yticks(ticks, self.vocab)
        axes.set(xlabel="predicted", ylabel="actual", title="confusion matrix")
        half = matrix.max() / 2
        for (row, column), number in np.ndenumerate(matrix):
            text = f"{number:.2f}" if normalize else str(number)
            axes.text(
                column, row, text, ha="center", va="center", color="white" if number > half else "black"
            )  # fmt: skip
        return figure

    @declared()
    def most_confused(self, min_val: int = 1) -> list[tuple[str, str, int]]:
        """Pairs of classes by how often one was taken for the other: (actual, predicted, count), most first.

        Args:
            min_val: the least count that is listed.
        """
        matrix = self.confusion_matrix()
        pairs = [
            (self.vocab[i], self.vocab[j], int(count))
            for (i, j), count in np.ndenumerate(matrix)
            if i != j and count >= max(min_val, 1)
        ]
        return sorted(pairs, key=lambda pair: -pair[2])

    @declared()
    def report(self) -> ClassificationReport:
        """Precision, recall and F1 of each class, and their means; ``str()`` of it is a table."""
        matrix = self.confusion_matrix()
        hits, actual, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
        precision, recall = _ratio(hits, predicted), _ratio(hits, actual)
        f1 = _ratio(2 * hits, actual + predicted)
        columns = np.stack([precision, recall, f1], axis=1)
        # Classes that stand neither in the targets nor in the predictions are no part of the means.
        seen = (actual + predicted) > 0
        total = int(actual.sum())

        def line(name: str, values: npt.NDArray[np.float64], support: int) -> ReportLine:
            return ReportLine(name, float(values[0]), float(values[1]), float(values[2]), support)

        return ClassificationReport(
            classes=tuple(
                line(self.vocab[i], columns[i], int(actual[i])) for i in range(len(self.vocab)) if seen[i]
            ),
            accuracy=float(hits.sum() / total),
            macro=line("macro avg", columns[seen].mean(axis=0), total),
            weighted=line("weighted avg", (columns * actual[:, None]).sum(axis=0) / total, total),
        )

    @declared()
    def print_classification_report(self) -> None:
        """Print ``report()``."""
        sys.stdout.write(f"{self.report()}\n")


class ReportLine(NamedTuple):
    """One line of a report."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    """How many items are of the class."""


@dataclass(frozen=True, kw_only=True)
class ClassificationReport:
    """Precision, recall and F1: of each class, and their means.

    A ratio without a denominator counts as 0, as in scikit-learn.
    """

    classes: tuple[ReportLine, ...]
    accuracy: float
    macro: ReportLine
    """The mean over classes."""

    weighted: ReportLine
    """The mean over items: classes weighted by their support."""

    def __str__(self) -> str:
        lines = [*self.classes, self.macro, self.weighted]
        width = max(len(line.name) for line in lines)
        head = f"{'':>{width}}  {'precision':>9}  {'recall':>9}  {'f1':>9}  {'support':>9}"
        body = [f"{n:>{width}}  {p:>9.3f}  {r:>9.3f}  {f:>9.3f}  {s:>9,}" for n, p, r, f, s in lines]
        return "\n".join([head, *body, f"{'accuracy':>{width}}  {self.accuracy:>9.3f}"])


def _ratio(top: npt.NDArray[Any], bottom: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    ratio = np.zeros(len(top))
    np.divide(top, bottom, out=ratio, where=bottom > 0)
    return ratio


def _new_figure(figsize: tuple[float, float]) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "matplotlib is not installed, and a figure was asked for", do="pip install 'surefast[report]'"
        ) from error
    return Figure(figsize=figsize, layout="constrained")


def _show(axes: Any, picture: Any) -> None:
    """Draw a picture (C, H, W): uint8, or floats that are stretched to what they span."""
    axes.set_axis_off()
    if not isinstance(picture, Tensor) or picture.ndim != 3:
        axes.text(0.5, 0.5, str(picture)[:80], ha="center", va="center", wrap=True)
        return
    plain = picture.as_subclass(Tensor).detach().cpu()
    if plain.is_floating_point():
        low, high = float(plain.min()), float(plain.max())
        plain = (plain - low) / max(high - low, 1e-12)
    image = plain.permute(1, 2, 0).numpy()
    if image.shape[2] == 3:
        axes.imshow(image)
    else:
        axes.imshow(image[:, :, 0], cmap="gray")
