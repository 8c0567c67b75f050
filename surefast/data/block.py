"""DataBlock: how items become samples and batches, said once, before any data is there.

This file must not know of images or of training.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

import torch

from surefast.data.assemble import OnError
from surefast.data.blocks import (
    CategoryEncoding,
    Encoder,
    Encoding,
    TransformBlock,
    warn_lonely,
)
from surefast.data.dataloaders import DataLoaders
from surefast.data.dataset import Element, Samples
from surefast.data.device import default_device
from surefast.data.leaks import check_leaks as find_and_report_leaks
from surefast.data.leaks import check_repeatable, check_validation_batches
from surefast.data.loader import Loader, Sources, Workers
from surefast.data.split import RandomSplitter, checked_split
from surefast.data.table import describe_table
from surefast.data.transform import Batches, BatchTransform, Items, as_batch_transforms, as_item_transforms
from surefast.errors import ArgumentError, EmptyDataError, LabelError
from surefast.recipe.call import call_of, current_call, declared
from surefast.task.task import Task

if TYPE_CHECKING:
    from surefast.data.summary import Summary

Getter: TypeAlias = Callable[[Any], Any]
BlockLike: TypeAlias = TransformBlock | Callable[..., TransformBlock]
CheckLeaks: TypeAlias = bool | Literal["raise"]


@final
class Datasets:
    """The training and the validation data set of one source."""

    def __init__(self, train: Samples, valid: Samples) -> None:
        self.train = train
        self.valid = valid
        self.n_inp = train.n_inp
        self.vocab = train.vocab
        self.task: Task | None = train.task

    def __len__(self) -> int:
        return len(self.train) + len(self.valid)


@final
@declared()
class DataBlock:
    """A description of data: what a sample consists of, and how to list, read, split and change it.

    Args:
        blocks: one for each element of a sample, inputs first; blocks or functions that make them.
        dl_type: there is one class of loader; fastai programs may name it.
        getters: from an item to the raw value of each element; None takes the item itself.
        n_inp: how many blocks are inputs; None takes all but the last.
        item_tfms: item transforms: ours, torchvision v2 transforms, or functions.
        batch_tfms: batch transforms: ours, torchvision v2 transforms, or functions.
        get_items: from a source, such as a folder, to items; None takes the source as items.
        splitter: from items to training and validation positions; None takes ``RandomSplitter()``.
        get_y: from an item to the raw value of the target, or a list of functions for several.
        get_x: from an item to the raw value of the input, or a list of functions for several.

    Raises:
        ArgumentError: numbers of blocks and getters do not fit.
    """

    def __init__(
        self,
        blocks: Sequence[BlockLike] | BlockLike | None = None,
        dl_type: type[Loader] | None = None,
        getters: Sequence[Getter | None] | None = None,
        n_inp: int | None = None,
        item_tfms: Items | Iterable[Items] | None = None,
        batch_tfms: Batches | Iterable[Batches] | None = None,
        *,
        get_items: Callable[[Any], Any] | None = None,
        splitter: Callable[[Any], Any] | None = None,
        get_y: Getter | Sequence[Getter] | None = None,
        get_x: Getter | Sequence[Getter] | None = None,
    ) -> None:
        self.blocks = _blocks(blocks)
        self.n_inp = max(1, len(self.blocks) - 1) if n_inp is None else n_inp
        if n_inp is None:
            current_call().infer("n_inp", self.n_inp, "all blocks but the last are inputs")
        if not 1 <= self.n_inp <= len(self.blocks):
            raise ArgumentError(
                f"n_inp={self.n_inp} for {len(self.blocks)} blocks", do="use 1 up to the number of blocks"
            )
        self.getters = _getters(getters, get_x, get_y, len(self.blocks), self.n_inp)
        if splitter is None:
            splitter = RandomSplitter()
            current_call().infer("splitter", splitter, "no splitter was given")
        self.splitter = splitter
        self.get_items = get_items
        if dl_type not in {None, Loader}:
            raise ArgumentError(
                f"dl_type={dl_type!r}: there is one class of loader, whose order and state are known",
                do="leave it out, or pass your own torch DataLoaders to DataLoaders(train, valid)",
            )
        self.item_tfms = [
            *_from_blocks([as_item_transforms(block.item_tfms, self.n_inp) for block in self.blocks]),
            *as_item_transforms(item_tfms, self.n_inp),
        ]
        self.batch_tfms: list[BatchTransform] = [
            *_from_blocks([as_batch_transforms(block.batch_tfms, self.n_inp) for block in self.blocks]),
            *as_batch_transforms(batch_tfms, self.n_inp),
        ]

    @declared(skip={"source"})
    def datasets(self, source: Any) -> Datasets:
        """List, split and label the items of a source.

        Raises:
            EmptyDataError: no items, or a set is empty.
            LeakError: an item is in both sets.
            LabelError: a label is missing, or was never seen in training.
        """
        return self.split_items(self.list_items(source))

    def split_items(self, items: Any) -> Datasets:
        """The data sets of items that are listed already; see ``datasets``."""
        train_idx, valid_idx = checked_split(self.splitter, items)
        unlabelled = [
            Element(getter, block.type_tfms, None, block.task)
            for getter, block in zip(self.getters, self.blocks, strict=True)
        ]
        parts = [_take(items, train_idx), _take(items, valid_idx)]
        plain = [Samples(part, unlabelled, n_inp=self.n_inp) for part in parts]
        elements, labels = list(unlabelled), [list[Any](), list[Any]()]
        for i, block in enumerate(self.blocks):
            if block.encoding is None:
                labels[0].append(None)
                labels[1].append(None)
                continue
            encoder, train, valid = _encode(block.encoding, plain[0], plain[1], i)
            elements[i] = Element(self.getters[i], block.type_tfms, encoder)
            labels[0].append(train)
            labels[1].append(valid)
        made = [
            Samples(part, elements, self.item_tfms, n_inp=self.n_inp, train=k == 0, labels=labels[k])
            for k, part in enumerate(parts)
        ]
        return Datasets(made[0], made[1])

    @declared(
        # The fingerprint among the facts tells which items there are, wherever their folder stands.
        neutral={"source", "path", "verbose", "num_workers", "workers", "prefetch", "device", "check_leaks"}
    )
    def dataloaders(
        self,
        source: Any,
        path: str | Path = ".",
        verbose: bool = False,
        bs: int = 64,
        val_bs: int | None = None,
        shuffle: bool = True,
        drop_last: bool | None = None,
        *,
        num_workers: int | None = None,
        workers: Workers = "auto",
        prefetch: int = 2,
        on_error: OnError = "raise",
        device: str | torch.device | None = None,
        check_leaks: CheckLeaks = True,
    ) -> DataLoaders:
        """A training and a validation loader for a source.

        Args:
            source: what ``get_items`` is given, or the items.
            path: the folder of the program, for names that are relative.
            verbose: whether to print what each stage did, as ``summary`` does.
            bs: samples in a training batch, over all processes together.
            val_bs: samples in a validation batch; None takes ``bs``.
            shuffle: whether each training epoch has an order of its own.
            drop_last: whether an incomplete last training batch is left out; None leaves it out unless it
                is the only one.
            num_workers: workers that build batches; None chooses, 0 builds them between steps.
            workers: ``thread``, ``process``, or ``auto``: threads where every item transform allows it.
            prefetch: batches each worker may be ahead.
            on_error: at a bad item ``raise``, ``skip`` it, or ``replace`` it by another.
            device: where batches go; None takes a card where there is one.
            check_leaks: whether to look for files that are in both sets by content: True warns of them,
                ``"raise"`` refuses them.

        Raises:
            DataError: see ``datasets``; also transforms that do not repeat.
        """
        if verbose:
            self.summary(source)
        call = current_call()
        describe_table(call, "source", source)
        data = self.datasets(source)
        if device is None:
            device, why = default_device()
            call.infer("device", str(device), why, neutral=True)
        if val_bs is None:
            call.infer("val_bs", bs, "equal to bs")
        if check_leaks:
            find_and_report_leaks(data.train, data.valid, refuse=check_leaks == "raise")
        if not data.train.threadable:
            check_repeatable(data.train)
            check_repeatable(data.valid)
        check_validation_batches(data.valid, self.batch_tfms)
        sources = Sources(workers, num_workers, prefetch)
        _record_workers(sources, data.train)
        train = Loader(
            data.train,
            bs,
            shuffle=shuffle,
            drop_last=drop_last,
            batch_tfms=self.batch_tfms,
            on_error=on_error,
            sources=sources,
            device=device,
        )
        if drop_last is None:
            call.infer(
                "drop_last", train.drop_last, "an incomplete batch is left out unless it is the only one"
            )
        valid = Loader(
            data.valid,
            val_bs or bs,
            drop_last=False,
            batch_tfms=self.batch_tfms,
            on_error=on_error,
            sources=sources,
            device=device,
        )
        for loader in (train, valid):
            record = call_of(loader)
            if record is not None:  # made again from the source
                record.values.pop("dataset", None)
        return DataLoaders(train, valid, path=path, device=device, task=data.task)

    @declared(skip={"source"}, neutral={"bs", "show"})
    def summary(self, source: Any, bs: int = 4, show: bool = True) -> Summary:
        """Walk one sample and one batch through every stage: types, shapes, ranges, time, and what fails.

        Args:
            source: as for ``dataloaders``.
            bs: samples in the batch.
            show: whether to print it.
        """
        from surefast.data.summary import summarise

        found = summarise(self, source, bs)
        if show:
            print(found.text)  # noqa: T201  # made to be read
        return found

    @declared()
    def new(
        self,
        item_tfms: Items | Iterable[Items] | None = None,
        batch_tfms: Batches | Iterable[Batches] | None = None,
    ) -> DataBlock:
        """The same block with other transforms of the user's."""
        return DataBlock(
            self.blocks,
            None,
            self.getters,
            self.n_inp,
            item_tfms,
            batch_tfms,
            get_items=self.get_items,
            splitter=self.splitter,
        )

    def list_items(self, source: Any) -> Any:
        """The items of a source: a list or a table.

        Raises:
            EmptyDataError: there are none.
            ArgumentError: the source is a name and there is no ``get_items``.
        """
        items = source if self.get_items is None else self.get_items(source)
        if self.get_items is None and isinstance(source, (str, Path)):
            raise ArgumentError(
                f"the source {str(source)!r} is a name, and nobody said how to list it",
                do="pass get_items=get_image_files to DataBlock",
            )
        if not hasattr(items, "iloc") and not isinstance(items, list):
            items = list(items)
        if not len(items):
            raise EmptyDataError(
                "no items were found", do="check get_items and the source", source=str(source)[:80]
            )
        return items


