"""On a card: the same recipe gives the same bits in strict mode, in float32 and in float16 with scaling."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from surefast.data.dataloaders import DataLoaders
from surefast.learner import Learner
from surefast.recipe.digest import digest
from surefast.task.loss import CrossEntropyLossFlat
from surefast.train.compiled import ChannelsLast

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA card"),
]


def net() -> nn.Module:
    """Convolution, batch norm and dropout on 16x16 pictures."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(2048, 4),
    )


def trained(**settings) -> str:
    """The hash of the weights after three epochs on the card."""
    generator = torch.Generator().manual_seed(2)
    batches = [
        (torch.randn(16, 3, 16, 16, generator=generator), torch.randint(0, 4, (16,), generator=generator))
        for _ in range(8)
    ]
    learn = Learner(
        DataLoaders(batches, batches, device="cuda"), net, loss_func=CrossEntropyLossFlat(), **settings
    )
    learn.fit_one_cycle(3, 1e-2)
    return digest(learn.model, repr)


@pytest.mark.parametrize(
    "settings",
    [{}, {"precision": "bf16"}, {"precision": "fp16"}, {"grains": 4}, {"cbs": [ChannelsLast()]}],
    ids=["float32", "bf16", "fp16", "grains", "channels last"],
)
def test_the_same_recipe_gives_the_same_bits(settings):
    """Twice the same: equal weights; another seed: others."""
    assert trained(**settings) == trained(**settings)
    assert trained(**settings) != trained(**settings, seed=1)
