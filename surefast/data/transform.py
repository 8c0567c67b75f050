"""The two contracts of transforms: on one item in a worker, and on a batch on the device.

A built-in transform never draws from a global generator: an item transform is given a key, a batch
transform is given uniform numbers made from the keys of its samples. Foreign code (a torchvision v2
transform, a plain function) is wrapped, and runs with all global generators seeded by the key.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import torch

from surefast.protocols import Sample


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


class BatchTransform(abc.ABC):
    """A change of a batch on the device: a pure function of (tensors, uniform draws)."""

    draws: int = 0
    """How many uniform numbers it needs for each sample; 0 where nothing is random."""

    train_only: bool = False
    """Whether validation and prediction leave it out."""

    @abc.abstractmethod
    def apply(self, xs: tuple[Any, ...], u: torch.Tensor) -> tuple[Any, ...]:
        """The changed tensors of the batch: inputs, then targets.

        Args:
            xs: tensors (B, ...).
            u: uniform draws in [0, 1), shape (B, ``draws``), on the same device.
        """

    def decode(self, xs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Undo what stands between a picture and what the model sees; nothing by default."""
        return xs
