"""Samples: from an index and a key to a sample. It holds no state and may be asked in any order.

This file must not know of batches or workers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, final

from surefast.data.blocks import Encoder
from surefast.data.label import ColReader
from surefast.data.transform import ItemTransform, name_of
from surefast.errors import DataError, FileError, LabelError, TransformError
from surefast.keys.generator import seeded
from surefast.keys.key import DEFAULT_SEED, make_key, sub_key
from surefast.keys.settings import one_thread
from surefast.protocols import Sample
from surefast.task.task import Task


@final
class Element:
    """How one element of a sample is made: read from the item, opened, encoded.

    Args:
        getter: from the item to the raw value; None takes the item itself.
        openers: from the raw value to the element, in order.
        encoder: makes a label a number; None for an element without labels.
        task: the task that this element sets, where it is known without labels.
    """

    def __init__(
        self,
        getter: Callable[[Any], Any] | None,
        openers: Sequence[Callable[[Any], Any]],
        encoder: Encoder | None,
        task: Task | None = None,
    ) -> None:
        self.getter = getter
        self.openers = tuple(openers)
        self.encoder = encoder
        self.task = task if encoder is None else encoder.task

    def raw(self, item: Any) -> Any:
        """What the getter reads."""
        return item if self.getter is None else self.getter(item)

    def raw_all(self, items: Any) -> list[Any]:
        """What the getter reads of every item."""
        if isinstance(self.getter, ColReader) and hasattr(items, "iloc"):
            return self.getter.read_table(items)
        return [self.raw(item) for item in (_rows(items) if hasattr(items, "iloc") else items)]


@final
class Samples:
    """A data set: ``samples[i]`` is sample i as epoch 0 under the default seed shows it.

    Args:
        items: what the samples are made from; a list or a table.
        elements: how each element of a sample is made: inputs, then targets.
        item_tfms: the item transforms, in order.
        n_inp: how many elements are inputs.
        train: whether transforms that are for training only are applied.
        labels: for each element its encoded values, where they were read in advance, or None.
    """

    def __init__(
        self,
        items: Any,
        elements: Sequence[Element],
        item_tfms: Sequence[ItemTransform] = (),
        *,
        n_inp: int = 1,
        train: bool = True,
        labels: Sequence[Sequence[Any] | None] | None = None,
    ) -> None:
        self.items = items
        self.elements = tuple(elements)
        self.item_tfms = tuple(item_tfms)
        self.n_inp = n_inp
        self.train = train
        self.labels = tuple(labels) if labels is not None else (None,) * len(self.elements)
        self._names = tuple(f"{i}:{name_of(t)}" for i, t in enumerate(self.item_tfms))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        index %= len(self)
        key = make_key(DEFAULT_SEED, "item", 0, index)
        with self.guarded():
            return self.sample(index, key)

    def guarded(self) -> AbstractContextManager[None]:
        """For drawing samples on the main thread: what foreign transforms do to the process is undone."""
        return nullcontext() if self.threadable else _alone()

    @property
    def threadable(self) -> bool:
        """Whether all of it may run in a data thread."""
        return all(transform.threadable for transform in self.item_tfms)

    @property
    def vocab(self) -> tuple[str, ...]:
        """The classes of the first target that has any."""
        task = self.task
        return task.vocab if task is not None else ()

    @property
    def task(self) -> Task | None:
        """The task that the first target with one sets."""
        tasks = (element.task for element in self.elements[self.n_inp :])
        return next((task for task in tasks if task is not None), None)

    def with_train(self, train: bool) -> Samples:
        """The same samples with, or without, what is for training only."""
        if train == self.train:
            return self
        return Samples(
            self.items, self.elements, self.item_tfms, n_inp=self.n_inp, train=train, labels=self.labels
        )

    def item(self, index: int) -> Any:
        """The item, a row where the items are a table."""
        return self.items.iloc[index] if hasattr(self.items, "iloc") else self.items[index]

    def item_name(self, index: int) -> str:
        """How messages name the item: its file, or its place in the items."""
        path = self.path(index)
        return str(path) if path is not None else f"item {index}"

    def path(self, index: int) -> Path | None:
        """The file of the item's first element, or None where it has none."""
        item = self.item(index)
        return _as_path(item if isinstance(item, os.PathLike) else self.elements[0].raw(item))

    def paths(self) -> list[Path | None]:
        """The file of each item; None where there is none, or where it cannot be told."""
        if not self._has_files():
            return [None] * len(self)
        try:
            first = self.elements[0]
            if hasattr(self.items, "iloc"):
                return [_as_path(value) for value in first.raw_all(self.items)]
        except LabelError:  # of one row; each for itself then
            pass
        return [self._safe_path(i) for i in range(len(self))]

    def _has_files(self) -> bool:
        """Told by the first item, as reading every item would load the whole data set."""
        return bool(len(self)) and self._safe_path(0) is not None

    def _safe_path(self, index: int) -> Path | None:
        try:
            return self.path(index)
        except Exception:  # noqa: BLE001  # the getter is the user's; drawing the sample tells what is wrong
            return None

    def raw(self, index: int) -> Sample:
        """The sample before any item transform.

        Raises:
            FileError: a file cannot be read; the opener says why.
            TransformError: a getter or opener failed, with its name and the item's.
        """
        item = self.item(index)
        return tuple(self._element(i, item, index) for i in range(len(self.elements)))

    def _element(self, i: int, item: Any, index: int) -> Any:
        labels = self.labels[i]
        return self._read(i, item, index) if labels is None else labels[index]

    def read(self, element: int, index: int) -> Any:
        """One element of a sample, read and opened anew; fails as ``raw`` does."""
        return self._read(element, self.item(index), index)

    def read_all(self, element: int) -> list[Any]:
        """One element of every sample; fails as ``raw`` does."""
        known = self.elements[element]
        if not known.openers and known.encoder is None and hasattr(self.items, "iloc"):
            with suppress(Exception):  # then one after the other, so that the item is named
                return known.raw_all(self.items)
        return [self.read(element, i) for i in range(len(self))]

    def _read(self, i: int, item: Any, index: int) -> Any:
        element = self.elements[i]
        stage: object = element.getter
        try:
            value = element.raw(item)
            for stage in element.openers:
                value = stage(value)
            stage = element.encoder
            return value if element.encoder is None else element.encoder.encode(value)
        except (FileError, MemoryError):
            raise
        except Exception as error:
            raise self._failure(error, stage, index) from error

    def sample(self, index: int, key: int) -> Sample:
        """The sample that training sees; on the main thread inside ``guarded()``.

        Args:
            index: position in this data set.
            key: of the sample, from (seed, item, epoch, index).

        Raises:
            FileError: a file cannot be read.
            TransformError: a transform failed, with its name and the item's.
        """
        sample = self.raw(index)
        for i in range(len(self.item_tfms)):
            sample = self.change(i, sample, key, index)
        return sample

    def change(self, i: int, sample: Sample, key: int, index: int) -> Sample:
        """What item transform ``i`` makes of a sample; ``key`` is the sample's, ``index`` for messages."""
        transform = self.item_tfms[i]
        try:
            return transform.apply(sample, sub_key(key, self._names[i]), train=self.train)
        except (FileError, MemoryError):
            raise
        except Exception as error:
            raise self._failure(error, transform, index) from error

    def _failure(self, error: Exception, stage: object, index: int) -> DataError:
        what = f"{name_of(stage)} failed on {self._safe_name(index)}"
        if isinstance(error, LabelError):
            return LabelError(f"{error.what} ({self._safe_name(index)})", do=error.do, **error.details)
        cause = getattr(error, "what", None) or f"{type(error).__name__}: {error}"
        do = (
            getattr(error, "do", "")
            or "mend the transform, or the item; DataBlock.summary(source) shows each stage"
        )
        return TransformError(what, do=do, cause=_short(cause))

    def _safe_name(self, index: int) -> str:
        try:
            return self.item_name(index)
        except Exception:  # noqa: BLE001  # the getter itself may be what failed
            return f"item {index}"


def _rows(frame: Any) -> Iterator[Any]:
    return (frame.iloc[i] for i in range(len(frame)))


def _as_path(value: Any) -> Path | None:
    if isinstance(value, os.PathLike):
        return Path(value)
    return Path(value) if isinstance(value, str) and os.sep in value else None


@contextmanager
def _alone() -> Iterator[None]:
    """One torch thread, and the global generators put back: saved once a batch, as that is slow."""
    with one_thread(), seeded(0):
        yield


def _short(text: str, limit: int = 300) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[:limit] + "..."
