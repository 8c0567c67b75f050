"""Gradient accumulation: several loader batches make one step."""

from __future__ import annotations

from typing import ClassVar, final

from surefast.errors import ArgumentError
from surefast.recipe.call import declared
from surefast.train.policy import Policy


@final
@declared()
class GradientAccumulation(Policy):
    """Train on ``accumulate`` loader batches a step, each in its own grains.

    The global batch is ``accumulate * bs``. Gradients are weighted by the number of targets, so a short
    last window counts for what it holds.

    Args:
        accumulate: loader batches of one step. fastai counts samples here; this counts batches.
    """

    kind: ClassVar[str] = "accumulate"

    def __init__(self, accumulate: int) -> None:
        if accumulate < 1:
            raise ArgumentError(f"GradientAccumulation(accumulate={accumulate})", do="use 1 or more batches")
        self.accumulate = accumulate
