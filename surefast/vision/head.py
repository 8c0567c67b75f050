"""The head of an image model: from a map of features to the numbers that the task asks for.

Pooling is ``mean`` and ``amax``: torch's adaptive pooling has no deterministic gradient on a CUDA card.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from surefast.errors import ArgumentError
from surefast.recipe.call import declared


@declared()
class ConcatPool(nn.Module):
    """The largest and the mean value of each feature: (B, C, H, W) to (B, 2 C, 1, 1), the largest first."""

    def forward(self, x: Tensor) -> Tensor:
        """Both values, one after the other."""
        return torch.cat([x.amax((2, 3), keepdim=True), x.mean((2, 3), keepdim=True)], dim=1)


@declared()
class MeanPool(nn.Module):
    """The mean value of each feature: (B, C, H, W) to (B, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        """The mean over the picture."""
        return x.mean((2, 3), keepdim=True)


@declared()
class Flatten(nn.Module):
    """All numbers of a sample in a row: (B, ...) to (B, n).

    Args:
        full: whether the batch is flattened too, to (B n,).
    """

    def __init__(self, full: bool = False) -> None:
        super().__init__()
        self.full = full

    def forward(self, x: Tensor) -> Tensor:
        """The same numbers in a row."""
        return x.flatten() if self.full else x.flatten(1)


@declared()
class SigmoidRange(nn.Module):
    """Numbers between two bounds, by a sigmoid.

    Args:
        low: the lower bound, never quite reached.
        high: the upper bound, never quite reached.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        """``low`` to ``high``."""
        return torch.sigmoid(x) * (self.high - self.low) + self.low


@declared()
class LinBnDrop(nn.Sequential):
    """BatchNorm, dropout and a linear layer, in this order: (B, ``n_in``) to (B, ``n_out``).

    Args:
        n_in: numbers in.
        n_out: numbers out.
        bn: whether there is a BatchNorm; the linear layer has a bias where there is none.
        p: dropout.
        act: an activation after the linear layer.
        lin_first: whether the linear layer and its activation come before norm and dropout.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        bn: bool = True,
        p: float = 0.0,
        act: nn.Module | None = None,
        *,
        lin_first: bool = False,
    ) -> None:
        before: list[nn.Module] = [nn.BatchNorm1d(n_out if lin_first else n_in)] if bn else []
        if p:
            before.append(nn.Dropout(p))
        linear: list[nn.Module] = [nn.Linear(n_in, n_out, bias=not bn)]
        if act is not None:
            linear.append(act)
        super().__init__(*(linear + before if lin_first else before + linear))


@declared()
def create_head(  # noqa: PLR0913 - fastai's argument list
    nf: int,
    n_out: int,
    lin_ftrs: Sequence[int] | None = None,
    ps: float | Sequence[float] = 0.5,
    pool: bool = True,
    *,
    concat_pool: bool = True,
    first_bn: bool = True,
    bn_final: bool = False,
    lin_first: bool = False,
    y_range: tuple[float, float] | None = None,
) -> nn.Sequential:
    """A head with fastai's layout: (B, ``nf``, H, W) to (B, ``n_out``).

    By default: pooling, then norm, dropout, linear to 512, ReLU, then norm, dropout, linear to ``n_out``.

    Args:
        nf: features of the body.
        n_out: numbers out.
        lin_ftrs: widths of the hidden layers; [512] where not given.
        ps: dropout of each layer; one number is for the last layer, those before it get half of it.
        pool: whether the features are a map to be pooled; False where the body gives (B, ``nf``).
        concat_pool: whether the largest value stands beside the mean.
        first_bn: whether the first layer has a BatchNorm.
        bn_final: whether a BatchNorm follows the last layer.
        lin_first: whether linear layers come before norm and dropout.
        y_range: bounds of the output, for regression.

    Raises:
        ArgumentError: there are not as many ``ps`` as layers.
    """
    widths = [nf * 2 if pool and concat_pool else nf, *([512] if lin_ftrs is None else lin_ftrs), n_out]
    drops = _dropouts(ps, len(widths) - 1)
    layers: list[nn.Module] = []
    if pool:
        layers += [ConcatPool() if concat_pool else MeanPool(), Flatten()]
    if lin_first:
        layers.append(nn.Dropout(drops.pop(0)))
    last = len(widths) - 2
    for i, (n_from, n_to) in enumerate(itertools.pairwise(widths)):
        if lin_first and i == last:
            layers.append(nn.Linear(n_from, n_to))
            break
        act = nn.ReLU(inplace=True) if i < last else None
        layers += LinBnDrop(n_from, n_to, first_bn or i > 0, drops[i], act, lin_first=lin_first)
    if bn_final:
        layers.append(nn.BatchNorm1d(n_out, momentum=0.01))
    if y_range is not None:
        layers.append(SigmoidRange(*y_range))
    return nn.Sequential(*layers)


def _dropouts(ps: float | Sequence[float], count: int) -> list[float]:
    given = [ps] if isinstance(ps, int | float) else list(ps)
    drops = [given[0] / 2] * (count - 1) + given if len(given) == 1 else given
    if len(drops) != count or not all(0 <= p < 1 for p in drops):
        raise ArgumentError(
            f"create_head(): ps={ps!r} for {count} linear layers",
            do=f"give one number, or {count}, each from 0 to below 1",
        )
    return drops


@declared(skip={"module"})
def apply_init(module: nn.Module, init: Callable[[Tensor], Any] = nn.init.kaiming_normal_) -> nn.Module:
    """Draw the weights of all layers but norms by ``init`` and set their biases to zero, in place."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm):
            continue
        for name, parameter in layer.named_parameters(recurse=False):
            if name == "weight" and parameter.ndim > 1:
                init(parameter)
            elif name == "bias":
                nn.init.zeros_(parameter)
    return module
