"""Batches that are ready in memory: the plainest loader, for small data and for measuring.

This file must not know of items, transforms or workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, final

import numpy as np
import torch

from surefast.data.batch import Batch
from surefast.data.transform import BatchTransform
from surefast.errors import ArgumentError, EmptyDataError
from surefast.recipe.call import declared


@final
@declared(skip={"dataset"}, neutral={"device"})
class PreparedLoader:
    """The same batches in the same order in every epoch.

    Args:
        dataset: batches: tuples of tensors whose first dimension is the sample, inputs first.
        n_inp: how many elements of a batch are inputs; None takes all but the last.
        train: whether this is training data.
        device: where batches go.

    Raises:
        EmptyDataError: there is no batch.
    """

    batch_tfms: tuple[BatchTransform, ...] = ()
    skipped: tuple[()] = ()

    def __init__(
        self,
        dataset: Sequence[Sequence[torch.Tensor]],
        n_inp: int | None = None,
        *,
        train: bool = False,
        device: str | torch.device = "cpu",
    ) -> None:
        if not len(dataset):
            raise EmptyDataError("there is no batch in the list", do="give at least one tuple of tensors")
        first = dataset[0]
        if not isinstance(first, Sequence) or not all(isinstance(t, torch.Tensor) for t in first):
            raise ArgumentError(
                f"a ready batch is a tuple of tensors, and the first one is a {type(first).__name__}",
                do="give (inputs, targets) tuples, or make loaders with a DataBlock",
            )
        self.dataset = dataset
        self.n_inp = max(1, len(first) - 1) if n_inp is None else n_inp
        self.train = train
        self.device = torch.device(device)
        self.bs = len(first[0])
        self.ids = np.split(
            np.arange(sum(len(b[0]) for b in dataset)), np.cumsum([len(b[0]) for b in dataset])[:-1]
        )
        self.n = sum(len(ids) for ids in self.ids)

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return (tuple(batch) for batch in self.dataset)

    def plain(self) -> PreparedLoader:
        """Itself: the batches have one order, and nothing is augmented."""
        return self

    def augmented(self) -> NoReturn:
        """Refused: ready batches are not augmented."""
        raise ArgumentError(
            "ready batches are as they were made, so there is nothing to average over",
            do="build the data with a DataBlock, or average over your own augmented batches",
        )

    def item_name(self, index: int) -> str:
        """The place of a sample in the list of batches."""
        return f"item {index}"

    def batches(
        self, seed: int, epoch: int, start: int = 0, device: str | torch.device | None = None
    ) -> Iterator[Batch]:
        """The batches from number ``start`` on; nothing is drawn, so ``seed`` decides nothing."""
        del seed
        target = torch.device(device) if device is not None else self.device
        n_inp, stay = self.n_inp, target.type == "cpu"
        for number in range(start, len(self.dataset)):
            xs = tuple(self.dataset[number])
            if not stay:
                xs = tuple(x.to(target, non_blocking=True) for x in xs)
            yield Batch(xs[:n_inp], xs[n_inp:], self.ids[number], epoch, number)

    def batch_at(self, seed: int, epoch: int, number: int, device: str | torch.device | None = None) -> Batch:
        """One batch by its number."""
        return next(self.batches(seed, epoch, number, device))