def _record_workers(sources: Sources, samples: Samples) -> None:
    # Under a name of its own: another machine that reads the recipe chooses anew.
    kind, count = sources.kind(samples), sources.count(samples)
    why = (
        "every item transform may run in a thread"
        if samples.threadable
        else "foreign transforms hold the lock"
    )
    built = (
        "between steps" if kind == "here" else f"in {count} {'threads' if kind == 'thread' else 'processes'}"
    )
    current_call().infer("built", built, why, neutral=True)


def _blocks(given: Any) -> list[TransformBlock]:
    if given is None:
        return [TransformBlock(), TransformBlock()]
    several = list(given) if isinstance(given, (tuple, list)) else [given]
    made = [one if isinstance(one, TransformBlock) else one() if callable(one) else one for one in several]
    for one in made:
        if not isinstance(one, TransformBlock):
            raise ArgumentError(f"{one!r} is no block", do="pass blocks such as ImageBlock, CategoryBlock()")
    return made


def _getters(
    getters: Sequence[Getter | None] | None, get_x: Any, get_y: Any, count: int, n_inp: int
) -> list[Getter | None]:
    found: list[Getter | None] = [None] * count if getters is None else list(getters)
    if len(found) != count:
        raise ArgumentError(
            f"there are {len(found)} getters for {count} blocks", do="pass one getter for each block"
        )
    for name, given, place, wanted in (("get_x", get_x, 0, n_inp), ("get_y", get_y, n_inp, count - n_inp)):
        if given is None:
            continue
        several = list(given) if isinstance(given, (tuple, list)) else [given]
        if len(several) != wanted:
            raise ArgumentError(
                f"{name} has {len(several)} functions for {wanted} blocks",
                do="pass one function for each block, or set n_inp",
            )
        found[place : place + wanted] = several
    return found


