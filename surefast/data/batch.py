"""Batch: what travels from the loader to the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(slots=True)
class Batch:
    """Inputs and targets of one batch on the training device, and which samples they are."""

    x: tuple[Any, ...]
    """The inputs: tensors whose first dimension is the sample."""

    y: tuple[Any, ...]
    """The targets; empty for a test set without labels."""

    ids: npt.NDArray[np.int64]
    """Positions of the samples in their data set, shape (B,)."""

    epoch: int
    number: int
    """Position of the batch in its epoch, from 0."""

    def __len__(self) -> int:
        return len(self.ids)
