"""From samples to one batch: stacking, and saying which item does not fit.

This file must not know of files or loaders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from surefast.errors import CollateError
from surefast.protocols import Sample


def collate(samples: Sequence[Sample], name: Callable[[int], str] = str) -> tuple[Any, ...]:
    """Stack samples element by element: tensors get a first dimension, numbers become tensors.

    Texts and other things that do not stack stay lists; nested tuples and dictionaries are walked.

    Args:
        samples: the samples of one batch, at least one.
        name: from the position in the batch to the item's name, for messages.

    Raises:
        CollateError: shapes, types or numbers of elements differ; the message names two items.
    """
    count = len(samples[0])
    for i, sample in enumerate(samples):
        if len(sample) != count:
            raise CollateError(
                f"{name(i)} has {len(sample)} elements, {name(0)} has {count}",
                do="let every transform give a tuple of the same length",
            )
    return tuple(_stack([sample[i] for sample in samples], name, i) for i in range(count))


def _stack(values: list[Any], name: Callable[[int], str], element: int) -> Any:
    first = values[0]
    if isinstance(first, torch.Tensor):
        return _stack_tensors(values, name, element)
    if isinstance(first, np.ndarray):
        return _stack_tensors([_from_numpy(value) for value in values], name, element)
    if isinstance(first, (bool, int, np.integer, np.bool_)):
        return torch.tensor(values)
    if isinstance(first, (float, np.floating)):
        return torch.tensor(values, dtype=torch.float32)
    if isinstance(first, tuple):
        return tuple(_stack(list(part), name, element) for part in zip(*values, strict=True))
    if isinstance(first, dict):
        return {key: _stack([value[key] for value in values], name, element) for key in first}
    return values


def _from_numpy(value: Any) -> torch.Tensor:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else torch.as_tensor(value)


def _stack_tensors(values: list[Any], name: Callable[[int], str], element: int) -> torch.Tensor:
    first = values[0]
    for i, value in enumerate(values):
        if not isinstance(value, torch.Tensor):
            raise CollateError(
                f"element {element} of {name(i)} is a {type(value).__name__}, that of {name(0)} a tensor",
                do="let the transforms give the same type for every item",
            )
        if value.shape != first.shape or value.dtype != first.dtype:
            raise _misfit(values, i, name, element)
    # Plain tensors: the subclass of an image would be dispatched through Python on every operation.
    return torch.stack([value.as_subclass(torch.Tensor) for value in values])


def _misfit(values: list[Any], i: int, name: Callable[[int], str], element: int) -> CollateError:
    first, other = values[0], values[i]
    if first.dtype != other.dtype:
        return CollateError(
            f"element {element} differs in type: {name(0)} is {first.dtype}, {name(i)} is {other.dtype}",
            do="let the transforms give the same type for every item",
        )
    a, b = tuple(first.shape), tuple(other.shape)
    if len(a) == len(b) == 3 and a[0] == b[0]:
        what = f"pictures of different sizes do not stack: {a[2]}x{a[1]} and {b[2]}x{b[1]} pixels"
        do = "give them one size: item_tfms=Resize(224)"
    elif len(a) == len(b) == 3:
        what = f"pictures have different numbers of channels: {a[0]} and {b[0]}"
        do = "open all of them in one mode, such as ImageBlock() for RGB"
    else:
        what = f"element {element} has different shapes: {a} and {b}"
        do = "pad or cut it in an item transform, so that every item has one shape"
    return CollateError(what, do=do, first=f"{name(0)}: {a}", second=f"{name(i)}: {b}")
