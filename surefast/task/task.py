"""Task: the answer to "what is being learned", made by a target block and read by the Learner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from surefast.task.loss import Loss

Kind: TypeAlias = Literal["category", "multicategory", "regression"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """The loss of a target, the size of the output it needs, and what the numbers stand for."""

    kind: Kind
    """Which of the known kinds of target this is."""

    loss: Loss
    """The loss with its activation and decoding."""

    n_out: int
    """How many numbers the model must give for one sample."""

    vocab: tuple[str, ...] = ()
    """What the output positions stand for; empty for regression."""
