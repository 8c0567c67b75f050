"""Blocks: what an element of a sample is, how it is opened, encoded, batched, and what task it sets.

A block holds no data and is never changed: fitting its encoding on training labels gives a new object.
This file must not know of images, nor of a model.
"""

from __future__ import annotations

import abc
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import Any, Final, final

import torch

from surefast.data.transform import Batches, Items
from surefast.errors import ArgumentError, LabelError, SurefastWarning, nearest
from surefast.recipe.call import declared
from surefast.task.loss import BCEWithLogitsLossFlat, CrossEntropyLossFlat, MSELossFlat
from surefast.task.task import Task

NA: Final = "#na#"
"""The class for labels that are missing or unknown, where ``add_na`` is asked for."""


class Encoder(abc.ABC):
    """From a raw label to what is batched, and back; made by ``Encoding.fit``."""

    vocab: tuple[str, ...] = ()
    task: Task | None = None

    @abc.abstractmethod
    def encode(self, value: Any) -> Any:
        """The element of a sample: an int, a float or a tensor.

        Raises:
            LabelError: the label was never announced.
        """

    @abc.abstractmethod
    def decode(self, element: Any) -> Any:
        """What a person reads: a label, several labels, a number."""


class Encoding(abc.ABC):
    """How labels become numbers, before any label was seen."""

    @abc.abstractmethod
    def fit(self, values: Sequence[Any]) -> Encoder:
        """The encoder for these labels, which are those of the training set alone."""


@declared()
class TransformBlock:
    """One element of a sample.

    Args:
        type_tfms: functions from an item's raw value to the element, in order: openers, converters. A file
            that cannot be opened raises ``FileError`` there.
        item_tfms: item transforms that this element brings with it, before the user's.
        batch_tfms: batch transforms that this element brings with it, before the user's.
        task: the task, where it is known without seeing labels.
        encoding: how labels become numbers, and the task with it.
    """

    def __init__(
        self,
        type_tfms: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None = None,
        item_tfms: Items | Iterable[Items] | None = None,
        batch_tfms: Batches | Iterable[Batches] | None = None,
        *,
        task: Task | None = None,
        encoding: Encoding | None = None,
    ) -> None:
        self.type_tfms: tuple[Callable[[Any], Any], ...] = (
            () if type_tfms is None else (type_tfms,) if callable(type_tfms) else tuple(type_tfms)
        )
        self.item_tfms = item_tfms
        self.batch_tfms = batch_tfms
        self.task = task
        self.encoding = encoding


@declared()
def CategoryBlock(  # noqa: N802  # fastai's name
    vocab: Iterable[Hashable] | None = None, sort: bool = True, add_na: bool = False
) -> TransformBlock:
    """One class for each item: cross-entropy over the classes.

    Args:
        vocab: the classes in their order; None takes those of the training items.
        sort: whether classes taken from the training items are sorted, or stand as they first appear.
        add_na: whether missing and unknown labels become a class ``#na#`` of their own, at position 0.

    Raises:
        LabelError: when data is made: a label is missing, or was never seen in training.
    """
    return TransformBlock(encoding=CategoryEncoding(_vocab(vocab), sort, add_na))


@declared()
def MultiCategoryBlock(  # noqa: N802  # fastai's name
    encoded: bool = False, vocab: Iterable[Hashable] | None = None, add_na: bool = False
) -> TransformBlock:
    """Any number of classes for each item: one yes or no for each class.

    Args:
        encoded: whether labels come as 0 and 1 for each class already; then ``vocab`` names the positions.
        vocab: the classes in their order; None takes those of the training items, sorted.
        add_na: whether unknown labels become a class ``#na#`` of their own, at position 0.

    Raises:
        ArgumentError: ``encoded`` without ``vocab``.
        LabelError: when data is made: a label was never seen in training.
    """
    if encoded and vocab is None:
        raise ArgumentError(
            "MultiCategoryBlock(encoded=True) needs to know what the positions stand for",
            do="pass vocab=[...] with one name for each position",
        )
    return TransformBlock(encoding=MultiCategoryEncoding(_vocab(vocab), encoded, add_na))


