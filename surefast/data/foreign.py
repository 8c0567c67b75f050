"""A torch DataLoader, used as it is: what it keeps of the promises, and what it cannot.

This file must not know of blocks or workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn, final

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler

from surefast.data.batch import Batch
from surefast.data.device import DeviceStage, default_device, to_device
from surefast.data.transform import BatchTransform
from surefast.errors import ArgumentError, EmptyDataError
from surefast.keys.generator import seeded
from surefast.keys.key import DEFAULT_SEED, make_key
from surefast.recipe.call import declared


@final
@declared(neutral={"device"})
class ForeignLoader:
    """Batches of a torch ``DataLoader``; each is drawn with the global generators seeded by its key.

    Args:
        loader: a torch DataLoader that gives tuples or lists, inputs first, or dictionaries.
        train: whether this is training data.
        n_inp: how many elements of a batch are inputs; None takes all but the last.
        device: where batches go when ``batches`` is not told; None takes a card where there is one.

    Raises:
        EmptyDataError: the loader has no batches.
    """

    def __init__(
        self,
        loader: DataLoader[Any],
        *,
        train: bool = False,
        n_inp: int | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.loader = loader
        self.dataset = loader.dataset
        self.train = train
        self.bs = int(loader.batch_size or 1)
        self.device = torch.device(device) if device is not None else default_device()[0]
        self.n = _length(loader.dataset)
        self.batch_tfms: tuple[BatchTransform, ...] = ()
        self.skipped: list[Any] = []
        self._n_inp = n_inp
        if not len(loader):
            raise EmptyDataError(
                f"the DataLoader gives no batch: {self.n} samples, batch_size={self.bs}, "
                f"drop_last={loader.drop_last}",
                do="use a smaller batch_size, or drop_last=False",
            )

    @property
    def n_inp(self) -> int:
        """How many elements of a batch are inputs; draws one batch where nobody said."""
        if self._n_inp is None:
            first = next(self._raw(DEFAULT_SEED, 0))
            self._n_inp = max(1, len(_elements(first)) - 1)
        return self._n_inp

    @property
    def promises_lost(self) -> tuple[str, ...]:
        """What a foreign loader takes away, in sentences."""
        lost = ["Starting in the middle of an epoch builds the batches before it and throws them away."]
        if self.loader.num_workers:
            lost.append(
                "What the data set draws depends on the number of workers "
                f"(num_workers={self.loader.num_workers}); with 0 it does not."
            )
            lost.append("A data process that is killed ends the run.")
        if not isinstance(self.loader.sampler, RandomSampler) and self._shuffles():
            lost.append("The order is the sampler's own; it repeats only if it draws from torch's generator.")
        lost.append("The data is known by its class and length: other data of that length goes unnoticed.")
        lost.append("A bad item cannot be skipped or replaced, nor a batch be told by its files.")
        return tuple(lost)

    def _shuffles(self) -> bool:
        return type(self.loader.sampler).__name__ != "SequentialSampler"

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for batch in self.batches(DEFAULT_SEED, 0):
            yield (*batch.x, *batch.y)

    def item_name(self, index: int) -> str:
        """The place of a sample in its batch's order; a foreign loader knows no files."""
        return f"item {index}"

    def augmented(self) -> NoReturn:
        """Refused: a torch DataLoader does not say what it does in training only."""
        raise ArgumentError(
            "a torch DataLoader does not say what it does in training only",
            do="build the data with a DataBlock, or average over your own augmented loaders",
        )

    def plain(self) -> ForeignLoader:
        """A loader over the same data in its order, nothing dropped; what the data set augments stays."""
        old = self.loader
        if isinstance(old.dataset, IterableDataset) or old.batch_size is None:
            return self
        plain = DataLoader(
            old.dataset,
            old.batch_size,
            num_workers=old.num_workers,
            collate_fn=old.collate_fn,
            timeout=old.timeout,
        )
        made = ForeignLoader(plain, n_inp=self.n_inp, device=self.device)
        made.batch_tfms = self.batch_tfms
        return made

    def batches(
        self, seed: int, epoch: int, start: int = 0, device: str | torch.device | None = None
    ) -> Iterator[Batch]:
        """The batches of an epoch from number ``start`` on, on the device."""
        target = torch.device(device) if device is not None else self.device
        stage = DeviceStage(self.batch_tfms, self.n_inp, train=self.train)
        place = 0
        for number, raw in enumerate(self._raw(seed, epoch)):
            elements = _elements(raw)
            rows = _rows(elements)
            ids = np.arange(place, place + rows, dtype=np.int64)
            place += rows
            if number >= start:
                yield stage.run(
                    tuple(to_device(e, target) for e in elements), ids, (seed, epoch, number), target
                )

    def batch_at(self, seed: int, epoch: int, number: int, device: str | torch.device | None = None) -> Batch:
        """One batch of an epoch; the ones before it are built and thrown away."""
        found = next(self.batches(seed, epoch, number, device), None)
        if found is None:
            raise ArgumentError(f"there is no batch {number}: an epoch has {len(self)}", do="count from 0")
        return found

    def _raw(self, seed: int, epoch: int) -> Iterator[Any]:
        start = make_key(seed, "shuffle", epoch)
        if self.loader.generator is not None:
            self.loader.generator.manual_seed(start >> 1)
        with seeded(start):
            source = iter(self.loader)
        number = 0
        while True:
            # Between two batches a training step draws from the same generators: each batch gets its own key.
            with seeded(make_key(seed, "item", epoch, number)):
                try:
                    raw = next(source)
                except StopIteration:
                    return
            yield raw
            number += 1


def _elements(raw: Any) -> tuple[Any, ...]:
    return tuple(raw) if isinstance(raw, (tuple, list)) else (raw,)


def _rows(elements: tuple[Any, ...]) -> int:
    for element in elements:
        if isinstance(element, torch.Tensor):
            return len(element)
        if isinstance(element, dict):
            return _rows(tuple(element.values()))
    return len(elements[0])


def _length(dataset: Any) -> int:
    try:
        return len(dataset)
    except TypeError:  # an iterable data set
        return 0
