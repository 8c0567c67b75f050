"""Two checks before training: the same file on both sides, and transforms that do not repeat.

This file must not know of batches.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
import xxhash

from surefast.data.assemble import Job, build_batch
from surefast.data.dataset import Samples
from surefast.data.device import DeviceStage
from surefast.data.transform import BatchTransform, ForeignBatch, ItemTransform, name_of
from surefast.errors import LeakError, SurefastWarning, TransformError
from surefast.keys.key import DEFAULT_SEED, make_key, sub_key
from surefast.protocols import Sample

READ_LIMIT: Final = 20_000
"""Above this many files of equal size the check before training is left out, and says so."""

_HEAD_BYTES: Final = 16_384


@dataclass(frozen=True, slots=True)
class Leak:
    """A training file and a validation file with the same bytes."""

    train: int
    """Position in the training set."""
    valid: int
    """Position in the validation set."""
    train_name: str
    valid_name: str


def find_leaks(
    train_items: Iterable[str | os.PathLike[str] | None],
    valid_items: Iterable[str | os.PathLike[str] | None],
    *,
    limit: int | None = None,
) -> list[Leak]:
    """Validation files whose bytes are those of a training file; each is named once.

    Only files of equal size are read, first their beginning, then, where that is equal too, the whole.

    Args:
        train_items: training files; None for an item without one.
        valid_items: validation files.
        limit: give up where more files than this would have to be read.

    Raises:
        LeakError: more than ``limit`` files would have to be read.
    """
    train = _by_size(train_items)
    valid = _by_size(valid_items)
    shared = train.keys() & valid.keys()
    reads = sum(len(train[size]) + len(valid[size]) for size in shared)
    if limit is not None and reads > limit:
        raise LeakError(
            f"{reads} files share their size with one on the other side", do="find_leaks() reads them all"
        )
    found: list[Leak] = []
    for size in shared:
        found += _compare(train[size], valid[size], size)
    return sorted(found, key=lambda leak: leak.valid)


def check_leaks(train: Samples, valid: Samples, *, refuse: bool) -> None:
    """Warn of files that are on both sides, or refuse them.

    Raises:
        LeakError: there are such files and ``refuse`` is set.
    """
    try:
        leaks = find_leaks(train.paths(), valid.paths(), limit=None if refuse else READ_LIMIT)
    except LeakError as error:
        warnings.warn(
            f"not checked for files in both sets: {error.what}. To check: check_leaks='raise'.",
            SurefastWarning,
            stacklevel=4,
        )
        return
    if not leaks:
        return
    first = leaks[0]
    what = (
        f"{len(leaks)} of {len(valid)} validation files are in the training set too (same bytes); the first "
        f"is {first.valid_name}, in training as {first.train_name}"
    )
    do = "keep copies together with GroupSplitter(group=...), or drop them; find_leaks() lists them all"
    if refuse:
        raise LeakError(what, do=do)
    warnings.warn(f"{what}. {do[0].upper()}{do[1:]}.", SurefastWarning, stacklevel=4)


def _by_size(items: Iterable[str | os.PathLike[str] | None]) -> dict[int, list[tuple[int, str]]]:
    sizes: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for i, item in enumerate(items):
        if item is None:
            continue
        path = os.fspath(item)
        try:
            sizes[os.stat(path).st_size].append((i, path))
        except OSError:
            continue  # opening it will say so, with its name
    return sizes


def _compare(train: list[tuple[int, str]], valid: list[tuple[int, str]], size: int) -> list[Leak]:
    heads = {_digest(path, _HEAD_BYTES) for _, path in valid}
    train = [(i, path) for i, path in train if _digest(path, _HEAD_BYTES) in heads]
    if not train:
        return []
    whole = size if size > _HEAD_BYTES else _HEAD_BYTES
    known: dict[bytes, tuple[int, str]] = {}
    for i, path in train:
        known.setdefault(_digest(path, whole), (i, path))
    pairs = ((known.get(_digest(path, whole)), i, path) for i, path in valid)
    return [Leak(same[0], i, same[1], path) for same, i, path in pairs if same is not None]


def _digest(path: str, length: int) -> bytes:
    digest = xxhash.xxh3_128()
    try:
        with Path(path).open("rb") as file:
            while length > 0 and (part := file.read(min(length, 1 << 20))):
                digest.update(part)
                length -= len(part)
    except OSError:
        return path.encode()  # equal to no other
    return digest.digest()


def check_repeatable(samples: Samples) -> None:
    """Draw one sample twice under one key, and under several where nothing should be random.

    Built-in transforms cannot fail this; foreign ones can, when they keep a generator of their own.

    Raises:
        TransformError: the two differ; names the getter, opener or transform that does not repeat.
    """
    try:
        with samples.guarded():
            _check_stages(samples)
    except (TransformError, MemoryError):
        raise
    except Exception:  # noqa: BLE001  # a sample that fails is the loader's to report, by on_error
        return


def _check_stages(samples: Samples) -> None:
    sample, key = copy.deepcopy(samples.raw(0)), make_key(DEFAULT_SEED, "item", 0, 0)
    if not same(sample, samples.raw(0)):
        raise _unrepeatable("reading and opening", samples)
    samples.sample(0, key)
    if not same(sample, samples.raw(0)):
        raise TransformError(
            "the transforms change the items of the data set themselves: each epoch starts from what the "
            "one before left",
            do="work on a copy: x = x.clone()",
            file=samples.item_name(0),
        )
    for i, transform in enumerate(samples.item_tfms):
        keys = [sub_key(key, f"{i}:{attempt}") for attempt in range(4)]
        sample = _check_transform(transform, sample, keys, samples)


def _check_transform(
    transform: ItemTransform, sample: Sample, keys: Sequence[int], samples: Samples
) -> Sample:
    def draw(key: int) -> Sample:
        return transform.apply(copy.deepcopy(sample), key, train=samples.train)

    first = draw(keys[0])
    if transform.threadable:
        return first
    if not same(first, draw(keys[0])):
        raise _unrepeatable(name_of(transform), samples)
    if not samples.train and not all(same(first, draw(key)) for key in keys[1:]):
        warnings.warn(
            f"{name_of(transform)} is random in validation too, so that a validation item differs from epoch "
            "to epoch. Mark augmentation as such: TrainOnly(...).",
            SurefastWarning,
            stacklevel=6,
        )
    return first


def _unrepeatable(stage: str, samples: Samples) -> TransformError:
    return TransformError(
        f"{stage} gave two different results for the same item and the same seed",
        do="draw from the global generators of torch, numpy or random, which are seeded for each item, "
        "not from a generator of its own",
        file=samples.item_name(0),
    )


def check_validation_batches(samples: Samples, transforms: Sequence[BatchTransform]) -> None:
    """Warn of foreign batch transforms that are random in validation too."""
    foreign = [t for t in transforms if isinstance(t, ForeignBatch) and not t.train_only]
    if not foreign:
        return
    job = Job((0,), DEFAULT_SEED, 0, 0, "raise")
    stage = DeviceStage(transforms, samples.n_inp, train=False)
    try:
        with samples.guarded():
            built = build_batch(samples, job)
        made = [
            stage(copy.deepcopy(built), replace(job, number=number), torch.device("cpu")).x
            for number in range(6)
        ]
    except Exception:  # noqa: BLE001  # what fails is the loader's to report
        return
    if not all(same(made[0], other) for other in made[1:]):
        warnings.warn(
            f"{', '.join(map(name_of, foreign))} among the batch transforms: random in validation too. Mark "
            "augmentation as such: TrainOnly(...).",
            SurefastWarning,
            stacklevel=4,
        )


def same(a: Any, b: Any) -> bool:
    """Whether two samples, or parts of them, are equal bit by bit; unknown things count as equal."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.shape == b.shape and _raw(a) == _raw(b)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if hasattr(a, "__array__"):
        return same(torch.as_tensor(a.__array__()), torch.as_tensor(b.__array__()))
    return bool(a == b) if isinstance(a, (int, float, str, bytes)) else True


def _raw(tensor: torch.Tensor) -> bytes:
    plain = tensor.detach().as_subclass(torch.Tensor).cpu().contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