@declared()
def RegressionBlock(n_out: int | None = None) -> TransformBlock:  # noqa: N802  # fastai's name
    """One number or several for each item: mean squared error.

    Args:
        n_out: how many numbers; None counts those of the first training item.

    Raises:
        LabelError: when data is made: a value is no finite number, or there are more or fewer of them.
    """
    return TransformBlock(encoding=RegressionEncoding(n_out))


@final
class CategoryEncoding(Encoding):
    """One class for each item."""

    def __init__(self, vocab: tuple[Hashable, ...] | None, sort: bool, add_na: bool) -> None:
        self.vocab, self.sort, self.add_na = vocab, sort, add_na

    def fit(self, values: Sequence[Any]) -> Encoder:
        """The classes of these labels."""
        known = [value for value in values if not is_missing(value)]
        vocab = _names(self.vocab if self.vocab is not None else _unique(known, sort=self.sort))
        if len(vocab) < 2 and not self.add_na:
            what = f"only one class, {vocab[0]!r}" if vocab else "no class at all"
            raise LabelError(
                f"the {len(values)} training items have {what}",
                do="check the label function; for numbers use RegressionBlock()",
            )
        return CategoryEncoder(vocab, add_na=self.add_na, given=self.vocab is not None)


@final
class CategoryEncoder(Encoder):
    """A class to its position."""

    def __init__(self, vocab: tuple[str, ...], *, add_na: bool, given: bool = False) -> None:
        self.vocab = (NA, *vocab) if add_na else vocab
        self.add_na, self.given = add_na, given
        self.position = {name: i for i, name in enumerate(self.vocab)}
        self.task = Task(
            kind="category", loss=CrossEntropyLossFlat(), n_out=len(self.vocab), vocab=self.vocab
        )

    def encode(self, value: Any) -> int:
        """The position of the class."""
        if is_missing(value) and not self.add_na:
            raise LabelError(
                "an item has no label", do="drop it, or use CategoryBlock(add_na=True)", found=value
            )
        return _position(value, self.position, add_na=self.add_na, given=self.given)

    def decode(self, element: Any) -> str:
        """The name of the class."""
        return self.vocab[int(element)]


@final
class MultiCategoryEncoding(Encoding):
    """Several classes for each item."""

    def __init__(self, vocab: tuple[Hashable, ...] | None, encoded: bool, add_na: bool) -> None:
        self.vocab, self.encoded, self.add_na = vocab, encoded, add_na

    def fit(self, values: Sequence[Any]) -> Encoder:
        """The classes that these lists of labels name."""
        if self.vocab is not None:
            return MultiCategoryEncoder(
                _names(self.vocab), encoded=self.encoded, add_na=self.add_na, given=True
            )
        labels = [label for value in values for label in _several(value)]
        if not labels:
            raise LabelError(
                f"the {len(values)} training items have no labels", do="check the label function"
            )
        return MultiCategoryEncoder(_names(_unique(labels, sort=True)), encoded=False, add_na=self.add_na)


@final
class MultiCategoryEncoder(Encoder):
    """Classes to a vector of 0 and 1."""

    def __init__(self, vocab: tuple[str, ...], *, encoded: bool, add_na: bool, given: bool = False) -> None:
        self.vocab = (NA, *vocab) if add_na else vocab
        self.encoded, self.add_na, self.given = encoded, add_na, given
        self.position = {name: i for i, name in enumerate(self.vocab)}
        self.task = Task(
            kind="multicategory", loss=BCEWithLogitsLossFlat(), n_out=len(self.vocab), vocab=self.vocab
        )

    def encode(self, value: Any) -> torch.Tensor:
        """The float32 vector (classes,)."""
        if self.encoded:
            hot = torch.as_tensor(value, dtype=torch.float32).flatten()
            if len(hot) != len(self.vocab):
                raise LabelError(
                    f"an item has {len(hot)} values for {len(self.vocab)} classes",
                    do="give one value, 0 or 1, for each name of vocab",
                )
            return hot
        hot = torch.zeros(len(self.vocab))
        for label in _several(value):
            hot[_position(label, self.position, add_na=self.add_na, given=self.given)] = 1.0
        return hot

    def decode(self, element: Any) -> tuple[str, ...]:
        """The names of the classes that are on."""
        return tuple(name for name, on in zip(self.vocab, element, strict=True) if float(on) > 0.5)


