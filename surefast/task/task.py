"""Task: the answer to "what is being learned", made by a target block and read by the Learner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from torch import Tensor

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

    def name(self, decision: Tensor) -> Any:
        """What a decoded prediction of one sample stands for: a class, a list of classes, or numbers."""
        if self.kind == "category":
            return self.vocab[int(decision)]
        if self.kind == "multicategory":
            return [name for name, chosen in zip(self.vocab, decision.tolist(), strict=True) if chosen]
        return decision.tolist()
