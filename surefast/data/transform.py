"""The two contracts of transforms: on one item in a worker, and on a batch on the device.

A built-in transform never draws from a global generator: an item transform is given a key, a batch
transform is given uniform numbers made from the keys of its samples. Foreign code (a torchvision v2
transform, a plain function) is wrapped, and runs with all global generators seeded by the key.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, TypeAlias, final

import torch

from surefast.data.v2 import describe_v2, is_v2
from surefast.errors import ArgumentError
from surefast.keys.generator import seed_all
from surefast.keys.key import make_key
from surefast.protocols import Sample
from surefast.recipe.call import call_of, declared


class ItemTransform(abc.ABC):
    """A change of one sample: a pure function of (sample, key).

    A sample is a tuple of inputs, then targets. Images are ``tv_tensors.Image`` of uint8 (C, H, W), masks
    ``tv_tensors.Mask``; a transform changes the elements it knows and leaves the others alone, with the
    same draw for all of them.
    """

    threadable: ClassVar[bool] = True
    """Whether it may run in a data thread: no global generator, no interpreter lock held for long."""

    @abc.abstractmethod
    def apply(self, sample: Sample, key: int, *, train: bool) -> Sample:
        """The changed sample; ``train`` is False for validation and prediction."""

    def __repr__(self) -> str:
        return _written(self)


class BatchTransform(abc.ABC):
    """A change of a batch on the device: a pure function of (tensors, uniform draws)."""

    draws: int = 0
    """How many uniform numbers it needs for each sample; 0 where nothing is random."""

    train_only: bool = False
    """Whether validation and prediction leave it out."""

    order: ClassVar[int] = 50
    """Its place among the others; the lower goes first, equals as they were given. Making floats has 10,
    normalising 99: what lies between is written for images in [0, 1]."""

    @abc.abstractmethod
    def apply(self, xs: tuple[Any, ...], u: torch.Tensor) -> tuple[Any, ...]:
        """The changed tensors of the batch: inputs, then targets.

        Args:
            xs: tensors (B, ...).
            u: uniform draws in [0, 1), shape (B, ``draws``), on the same device.
        """

    def fuse(self, other: BatchTransform) -> BatchTransform | None:
        """One transform that does this one's work and then ``other``'s, or None where there is none.

        Lets geometric transforms that follow each other share one interpolation.
        """
        return None

    def joined(self) -> Sequence[BatchTransform]:
        """What ``fuse`` made it from; nothing by default."""
        return ()

    def decode(self, xs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Undo what stands between a picture and what the model sees; nothing by default."""
        return xs

    def __repr__(self) -> str:
        return _written(self)


@final
@declared()
class ForeignItem(ItemTransform):
    """A torchvision v2 transform or a plain function, as an item transform.

    A v2 transform is given the whole sample, so that image and mask get the same change. A plain function is
    given each input, and its result takes the input's place; an image is a ``tv_tensors.Image`` of uint8
    (C, H, W). Whatever it draws from the global generators of torch, numpy and ``random`` is seeded by the
    sample's key; a generator of its own cannot be reached, and is found by ``summary()``.

    Args:
        function: the foreign code.
        n_inp: how many elements of a sample are inputs.
        train_only: whether validation and prediction leave it out.
    """

    threadable: ClassVar[bool] = False

    def __init__(self, function: Callable[..., Any], n_inp: int = 1, train_only: bool = False) -> None:
        self.function = function
        self.n_inp = n_inp
        self.train_only = train_only
        self.whole = is_v2(function)

    def apply(self, sample: Sample, key: int, *, train: bool) -> Sample:
        """The changed sample. Leaves the global generators as it used them: whoever calls restores them."""
        if self.train_only and not train:
            return sample
        if self.whole:
            seed_all(key)
            changed = self.function(*sample)
            return tuple(changed) if isinstance(changed, (tuple, list)) else (changed,)
        return (*(self._one(x, key) for x in sample[: self.n_inp]), *sample[self.n_inp :])

    def _one(self, x: Any, key: int) -> Any:
        seed_all(key)  # once for each input: they get the same draws
        changed = self.function(x)
        if type(changed) is torch.Tensor and isinstance(x, torch.Tensor) and changed.dtype == x.dtype:
            # Arithmetic on an image gives a plain tensor, which the transforms behind would leave alone.
            return changed.as_subclass(type(x)) if changed.ndim == x.ndim else changed
        return changed

    def __repr__(self) -> str:
        return name_of(self.function)


@final
@declared()
class ForeignBatch(BatchTransform):
    """A torchvision v2 transform or a plain function, as a batch transform.

    It is given the inputs of a batch, (B, ...) tensors on the device, and gives them back changed. What it
    draws from global generators is seeded by (seed, epoch, batch): it depends on the batch size, unlike the
    draws of a built-in transform.

    Args:
        function: the foreign code.
        n_inp: how many tensors of a batch are inputs.
        train_only: whether validation and prediction leave it out.
    """

    def __init__(self, function: Callable[..., Any], n_inp: int = 1, train_only: bool = False) -> None:
        self.function = function
        self.n_inp = n_inp
        self.train_only = train_only

    def apply(self, xs: tuple[Any, ...], u: torch.Tensor) -> tuple[Any, ...]:
        """The changed tensors; whoever calls has seeded the generators."""
        changed = self.function(*xs[: self.n_inp])
        inputs = tuple(changed) if isinstance(changed, (tuple, list)) else (changed,)
        if len(inputs) != self.n_inp:
            raise ArgumentError(
                f"the batch transform {self!r} gave {len(inputs)} tensors for {self.n_inp} inputs",
                do="let it return one tensor for each input",
            )
        return inputs + xs[self.n_inp :]

    def __repr__(self) -> str:
        return name_of(self.function)


