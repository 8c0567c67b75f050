"""Light and colour of batches: brightness and contrast in logit space, saturation and hue as a matrix.

As in fastai, brightness and contrast make sigmoid(a logit(x) + b) of x: nothing is clipped, black stays black
and white stays white. Saturation and hue make M x of a colour x, clipped to [0, 1] (in logit space a channel
at 0 would outweigh the others). Neighbours of a kind are joined into one pass. Images are floats in [0, 1],
so both stand after ``IntToFloatTensor`` and before ``Normalize``. A sample whose coins all say no keeps its
bits.

This file must not know of geometry.
"""

from __future__ import annotations

import abc
import math
from typing import Final, final

import torch

from surefast.data.transform import BatchTransform
from surefast.errors import ArgumentError
from surefast.recipe.call import declared
from surefast.vision.picture import Tensors, fresh, is_image, probability, spread, where_changed

_LUMA: Final = (0.299, 0.587, 0.114)
"""What red, green and blue add to grey (ITU-R BT.601)."""

_LOGIT_EPS: Final = 1e-6


class LightingTransform(BatchTransform):
    """Base of brightness and contrast: a factor and an offset a sample, in logit space.

    Args:
        p: how likely a sample is changed.
    """

    train_only = True
    draws = 2

    def __init__(self, p: float) -> None:
        self.p = probability(p)

    @abc.abstractmethod
    def light(self, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Factor and offset, each (B,); 1 and 0 where the coin says no."""

    def active(self, u: torch.Tensor) -> torch.Tensor:
        """Which samples are changed at all: bool (B,)."""
        return u[:, 0] < self.p

    def fuse(self, other: BatchTransform) -> BatchTransform | None:
        """One pass for this and ``other``."""
        if not isinstance(other, LightingTransform):
            return None
        return _JoinedLighting([*self._parts(), *other._parts()])

    def _parts(self) -> list[LightingTransform]:
        return [self]

    def apply(self, xs: Tensors, u: torch.Tensor) -> Tensors:
        """The tensors with images in another light."""
        u = u.to(torch.float32)
        changed, light = self.active(u), torch.stack(self.light(u), dim=1)
        return tuple(where_changed(x, changed, relight, light) if is_image(x) else x for x in xs)


@final
class _JoinedLighting(LightingTransform):
    """Several changes of light as one: what stands first acts first."""

    def __init__(self, parts: list[LightingTransform]) -> None:
        super().__init__(1.0)
        self.parts = parts
        self.draws = sum(part.draws for part in parts)

    def _parts(self) -> list[LightingTransform]:
        return self.parts

    def joined(self) -> list[LightingTransform]:
        return self.parts

    def _pieces(self, u: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(u.split([part.draws for part in self.parts], dim=1))

    def light(self, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        factor, offset = torch.ones_like(u[:, 0]), torch.zeros_like(u[:, 0])
        for part, piece in zip(self.parts, self._pieces(u), strict=True):
            next_factor, next_offset = part.light(piece)
            factor, offset = next_factor * factor, next_factor * offset + next_offset
        return factor, offset

    def active(self, u: torch.Tensor) -> torch.Tensor:
        coins = [part.active(piece) for part, piece in zip(self.parts, self._pieces(u), strict=True)]
        return torch.stack(coins).any(dim=0)


@final
@declared()
class Brightness(LightingTransform):
    """Makes images lighter or darker.

    Args:
        max_lighting: greatest change; middle grey becomes a grey between (1 - max_lighting) / 2 and
            (1 + max_lighting) / 2.
        p: how likely a sample is changed.
    """

    def __init__(self, max_lighting: float = 0.2, p: float = 0.75) -> None:
        super().__init__(p)
        self.max_lighting = _below_one("max_lighting", max_lighting)

    def light(self, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Factor 1, and the logit of a grey."""
        grey = spread(u[:, 1], 0.5 * (1 - self.max_lighting), 0.5 * (1 + self.max_lighting))
        return torch.ones_like(grey), torch.logit(grey) * self.active(u)


@final
@declared()
class Contrast(LightingTransform):
    """Spreads levels away from middle grey, or draws them to it.

    Args:
        max_lighting: greatest change; the factor lies between 1 - max_lighting and its inverse.
        p: how likely a sample is changed.
    """

    def __init__(self, max_lighting: float = 0.2, p: float = 0.75) -> None:
        super().__init__(p)
        self.max_lighting = _below_one("max_lighting", max_lighting)

    def light(self, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A factor, and offset 0."""
        factor = _log_factor(u[:, 1], self.max_lighting, self.active(u))
        return factor, torch.zeros_like(factor)


class ColourTransform(BatchTransform):
    """Base of saturation and hue: a colour matrix a sample; images of other than 3 channels stay as they are.

    Args:
        p: how likely a sample is changed.
    """

    train_only = True
    draws = 2

    def __init__(self, p: float) -> None:
        self.p = probability(p)

    @abc.abstractmethod
    def matrix(self, u: torch.Tensor) -> torch.Tensor:
        """From colour to colour: (B, 3, 3); the identity where the coin says no."""

    def active(self, u: torch.Tensor) -> torch.Tensor:
        """Which samples are changed at all: bool (B,)."""
        return u[:, 0] < self.p

    def fuse(self, other: BatchTransform) -> BatchTransform | None:
        """One pass for this and ``other``."""
        if not isinstance(other, ColourTransform):
            return None
        return _JoinedColour([*self._parts(), *other._parts()])

    def _parts(self) -> list[ColourTransform]:
        return [self]

    def apply(self, xs: Tensors, u: torch.Tensor) -> Tensors:
        """The tensors with images in other colours."""
        u = u.to(torch.float32)
        changed, matrix = self.active(u), self.matrix(u)
        return tuple(
            where_changed(x, changed, recolour, matrix) if is_image(x) and x.shape[1] == 3 else x for x in xs
        )


@final
class _JoinedColour(ColourTransform):
    """Several changes of colour as one: what stands first acts first, and only the sum is clipped."""

    def __init__(self, parts: list[ColourTransform]) -> None:
        super().__init__(1.0)
        self.parts = parts
        self.draws = sum(part.draws for part in parts)

    def _parts(self) -> list[ColourTransform]:
        return self.parts

    def joined(self) -> list[ColourTransform]:
        return self.parts

    def _pieces(self, u: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(u.split([part.draws for part in self.parts], dim=1))

    def matrix(self, u: torch.Tensor) -> torch.Tensor:
        total = torch.eye(3, device=u.device).expand(len(u), 3, 3)
        for part, piece in zip(self.parts, self._pieces(u), strict=True):
            total = part.matrix(piece) @ total
        return total

    def active(self, u: torch.Tensor) -> torch.Tensor:
        coins = [part.active(piece) for part, piece in zip(self.parts, self._pieces(u), strict=True)]
        return torch.stack(coins).any(dim=0)


@final
@declared()
class Saturation(ColourTransform):
    """Makes colours stronger or greyer.

    Args:
        max_lighting: greatest change; the factor lies between 1 - max_lighting and its inverse.
        p: how likely a sample is changed.
    """

    def __init__(self, max_lighting: float = 0.2, p: float = 0.75) -> None:
        super().__init__(p)
        self.max_lighting = _below_one("max_lighting", max_lighting)

    def matrix(self, u: torch.Tensor) -> torch.Tensor:
        """Towards grey, or away from it."""
        return saturation_matrix(_log_factor(u[:, 1], self.max_lighting, self.active(u)))


@final
@declared()
class Hue(ColourTransform):
    """Turns colours around the axis of greys.

    Args:
        max_hue: greatest turn to either side, as a part of the circle.
        p: how likely a sample is changed.
    """

    def __init__(self, max_hue: float = 0.1, p: float = 0.75) -> None:
        super().__init__(p)
        self.max_hue = _below_one("max_hue", max_hue)

    def matrix(self, u: torch.Tensor) -> torch.Tensor:
        """A rotation of colours."""
        return hue_matrix(spread(u[:, 1], -self.max_hue, self.max_hue) * self.active(u))


def relight(x: torch.Tensor, light: torch.Tensor) -> torch.Tensor:
    """Images (B, C, H, W) in [0, 1] as sigmoid(a logit(x) + b), for (a, b) in ``light`` (B, 2)."""
    factor, offset = light[:, 0, None, None, None], light[:, 1, None, None, None]
    return (
        torch.logit(x, _LOGIT_EPS, out=fresh(x.shape, x.device, x.dtype)).mul_(factor).add_(offset).sigmoid_()
    )


def recolour(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, H, W) in [0, 1] with each colour multiplied by ``matrix`` (B, 3, 3), then clipped."""
    return torch.bmm(matrix, x.flatten(2)).clamp_(0, 1).view(x.shape)


def saturation_matrix(factor: torch.Tensor) -> torch.Tensor:
    """Moves colours from their grey (factor 0) over themselves (1) outwards: (B,) to (B, 3, 3)."""
    grey = torch.tensor(_LUMA, device=factor.device).expand(3, 3)
    factor = factor[:, None, None]
    return torch.eye(3, device=factor.device) * factor + grey * (1 - factor)


def hue_matrix(turn: torch.Tensor) -> torch.Tensor:
    """Turns colours around the grey axis by parts of a circle, by Rodrigues' formula: (B,) to (B, 3, 3)."""
    angle = (turn * (2 * math.pi))[:, None, None]
    third = 1 / math.sqrt(3)
    cross = torch.tensor(
        [[0.0, -third, third], [third, 0.0, -third], [-third, third, 0.0]], device=turn.device
    )
    along = torch.full((3, 3), 1 / 3, device=turn.device)
    return torch.eye(3, device=turn.device) * angle.cos() + cross * angle.sin() + along * (1 - angle.cos())


def _log_factor(u: torch.Tensor, max_lighting: float, active: torch.Tensor) -> torch.Tensor:
    edge = -math.log(1 - max_lighting)
    return (spread(u, -edge, edge) * active).exp()


def _below_one(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise ArgumentError(f"{name} is {value}, expected 0 to below 1", do="such as 0.2")
    return value
