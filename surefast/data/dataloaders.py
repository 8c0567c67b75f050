"""DataLoaders: the training and the validation loader, with what they know about the data.

It holds no seed and no position; the Learner passes both. This file must not know how batches are built.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, final

import torch
import xxhash
from torch.utils.data import DataLoader

from surefast.data.batch import Batch
from surefast.data.dataset import Element, Samples
from surefast.data.foreign import ForeignLoader
from surefast.data.items import fingerprint
from surefast.data.loader import Loader, Sources
from surefast.data.prepared import PreparedLoader
from surefast.data.transform import Batches, BatchTransform, as_batch_transforms, in_order
from surefast.errors import ArgumentError
from surefast.keys.key import DEFAULT_SEED
from surefast.recipe.call import current_call, declared
from surefast.task.task import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AnyLoader: TypeAlias = Loader | ForeignLoader | PreparedLoader


@final
@declared(neutral={"path", "device"})
class DataLoaders:
    """A training and a validation loader.

    Args:
        train: a Loader, a torch DataLoader, or a list of ready batches (tuples of tensors).
        valid: a Loader or a torch DataLoader; None where there is nothing to validate on.
        path: the folder that relative names of a program are taken from.
        device: where batches go; None takes what the loaders say.
        task: what is being learned; None takes what the data set's target block says.
        n_inp: how many elements of a batch are inputs, for torch DataLoaders; None takes all but the last.
    """

    def __init__(
        self,
        train: AnyLoader | DataLoader[Any] | Sequence[Sequence[torch.Tensor]],
        valid: AnyLoader | DataLoader[Any] | Sequence[Sequence[torch.Tensor]] | None = None,
        *,
        path: str | Path = ".",
        device: str | torch.device | None = None,
        task: Task | None = None,
        n_inp: int | None = None,
    ) -> None:
        self.train = _adopt(train, train=True, n_inp=n_inp, device=device)
        self.valid = None if valid is None else _adopt(valid, train=False, n_inp=n_inp, device=device)
        self.loaders: list[AnyLoader] = [self.train] + ([self.valid] if self.valid is not None else [])
        self.path = Path(path)
        self.device = torch.device(device) if device is not None else self.train.device
        self.task = task
        if task is None and isinstance(self.train, Loader):
            self.task = self.train.dataset.task

    @property
    def train_ds(self) -> Any:
        """The training data set."""
        return self.train.dataset

    @property
    def valid_ds(self) -> Any:
        """The validation data set, or None."""
        return None if self.valid is None else self.valid.dataset

    @property
    def vocab(self) -> tuple[str, ...]:
        """The classes; empty where the target has none."""
        return self.task.vocab if self.task is not None else ()

    @property
    def c(self) -> int:
        """How many numbers the model must give for one sample.

        Raises:
            ArgumentError: nobody said, as with torch DataLoaders.
        """
        if self.task is None:
            raise ArgumentError(
                "these DataLoaders know no task", do="pass task= to DataLoaders, or n_out= to the learner"
            )
        return self.task.n_out

    @property
    def n_inp(self) -> int:
        """How many elements of a batch are inputs."""
        return self.train.n_inp

    @property
    def bs(self) -> int:
        """Samples in a training batch."""
        return self.train.bs

    @property
    def promises_lost(self) -> tuple[str, ...]:
        """What foreign loaders take away, in sentences; empty for our own."""
        lost = [
            s for loader in self.loaders if isinstance(loader, ForeignLoader) for s in loader.promises_lost
        ]
        return tuple(dict.fromkeys(lost))

    def __len__(self) -> int:
        return len(self.loaders)

    def __repr__(self) -> str:
        task = "no task" if self.task is None else f"{self.task.kind} with {self.task.n_out} outputs"
        return f"DataLoaders({task}; train={self.train!r}, valid={self.valid!r})"

    def __getitem__(self, i: int) -> AnyLoader:
        return self.loaders[i]

    def one_batch(self) -> tuple[Any, ...]:
        """The first training batch of epoch 0 under the default seed: inputs, then targets."""
        batch = self.train.batch_at(DEFAULT_SEED, 0, 0, self.device)
        return (*batch.x, *batch.y)

    @declared(neutral={"max_n"})
    def show_batch(self, max_n: int = 9) -> Figure:
        """A figure of the first training samples of epoch 0 under the default seed, as the model sees them.

        Looking changes nothing: a batch is a pure function of seed, epoch and number.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from surefast.data.show import show_samples

        batch = self.train.batch_at(DEFAULT_SEED, 0, 0, self.device)
        return show_samples(
            self.decode_batch(batch)[:max_n], title=f"epoch 0, seed {DEFAULT_SEED} (the default)"
        )

    def decode_target(self, decoded: Any) -> Any:
        """What a person reads of one decoded prediction: a class by name, several names, a number.

        Args:
            decoded: what the loss's ``decodes`` gave for one sample.
        """
        elements = self.train.dataset.elements if isinstance(self.train, Loader) else ()
        return _decode(decoded, elements, self.n_inp)

    @declared(skip={"batch", "decoded"}, neutral={"max_n"})
    def show_results(self, batch: Batch, decoded: Any, max_n: int = 9) -> Figure:
        """A figure of samples with their targets and what the model says of them.

        Args:
            batch: samples, as validation gives them.
            decoded: decoded predictions, one for each sample.
            max_n: number of samples.
        """
        from surefast.data.show import show_samples

        rows = self.decode_batch(batch)[:max_n]
        said = [self.decode_target(_row(decoded, i)) for i in range(len(rows))]
        return show_samples(rows, title="target / prediction", said=said)

    def decode_batch(self, batch: Batch) -> list[tuple[Any, ...]]:
        """The samples of a batch as a person reads them: pictures back in [0, 1], labels by name."""
        xs: tuple[Any, ...] = (*batch.x, *batch.y)
        for transform in reversed(self.train.batch_tfms):
            xs = transform.decode(xs)
        elements = self.train.dataset.elements if isinstance(self.train, Loader) else ()
        rows = [tuple(_row(x, i) for x in xs) for i in range(len(batch))]
        return [tuple(_decode(value, elements, i) for i, value in enumerate(row)) for row in rows]

    @declared(neutral={"bs", "num_workers"})
    def test_dl(
        self, items: Any, with_labels: bool = False, bs: int | None = None, num_workers: int | None = None
    ) -> Loader:
        """A loader over new items, prepared like the validation set.

        An item may also be what stands behind the first getter: a path where the training items are rows of
        a table, an open picture where they are paths.

        Args:
            items: a list, a table or a single item.
            with_labels: whether the items have labels to be read.
            bs: samples in a batch; None takes that of validation.
            num_workers: workers of its own; None shares those there are.

        Raises:
            ArgumentError: the loaders are torch's own.
        """
        base = self.valid or self.train
        if not isinstance(base, Loader):
            raise ArgumentError(
                "test_dl needs to know how an item is opened", do="pass a DataLoader to the learner instead"
            )
        known = base.dataset
        items = _as_items(items)
        elements = known.elements if with_labels else known.elements[: known.n_inp]
        if len(items):
            probe = items.iloc[0] if hasattr(items, "iloc") else items[0]
            elements = tuple(_for_items(e, known.item(0), probe) for e in elements)
        samples = Samples(items, elements, known.item_tfms, n_inp=known.n_inp, train=False)
        return Loader(
            samples,
            bs or base.bs,
            drop_last=False,
            batch_tfms=base.batch_tfms,
            on_error=base.on_error,
            sources=base.sources if num_workers is None else Sources(num_workers=num_workers),
            device=self.device,
        )

    @declared()
    def with_batch_tfms(self, batch_tfms: Batches | Iterable[Batches]) -> DataLoaders:
        """New DataLoaders over the same data sets, with more batch transforms in their order."""
        more = as_batch_transforms(batch_tfms, self.n_inp)
        made = [_with(loader, more) for loader in self.loaders]
        valid = made[1] if len(made) > 1 else None
        return DataLoaders(made[0], valid, path=self.path, device=self.device, task=self.task)

    def fingerprint(self) -> str:
        """A short hash of the data: items, order, sides and labels; not of the transforms."""
        digest = xxhash.xxh3_128()
        for loader in self.loaders:
            samples = loader.dataset
            if isinstance(samples, Samples):
                digest.update(fingerprint(samples.items).encode())
                if hasattr(samples.items, "iloc"):  # the files that its rows name
                    digest.update(fingerprint(samples.paths()).encode())
                for labels in samples.labels:
                    digest.update(fingerprint(labels).encode() if labels is not None else b"-")
            elif isinstance(loader, PreparedLoader):
                for tensor in (t for batch in loader.dataset for t in batch):
                    digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
            else:
                digest.update(f"{type(samples).__qualname__}|{loader.n}".encode())
        digest.update(repr(self.vocab).encode())
        return digest.hexdigest()

    def facts(self) -> dict[str, Any]:
        """What the data is, for the recipe: numbers of items, classes, batches, and the fingerprint."""
        facts: dict[str, Any] = {
            "train_items": self.train.n,
            "valid_items": self.valid.n if self.valid is not None else 0,
            "train_batches": len(self.train),
            "bs": self.bs,
            "n_inp": self.n_inp,
            "device": str(self.device),
            "fingerprint": self.fingerprint(),
        }
        if self.task is not None:
            facts |= {"task": self.task.kind, "n_out": self.task.n_out}
        if self.vocab:
            facts["vocab"] = self.vocab
            facts["train_per_class"] = self._per_class()
        if self.promises_lost:
            facts["promises_lost"] = self.promises_lost
        return facts

    def _per_class(self) -> dict[str, int]:
        samples = self.train.dataset
        if not isinstance(samples, Samples) or self.task is None or self.task.kind != "category":
            return {}
        labels = next((values for values in samples.labels[samples.n_inp :] if values is not None), None)
        counts = Counter(int(value) for value in labels or ())
        return {name: counts[i] for i, name in enumerate(self.vocab)} if labels is not None else {}

    @declared(neutral={"device"})
    def to(self, device: str | torch.device) -> DataLoaders:
        """New DataLoaders over the same data sets whose batches go to ``device``."""
        made = [_with(loader, (), device) for loader in self.loaders]
        return DataLoaders(
            made[0], made[1] if len(made) > 1 else None, path=self.path, device=device, task=self.task
        )

    def close(self) -> None:
        """End the data processes, if there are any; they also end with the program."""
        for loader in self.loaders:
            if isinstance(loader, Loader):
                loader.sources.close()