@final
@declared()
class TrainOnly:
    """Marks foreign code as augmentation: validation and prediction leave it out.

    ``item_tfms=[v2.Resize((64, 64)), TrainOnly(v2.RandomHorizontalFlip())]``

    Args:
        function: a torchvision v2 transform or a plain function.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


Items: TypeAlias = "ItemTransform | TrainOnly | Callable[..., Any]"
Batches: TypeAlias = "BatchTransform | TrainOnly | Callable[..., Any]"


def as_item_transforms(given: Items | Iterable[Items] | None, n_inp: int = 1) -> list[ItemTransform]:
    """What a user passed as ``item_tfms``, as item transforms; classes are built, foreign code is wrapped.

    Raises:
        ArgumentError: something is no item transform.
    """
    found: list[ItemTransform] = []
    for one in _listed(given):
        made = one() if isinstance(one, type) and issubclass(one, ItemTransform) else one
        if isinstance(made, ItemTransform):
            found.append(made)
        elif isinstance(made, BatchTransform) or (
            isinstance(made, type) and issubclass(made, BatchTransform)
        ):
            raise ArgumentError(
                f"{name_of(made)} is a batch transform, given among the item transforms",
                do="pass it in batch_tfms=",
            )
        elif isinstance(made, TrainOnly):
            found.append(ForeignItem(_callable(made.function, "item_tfms"), n_inp, True))
        else:
            found.append(ForeignItem(_callable(made, "item_tfms"), n_inp))
    return found


def as_batch_transforms(given: Batches | Iterable[Batches] | None, n_inp: int = 1) -> list[BatchTransform]:
    """What a user passed as ``batch_tfms``, as batch transforms; classes are built, foreign code is wrapped.

    Raises:
        ArgumentError: something is no batch transform.
    """
    found: list[BatchTransform] = []
    for one in _listed(given):
        made = one() if isinstance(one, type) and issubclass(one, BatchTransform) else one
        if isinstance(made, BatchTransform):
            found.append(made)
        elif isinstance(made, ItemTransform) or (isinstance(made, type) and issubclass(made, ItemTransform)):
            raise ArgumentError(
                f"{name_of(made)} is an item transform, given among the batch transforms",
                do="pass it in item_tfms=",
            )
        elif isinstance(made, TrainOnly):
            found.append(ForeignBatch(_callable(made.function, "batch_tfms"), n_inp, True))
        else:
            found.append(ForeignBatch(_callable(made, "batch_tfms"), n_inp))
    return found


def in_order(transforms: Iterable[BatchTransform]) -> list[BatchTransform]:
    """The transforms by their ``order``; a user's function stays behind what it was written behind."""
    placed: list[tuple[int, BatchTransform]] = []
    for transform in transforms:
        place = transform.order
        if isinstance(transform, ForeignBatch):
            place = max((before for before, _ in placed), default=0)
        placed.append((place, transform))
    return [transform for _, transform in sorted(placed, key=lambda pair: pair[0])]


def fused(transforms: Sequence[BatchTransform]) -> list[BatchTransform]:
    """The same work with neighbours joined where they offer it."""
    done: list[BatchTransform] = []
    for transform in transforms:
        joined = done[-1].fuse(transform) if done else None
        if joined is None:
            done.append(transform)
        else:
            done[-1] = joined
    return done


def batch_key(seed: int, epoch: int, number: int) -> int:
    """The key of a foreign batch transform: (seed, batch, epoch, number of the batch)."""
    return make_key(seed, "batch", epoch, number)


def name_of(thing: object) -> str:
    """How messages name a transform, a function or a class."""
    if isinstance(thing, (ForeignItem, ForeignBatch)):
        return name_of(thing.function)
    if isinstance(thing, BatchTransform) and thing.joined():
        return " + ".join(name_of(part) for part in thing.joined())
    name = str(getattr(thing, "__qualname__", type(thing).__qualname__))
    return name.rpartition("<locals>.")[2]


def _written(transform: ItemTransform | BatchTransform) -> str:
    """The call that makes it, without what is as it is by default."""
    record = call_of(transform)
    chosen = {} if record is None else {n: v.value for n, v in record.values.items() if v.origin != "default"}
    return f"{name_of(transform)}({', '.join(f'{name}={value!r}' for name, value in chosen.items())})"


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    if isinstance(given, Iterable) and not callable(given):
        return list(given)
    return [given]


def _callable(thing: Any, argument: str) -> Callable[..., Any]:
    if isinstance(thing, type) and is_v2_class(thing):
        raise ArgumentError(
            f"{argument} holds the class {thing.__qualname__}", do=f"build it: {thing.__qualname__}(...)"
        )
    if not callable(thing):
        raise ArgumentError(
            f"{argument} holds {thing!r}, which cannot be called",
            do="pass transforms or functions",
            found=type(thing),
        )
    if is_v2(thing):
        describe_v2(thing)
    return thing  # type: ignore[no-any-return]  # callable() narrows to an untyped callable


def is_v2_class(kind: type) -> bool:
    """Whether this is a class, not an instance, of torchvision's v2 transforms."""
    return any(base.__module__.startswith("torchvision.transforms.v2") for base in kind.__mro__)
