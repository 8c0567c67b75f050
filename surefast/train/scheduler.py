"""Set learning rate and momentum of every parameter group before each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch

from surefast.train.optimizer import set_lr, set_momentum
from surefast.train.schedule import Curve
from surefast.train.state import TrainState


@final
class Scheduler:
    """Curves over the progress of a fit, applied to an optimizer.

    Args:
        optimizer: whose parameter groups are set.
        n_groups: number of discriminative groups.
        curves: ``lr`` and ``mom`` to a function of progress; what is missing stays as it is.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, n_groups: int, curves: Mapping[str, Curve]) -> None:
        self.optimizer = optimizer
        self.n_groups = n_groups
        self.lr = curves.get("lr")
        self.mom = curves.get("mom")

    def apply(self, run: TrainState) -> None:
        """Set the values for the step that ``run`` stands before."""
        if self.lr is not None:
            run.lrs = self._spread(self.lr(run.pct))
            set_lr(self.optimizer, run.lrs)
        if self.mom is not None:
            run.moms = self._spread(self.mom(run.pct))
            set_momentum(self.optimizer, run.moms)

    def _spread(self, value: float | Sequence[float]) -> list[float]:
        if isinstance(value, (int, float)):
            return [float(value)] * self.n_groups
        return [float(v) for v in value]