def _adopt(
    loader: AnyLoader | DataLoader[Any] | Sequence[Sequence[torch.Tensor]],
    *,
    train: bool,
    n_inp: int | None,
    device: str | torch.device | None,
) -> AnyLoader:
    if isinstance(loader, (Loader, ForeignLoader, PreparedLoader)):
        return loader
    if isinstance(loader, (list, tuple)):
        made = PreparedLoader(loader, n_inp, train=train, device=device or "cpu")
        # The record of the loader, not the batches: facts.fingerprint says which they are.
        current_call().infer("train" if train else "valid", made, "ready batches, passed as they are")
        return made
    if isinstance(loader, DataLoader):
        current_call().infer(
            "train_loader" if train else "valid_loader", "torch DataLoader", "it was passed as it is"
        )
        return ForeignLoader(loader, train=train, n_inp=n_inp, device=device)
    raise ArgumentError(
        f"DataLoaders takes loaders, and got: {type(loader).__name__}",
        do="make them with DataBlock(...).dataloaders(source), or pass torch DataLoaders",
    )


def _with(
    loader: AnyLoader, more: Sequence[BatchTransform], device: str | torch.device | None = None
) -> AnyLoader:
    if isinstance(loader, ForeignLoader):
        made = ForeignLoader(
            loader.loader, train=loader.train, n_inp=loader.n_inp, device=device or loader.device
        )
        made.batch_tfms = tuple(in_order((*loader.batch_tfms, *more)))
        return made
    if isinstance(loader, PreparedLoader):
        if more:
            raise ArgumentError(
                "ready batches take no batch transforms", do="transform them when they are made"
            )
        return PreparedLoader(
            loader.dataset, loader.n_inp, train=loader.train, device=device or loader.device
        )
    return Loader(
        loader.dataset,
        loader.bs,
        shuffle=loader.shuffle,
        drop_last=loader.drop_last,
        batch_tfms=(*loader.batch_tfms, *more),
        on_error=loader.on_error,
        sources=loader.sources,
        device=device or loader.device,
    )


def _as_items(items: Any) -> Any:
    if hasattr(items, "iloc") and hasattr(items, "columns"):
        return items
    if isinstance(items, (list, tuple, range)):
        return items
    if isinstance(items, (str, os.PathLike, torch.Tensor)) or hasattr(items, "__array__"):
        return [items]
    return list(items) if isinstance(items, Iterable) else [items]


def _for_items(element: Element, known: Any, given: Any) -> Element:
    """The element without its getter, where the new items are what the getter would have read."""
    alike = isinstance(given, type(known)) or (_is_path(known) and _is_path(given))
    if alike or element.getter is None:
        return element
    return Element(None, element.openers, element.encoder, element.task)


def _is_path(item: Any) -> bool:
    return isinstance(item, (str, os.PathLike))


def _row(element: Any, i: int) -> Any:
    if isinstance(element, torch.Tensor):
        return element[i].detach().cpu()
    if isinstance(element, dict):
        return {key: _row(value, i) for key, value in element.items()}
    return tuple(_row(part, i) for part in element) if isinstance(element, tuple) else element[i]


def _decode(value: Any, elements: Sequence[Element], i: int) -> Any:
    encoder = elements[i].encoder if i < len(elements) else None
    return encoder.decode(value) if encoder is not None else value
