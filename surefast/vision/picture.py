"""What all batch transforms of images share: which tensors are pictures, and changing some of the samples.

This file must not know any transform.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torchvision import tv_tensors

from surefast.errors import ArgumentError

Tensors: TypeAlias = tuple[Any, ...]


def is_image(x: Any) -> bool:
    """Whether a tensor of a batch is one of images: floats of (B, C, H, W)."""
    return isinstance(x, torch.Tensor) and x.ndim == 4 and x.is_floating_point()


def is_mask(x: Any, xs: Tensors) -> bool:
    """Whether a tensor of a batch is one of masks: by its type, or integers as high and wide as an image."""
    if isinstance(x, tv_tensors.Mask):
        return True
    if not isinstance(x, torch.Tensor) or x.ndim != 3 or x.is_floating_point():
        return False
    return any(isinstance(o, torch.Tensor) and o.ndim == 4 and o.shape[-2:] == x.shape[-2:] for o in xs)


def fresh(shape: Sequence[int], device: torch.device, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Uninitialised memory for a tensor.

    On the CPU it comes from numpy, which asks the system for huge pages: touching a batch of new memory for
    the first time costs a quarter of the time then, more than the arithmetic on it.
    """
    if device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    raw = torch.from_numpy(np.empty(math.prod(shape) * dtype.itemsize, np.uint8))
    return raw.view(dtype).view(shape)


def spread(u: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Uniform draws in [0, 1) as draws between ``low`` and ``high``."""
    return u * (high - low) + low


def where_changed(
    x: torch.Tensor, changed: torch.Tensor, function: Any, parameters: torch.Tensor
) -> torch.Tensor:
    """``function(x, parameters)`` for the samples that are changed, and the same bits for the others.

    Args:
        x: (B, ...).
        changed: bool (B,).
        function: of tensors (b, ...) and parameters (b, ...); gives new memory, in the shape of the first.
        parameters: (B, ...).
    """
    if x.device.type != "cpu":  # picking out samples would have to wait for the device
        return torch.where(changed.view(-1, *[1] * (x.ndim - 1)), function(x, parameters), x)
    index = changed.nonzero()[:, 0]
    if not len(index):
        return x
    if 2 * len(index) < len(x):
        part = function(x.index_select(0, index), parameters.index_select(0, index))
        return fresh(x.shape, x.device, x.dtype).copy_(x).index_copy_(0, index, part)
    out: torch.Tensor = function(x, parameters)
    rest = (~changed).nonzero()[:, 0]
    return out.index_copy_(0, rest, x.index_select(0, rest)) if len(rest) else out


def as_mask(out: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """``out`` with the type of ``like``, where that is a mask by its type."""
    return out.as_subclass(tv_tensors.Mask) if isinstance(like, tv_tensors.Mask) else out


def probability(p: float) -> float:
    """``p``, checked.

    Raises:
        ArgumentError: it is no probability.
    """
    if not 0 <= p <= 1:
        raise ArgumentError(f"p is {p}, expected a probability", do="pass 0 to 1")
    return p
