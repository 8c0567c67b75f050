"""Building one batch on the CPU: samples, what to do about bad ones, collating.

The one function that the main thread, a data thread and a data process all run, so that they cannot differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from surefast.data.collate import collate
from surefast.data.dataset import Samples
from surefast.errors import DataError
from surefast.keys.key import make_key
from surefast.protocols import Sample

OnError: TypeAlias = Literal["raise", "skip", "replace"]

REPLACEMENTS = 16
"""How many items are tried in place of a bad one before its error is raised."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to build: which samples, under which key."""

    ids: tuple[int, ...]
    seed: int
    epoch: int
    number: int
    on_error: OnError


@dataclass(frozen=True, slots=True)
class Skipped:
    """An item that was left out of a batch."""

    epoch: int
    batch: int
    index: int
    """Position in the data set."""
    name: str
    error: str
    replaced_by: int | None
    """The item taken instead, where ``on_error="replace"``."""


@dataclass(frozen=True, slots=True)
class Built:
    """A batch on the CPU, before batch transforms."""

    elements: tuple[Any, ...]
    ids: tuple[int, ...]
    skipped: tuple[Skipped, ...]


def build_batch(samples: Samples, job: Job) -> Built:
    """The batch of a job: a pure function of both; without elements where every sample was skipped.

    Raises:
        DataError: a sample failed and ``on_error`` is ``raise``.
        CollateError: the samples do not stack.
    """
    made: list[Sample] = []
    ids: list[int] = []
    skipped: list[Skipped] = []
    for index in job.ids:
        try:
            made.append(_sample(samples, index, job))
            ids.append(index)
        except DataError as error:
            if job.on_error == "raise":
                raise
            other = _replacement(samples, index, job, error) if job.on_error == "replace" else None
            if other is not None:
                made.append(other[0])
                ids.append(other[1])
            new = other[1] if other is not None else None
            name = error.details.get("file") or f"item {index}"
            skipped.append(Skipped(job.epoch, job.number, index, name, error.what, new))
    if not made:
        return Built((), (), tuple(skipped))
    names = tuple(ids)
    return Built(collate(made, lambda i: samples.item_name(names[i])), names, tuple(skipped))


def _sample(samples: Samples, index: int, job: Job) -> Sample:
    return samples.sample(index, make_key(job.seed, "item", job.epoch, index))


def _replacement(samples: Samples, index: int, job: Job, error: DataError) -> tuple[Sample, int]:
    for attempt in range(REPLACEMENTS):
        other = make_key(job.seed, "user:replace", job.epoch, index, attempt) % len(samples)
        if other == index:
            continue
        try:
            return _sample(samples, other, job), other
        except DataError:
            continue
    raise error


def ids_array(ids: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The positions as the array that a Batch holds, shape (B,)."""
    return np.asarray(ids, dtype=np.int64)
