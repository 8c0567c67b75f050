"""Gradient clipping by the global L2 norm."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import nn

from surefast.errors import ArgumentError
from surefast.recipe.call import declared
from surefast.train.policy import Policy


@final
@declared()
class GradientClip(Policy):
    """Scale all gradients down when their common L2 norm is above ``max_norm``.

    Pascanu, Mikolov, Bengio: On the difficulty of training recurrent neural networks, arXiv 1211.5063.

    Args:
        max_norm: largest norm that is left alone.
    """

    kind: ClassVar[str] = "clip"

    def __init__(self, max_norm: float = 1.0) -> None:
        if not max_norm > 0:
            raise ArgumentError(
                f"GradientClip(max_norm={max_norm}) would stop learning", do="use max_norm > 0"
            )
        self.max_norm = max_norm

    def apply(self, params: list[nn.Parameter], norm: torch.Tensor) -> None:
        """Scale the gradients of ``params`` whose common norm is ``norm``; bits as torch's own clipping."""
        torch.nn.utils.clip_grads_with_norm_(params, self.max_norm, norm)