def _from_blocks(lists: Sequence[Sequence[Any]]) -> list[Any]:
    """The transforms that blocks bring, each kind once: two picture blocks need one conversion."""
    seen: dict[type, Any] = {}
    for transform in (t for one in lists for t in one):
        seen.setdefault(type(transform), transform)
    return list(seen.values())


def _take(items: Any, positions: list[int]) -> Any:
    return items.iloc[positions] if hasattr(items, "iloc") else [items[i] for i in positions]


def _encode(
    encoding: Encoding, train: Samples, valid: Samples, element: int
) -> tuple[Encoder, list[Any], list[Any]]:
    """Fit on training labels, encode both sides."""
    raw = [samples.read_all(element) for samples in (train, valid)]
    if isinstance(raw[0][0], os.PathLike):
        raise LabelError(
            f"the label of {raw[0][0]} is the path itself: nobody said how to read a label from it",
            do="pass get_y=parent_label, a RegexLabeller, or a function of your own to DataBlock",
        )
    encoder = encoding.fit(raw[0])
    encoded = [
        _encode_all(encoder, values, samples, side)
        for values, samples, side in zip(raw, (train, valid), ("training", "validation"), strict=True)
    ]
    if isinstance(encoding, CategoryEncoding) and encoding.vocab is None:
        warn_lonely(raw[0], raw[1])
    return encoder, encoded[0], encoded[1]


def _encode_all(encoder: Encoder, values: list[Any], samples: Samples, side: str) -> list[Any]:
    done: list[Any] = []
    bad: list[tuple[int, LabelError]] = []
    for i, value in enumerate(values):
        try:
            done.append(encoder.encode(value))
        except LabelError as error:
            bad.append((i, error))
    if not bad:
        return done
    first, worst = bad[0]
    alike = sum(other.what == worst.what for _, other in bad)
    more = f"; {len(bad) - alike} other {side} items have such labels too" if len(bad) > alike else ""
    raise LabelError(
        f"{worst.what}: {alike} of {len(values)} {side} items have it, the first is "
        f"{samples.item_name(first)}{more}",
        do=worst.do
        or "add training items of this class, keep its items together in training (IndexSplitter, "
        "TrainTestSplitter(stratify=...)), drop them, or use CategoryBlock(add_na=True)",
    )