@final
class RegressionEncoding(Encoding):
    """Numbers."""

    def __init__(self, n_out: int | None) -> None:
        self.n_out = n_out

    def fit(self, values: Sequence[Any]) -> Encoder:
        """Counts the numbers of the first item, unless told."""
        if self.n_out is not None:
            return RegressionEncoder(self.n_out, single=self.n_out == 1 and not _is_sequence(values[0]))
        return RegressionEncoder(_numbers(values[0]).numel(), single=not _is_sequence(values[0]))


@final
class RegressionEncoder(Encoder):
    """A number to float32, several to a float32 vector."""

    def __init__(self, n_out: int, *, single: bool) -> None:
        self.n_out, self.single = n_out, single
        self.task = Task(kind="regression", loss=MSELossFlat(), n_out=n_out)

    def encode(self, value: Any) -> float | torch.Tensor:
        """The number, or the vector (n_out,)."""
        numbers = _numbers(value)
        if numbers.numel() != self.n_out:
            raise LabelError(
                f"an item has {numbers.numel()} numbers, where {self.n_out} were expected",
                do="give every item the same number of values, or set RegressionBlock(n_out=...)",
            )
        if not torch.isfinite(numbers).all():
            raise LabelError(
                f"the target {value!r} is no finite number", do="drop such items or fill their values in"
            )
        return float(numbers) if self.single else numbers.flatten()

    def decode(self, element: Any) -> float | tuple[float, ...]:
        """The number, or a tuple of numbers."""
        values = torch.as_tensor(element).float().flatten().tolist()
        return values[0] if self.single else tuple(values)


def warn_lonely(values: Iterable[Any], others: Collection[Any]) -> None:
    """Warn of classes with a single item: it is trained on and never tested.

    Args:
        values: the training labels, one class each.
        others: the validation labels.
    """
    counts = Counter(str(value) for value in values)
    counts.update(str(value) for value in others)
    lonely = sorted(label for label, count in counts.items() if count == 1)
    if lonely:
        shown = ", ".join(map(repr, lonely[:5])) + (", ..." if len(lonely) > 5 else "")
        warnings.warn(
            f"{len(lonely)} of {len(counts)} classes have a single item ({shown}): it is trained on, and "
            "nothing is left to validate the class with. Add items, or leave such classes out.",
            SurefastWarning,
            stacklevel=2,
        )


def is_missing(value: Any) -> bool:
    """Whether a label is None or not a number."""
    return value is None or (isinstance(value, float) and value != value)


def _vocab(vocab: Iterable[Hashable] | None) -> tuple[Hashable, ...] | None:
    return None if vocab is None else tuple(vocab)


def _unique(values: Iterable[Any], *, sort: bool) -> list[Any]:
    seen = dict.fromkeys(values)
    if not sort:
        return list(seen)
    try:
        return sorted(seen)
    except TypeError:  # numbers and texts mixed
        return sorted(seen, key=lambda value: (type(value).__name__, str(value)))


def _names(vocab: Sequence[Any]) -> tuple[str, ...]:
    names = tuple(str(value) for value in vocab)
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise LabelError(
            f"two classes are both written {twice!r}",
            do="give labels one type, such as str, and each class once",
        )
    return names


def _position(value: Any, position: dict[str, int], *, add_na: bool, given: bool) -> int:
    found = position.get(str(value))
    if found is not None:
        return found
    if add_na:
        return 0
    if given:
        close = nearest(str(value), position)
        do = f"write {close!r}, or add it to vocab" if close else "add it to vocab, or drop such items"
        raise LabelError(f"the label {str(value)!r} is not in the vocabulary", do=do)
    raise LabelError(f"the label {str(value)!r} was never seen in training")


def _several(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [value]
    if is_missing(value):
        return []
    return list(value)


def _is_sequence(value: Any) -> bool:
    return getattr(value, "ndim", 0) > 0 or isinstance(value, (tuple, list))


def _numbers(value: Any) -> torch.Tensor:
    try:
        return torch.as_tensor(value, dtype=torch.float32)
    except (TypeError, ValueError):
        raise LabelError(
            f"the target {value!r} is no number", do="convert it in get_y, or use CategoryBlock() for classes"
        ) from None
