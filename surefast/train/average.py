"""An exponential moving average of the weights, used wherever the model is evaluated."""

from __future__ import annotations

from typing import ClassVar, final

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from surefast.errors import ArgumentError
from surefast.recipe.call import declared
from surefast.train.policy import Policy


@final
@declared()
class EMA(Policy):
    """Keep ``decay * average + (1 - decay) * weights`` after every step, and evaluate with the average.

    Polyak and Juditsky: Acceleration of stochastic approximation by averaging, 1992.

    Args:
        decay: share of the old average that is kept, in (0, 1).
    """

    kind: ClassVar[str] = "average"

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 < decay < 1:
            raise ArgumentError(f"EMA(decay={decay})", do="use a decay between 0 and 1, such as 0.999")
        self.decay = decay

    def start(self, model: nn.Module) -> AveragedModel:
        """An average that begins at the model's weights; buffers such as running statistics too."""
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(self.decay), use_buffers=True)
        return average.requires_grad_(False)
