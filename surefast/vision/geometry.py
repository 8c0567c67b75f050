"""Geometry of batches: one homography a sample, one interpolation however many transforms there are.

A transform gives a matrix from output to input coordinates; neighbours are multiplied into one. Coordinates
run from -1 to 1 over the picture; rotation keeps angles on pictures that are not square. Masks get the same
matrix, without mixing values. A sample whose coins all say no keeps its bits.

This file must not know of colours.
"""

from __future__ import annotations

import abc
import math
from typing import Any, Final, final

import torch
import torch.nn.functional as F

from surefast.data.transform import BatchTransform
from surefast.errors import ArgumentError
from surefast.recipe.call import declared
from surefast.vision.picture import (
    Tensors,
    as_mask,
    fresh,
    is_image,
    is_mask,
    probability,
    spread,
    where_changed,
)
from surefast.vision.transforms import Padding, Resample, Size, as_size


class SpaceTransform(BatchTransform):
    """Base of the geometry: a homography a sample, joined with those of its neighbours.

    Args:
        size: height and width of the output; None keeps them.
        mode: interpolation of images, ``bilinear``, ``bicubic`` or ``nearest``; masks are always nearest.
        pad_mode: what stands outside of the picture: ``reflection``, ``border`` or ``zeros``.
        align_corners: whether -1 and 1 are the centres of the outer pixels, or their outer edges.
    """

    train_only = True

    def __init__(
        self,
        size: Size | None = None,
        mode: Resample = "bilinear",
        pad_mode: Padding = "reflection",
        align_corners: bool = True,
    ) -> None:
        if mode not in {"bilinear", "bicubic", "nearest"}:
            raise ArgumentError(f"mode is {mode!r}", do="use one of: bilinear, bicubic, nearest")
        if pad_mode not in {"reflection", "border", "zeros"}:
            raise ArgumentError(f"pad_mode is {pad_mode!r}", do="use one of: reflection, border, zeros")
        self.size = None if size is None else as_size(size)
        self.mode: Resample = mode
        self.pad_mode: Padding = pad_mode
        self.align_corners = align_corners

    @abc.abstractmethod
    def matrix(self, u: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """From output to input coordinates: (B, 3, 3), for a picture of ``height`` by ``width``."""

    @abc.abstractmethod
    def active(self, u: torch.Tensor) -> torch.Tensor:
        """Which samples are changed at all: bool (B,)."""

    def fuse(self, other: BatchTransform) -> BatchTransform | None:
        """One interpolation for this and ``other``, where both say the same of interpolation and padding."""
        if not isinstance(other, SpaceTransform) or self._how() != other._how():
            return None
        return _JoinedSpace([*self._parts(), *other._parts()])

    def _how(self) -> tuple[object, ...]:
        return self.mode, self.pad_mode, self.align_corners

    def _parts(self) -> list[SpaceTransform]:
        return [self]

    def apply(self, xs: Tensors, u: torch.Tensor) -> Tensors:
        """The tensors with images and masks moved."""
        u = u.to(torch.float32)
        return tuple(self._element(x, xs, u) for x in xs)

    def _element(self, x: Any, xs: Tensors, u: torch.Tensor) -> Any:
        if is_mask(x, xs):
            plain = x.as_subclass(torch.Tensor)
            # float32 holds the integers up to 2**24 exactly.
            picture = plain.reshape(plain.shape[0], -1, *plain.shape[-2:]).float()
            moved = self._move(picture, u, "nearest")
            return as_mask(moved.to(plain.dtype).reshape(*plain.shape[:-2], *moved.shape[-2:]), x)
        return self._move(x, u, self.mode) if is_image(x) else x

    def _move(self, x: torch.Tensor, u: torch.Tensor, mode: Resample) -> torch.Tensor:
        height, width = x.shape[-2:]
        size = self.size or (height, width)

        def moved(picture: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
            return warp(picture, matrix, size, mode, self.pad_mode, align_corners=self.align_corners)

        matrix = self.matrix(u, height, width)
        return (
            moved(x, matrix) if size != (height, width) else where_changed(x, self.active(u), moved, matrix)
        )


@final
class _JoinedSpace(SpaceTransform):
    """Several homographies as one: what stands first acts first."""

    def __init__(self, parts: list[SpaceTransform]) -> None:
        sizes = [part.size for part in parts if part.size is not None]
        first = parts[0]
        super().__init__(sizes[-1] if sizes else None, first.mode, first.pad_mode, first.align_corners)
        self.parts = parts
        self.draws = sum(part.draws for part in parts)

    def _parts(self) -> list[SpaceTransform]:
        return self.parts

    def joined(self) -> list[SpaceTransform]:
        return self.parts

    def matrix(self, u: torch.Tensor, height: int, width: int) -> torch.Tensor:
        pieces = u.split([part.draws for part in self.parts], dim=1)
        total = self.parts[0].matrix(pieces[0], height, width)
        for part, piece in zip(self.parts[1:], pieces[1:], strict=True):
            # Matrices lead from output back to input: the later transform is applied to coordinates first.
            total = total @ part.matrix(piece, height, width)
        return total

    def active(self, u: torch.Tensor) -> torch.Tensor:
        pieces = u.split([part.draws for part in self.parts], dim=1)
        masks = [part.active(piece) for part, piece in zip(self.parts, pieces, strict=True)]
        return torch.stack(masks).any(dim=0)


@final
@declared()
class Flip(SpaceTransform):
    """Mirrors left and right.

    Args:
        p: how likely a sample is mirrored.
        size, mode, pad_mode, align_corners: see ``SpaceTransform``.
    """

    draws = 1

    def __init__(
        self,
        p: float = 0.5,
        *,
        size: Size | None = None,
        mode: Resample = "bilinear",
        pad_mode: Padding = "reflection",
        align_corners: bool = True,
    ) -> None:
        super().__init__(size, mode, pad_mode, align_corners)
        self.p = probability(p)

    def matrix(self, u: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """A mirror, or the identity."""
        return dihedral_matrix(self.active(u).long())

    def active(self, u: torch.Tensor) -> torch.Tensor:
        """Samples whose coin says yes."""
        return u[:, 0] < self.p

    def _move(self, x: torch.Tensor, u: torch.Tensor, mode: Resample) -> torch.Tensor:
        if self.size is not None:
            return super()._move(x, u, mode)
        # Alone, a mirror needs no interpolation.
        changed = self.active(u)
        return where_changed(x, changed, lambda picture, _: picture.flip(-1), changed)


@final
@declared()
class Dihedral(SpaceTransform):
    """One of the eight ways to lay down a square picture, each as likely.

    A picture that is not square is squeezed into its own shape where it is laid on its side.

    Args:
        p: how likely a sample is laid down anew; one way of the eight is as it was.
        size, mode, pad_mode, align_corners: see ``SpaceTransform``.
    """

    draws = 2

    def __init__(
        self,
        p: float = 0.5,
        *,
        size: Size | None = None,
        mode: Resample = "bilinear",
        pad_mode: Padding = "reflection",
        align_corners: bool = True,
    ) -> None:
        super().__init__(size, mode, pad_mode, align_corners)
        self.p = probability(p)

    def _way(self, u: torch.Tensor) -> torch.Tensor:
        way = (u[:, 1] * 8).long().clamp_(max=7)
        return torch.where(u[:, 0] < self.p, way, torch.zeros_like(way))

    def matrix(self, u: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """One of eight matrices."""
        return dihedral_matrix(self._way(u))

    def active(self, u: torch.Tensor) -> torch.Tensor:
        """Samples that get another way than their own."""
        return self._way(u) > 0


@final
@declared()
class Rotate(SpaceTransform):
    """Turns by a random angle.

    Args:
        max_deg: greatest angle, in degrees, to either side.
        p: how likely a sample is turned.
        size, mode, pad_mode, align_corners: see ``SpaceTransform``.
    """

    draws = 2

    def __init__(
        self,
        max_deg: float = 10.0,
        p: float = 0.5,
        *,
        size: Size | None = None,
        mode: Resample = "bilinear",
        pad_mode: Padding = "reflection",
        align_corners: bool = True,
    ) -> None:
        super().__init__(size, mode, pad_mode, align_corners)
        self.max_deg = max_deg
        self.p = probability(p)

    def matrix(self, u: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """A rotation, or the identity."""
        degrees = spread(u[:, 1], -self.max_deg, self.max_deg) * self.active(u)
        return rotate_matrix(degrees, height, width)

    def active(self, u: torch.Tensor) -> torch.Tensor:
        """Samples whose coin says yes."""
        return u[:, 0] < self.p


@final
@declared()
class Zoom(SpaceTransform):
    """Enlarges around a random point.

    Args:
        min_zoom: least factor; below 1 the picture shrinks and its surroundings show.
        max_zoom: greatest factor.
        p: how likely a sample is enlarged.
        size, mode, pad_mode, align_corners: see ``SpaceTransform``.
    """

    draws = 4

    def __init__(
        self,
        min_zoom: float = 1.0,
        max_zoom: float = 1.1,
        p: float = 0.5,
        *,
        size: Size | None = None,
        mode: Resample = "bilinear",
        pad_mode: Padding = "reflection",
        align_corners: bool = True,
    ) -> None:
        if not 0 < min_zoom <= max_zoom:
            raise ArgumentError(
                f"min_zoom is {min_zoom} and max_zoom {max_zoom}, expected 0 < min_zoom <= max_zoom",
                do="such as min_zoom=1., max_zoom=1.1",
            )
        super().__init__(size, mode, pad_mode, align_corners)
        self.min_zoom = min_zoom
        self.max_zoom = max_zoom
        self.p = probability(p)

    def matrix(self, u: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """A smaller window, or the whole picture."""
        zoom = spread(u[:, 1], self.min_zoom, self.max_zoom)
        share = torch.where(self.active(u), 1 / zoom, torch.ones_like(zoom))
        return window_matrix(share, share, u[:, 2], u[:, 3])

    def active(self, u: torch.Tensor) -> torch.Tensor:
        """Samples whose coin says yes."""
        return u[:, 0] < self.p


@final
@declared()
class Warp(SpaceTransform):
    """Tilts the picture as if seen from the side, above or below.

    Args:
        magnitude: by how much an edge may grow on one side and shrink on the other, of its length.
        p: how likely a sample is tilted.
        size, mode, pad_mode, align_corners: see ``SpaceTransform``.
    """

    draws = 3

    def __init__(
        self,
        magnitude: float = 0.2,
        p: float = 0.5,
        *,
        size: Size | None = None,
        mode: Resample = "bilinear",
        pad_mode: Padding = "reflection",
        align_corners: bool = True,
    ) -> None:
        if not 0 <= magnitude < 1:
            raise ArgumentError(f"magnitude is {magnitude}, expected 0 to below 1", do="such as 0.2")
        super().__init__(size, mode, pad_mode, align_corners)
        self.magnitude = magnitude
        self.p = probability(p)

    def matrix(self, u: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Two keystones, or the identity."""
        on = self.active(u)
        across = spread(u[:, 1], -self.magnitude, self.magnitude) * on
        down = spread(u[:, 2], -self.magnitude, self.magnitude) * on
        return warp_matrix(across, down)

    def active(self, u: torch.Tensor) -> torch.Tensor:
        """Samples whose coin says yes."""
        return u[:, 0] < self.p


@final
@declared()
class RandomResizedCropGPU(SpaceTransform):
    """A random window of the batch's pictures, enlarged to ``size``; see ``RandomResizedCrop`` for files.

    Args:
        size: side of a square, or (height, width).
        min_scale: least part of the picture's area that a window covers.
        ratio: least and greatest width over height, in pixels; a window that does not fit is cut to it.
        max_scale: greatest part of the picture's area.
        mode, pad_mode, align_corners: see ``SpaceTransform``.
    """

    draws = 4

    def __init__(
        self,
        size: Size,
        min_scale: float = 0.08,
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        max_scale: float = 1.0,
        *,
        mode: Resample = "bilinear",
        pad_mode: Padding = "reflection",
        align_corners: bool = True,
    ) -> None:
        if not 0 < min_scale <= max_scale <= 1:
            raise ArgumentError(
                f"min_scale is {min_scale} and max_scale {max_scale}, expected parts of the picture's area",
                do="pass 0 < min_scale <= max_scale <= 1",
            )
        super().__init__(size, mode, pad_mode, align_corners)
        self.scale = (min_scale, max_scale)
        self.ratio = (ratio[0], ratio[1])

    def matrix(self, u: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """A window of the picture."""
        area = spread(u[:, 0], *self.scale)
        aspect = spread(u[:, 1], math.log(self.ratio[0]), math.log(self.ratio[1])).exp() * (height / width)
        across, down = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
        return window_matrix(across, down, u[:, 2], u[:, 3])

    def active(self, u: torch.Tensor) -> torch.Tensor:
        """All samples."""
        return torch.ones_like(u[:, 0], dtype=torch.bool)


def rotate_matrix(degrees: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Turns a picture counter-clockwise by ``degrees`` (B,): (B, 3, 3), output to input coordinates."""
    angle = degrees * (math.pi / 180)
    sin, cos = angle.sin(), angle.cos()
    # Coordinates are stretched by the picture's shape; a turn in pixels undoes that and puts it back.
    zero, one = torch.zeros_like(sin), torch.ones_like(sin)
    rows = [cos, -sin * (height / width), zero, sin * (width / height), cos, zero, zero, zero, one]
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def window_matrix(
    across: torch.Tensor, down: torch.Tensor, at_x: torch.Tensor, at_y: torch.Tensor
) -> torch.Tensor:
    """Shows a window of a picture: (B, 3, 3), output to input coordinates.

    Args:
        across: width of the window, as a part of the picture's; (B,).
        down: its height.
        at_x: where it lies, from 0 (left) to 1 (right).
        at_y: from 0 (top) to 1 (bottom).
    """
    zero, one = torch.zeros_like(across), torch.ones_like(across)
    left, top = (1 - across) * (2 * at_x - 1), (1 - down) * (2 * at_y - 1)
    return torch.stack([across, zero, left, zero, down, top, zero, zero, one], dim=1).view(-1, 3, 3)


def warp_matrix(across: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Tilts a picture: (B, 3, 3), output to input coordinates.

    With ``across`` = m, ``down`` = 0, the corners (-1, y) come from (-1, (1 + m) y) and (1, y) from
    (1, (1 - m) y), and straight lines stay straight; ``down`` does the same with the axes exchanged.
    """
    zero, one = torch.zeros_like(across), torch.ones_like(across)
    sideways = torch.stack([one, zero, across, zero, 1 - across**2, zero, across, zero, one], dim=1)
    upright = torch.stack([1 - down**2, zero, zero, zero, one, down, zero, down, one], dim=1)
    return sideways.view(-1, 3, 3) @ upright.view(-1, 3, 3)


_EIGHT_WAYS: Final = (
    (1.0, 0.0, 0.0, 1.0),
    (-1.0, 0.0, 0.0, 1.0),
    (1.0, 0.0, 0.0, -1.0),
    (-1.0, 0.0, 0.0, -1.0),
    (0.0, 1.0, 1.0, 0.0),
    (0.0, -1.0, 1.0, 0.0),
    (0.0, 1.0, -1.0, 0.0),
    (0.0, -1.0, -1.0, 0.0),
)
"""As it is, mirrored, upside down, both; then the same four of the picture with x and y exchanged."""


def dihedral_matrix(way: torch.Tensor) -> torch.Tensor:
    """Lays a picture down in one of the ways 0 to 7, (B,): (B, 3, 3), output to input coordinates."""
    table = torch.zeros(8, 3, 3)
    table[:, :2, :2] = torch.tensor(_EIGHT_WAYS).view(8, 2, 2)
    table[:, 2, 2] = 1
    return table.to(way.device)[way]


def warp(
    image: torch.Tensor,
    matrix: torch.Tensor,
    size: tuple[int, int],
    mode: Resample,
    pad_mode: Padding,
    *,
    align_corners: bool,
) -> torch.Tensor:
    """Sample images (B, C, H, W) through homographies (B, 3, 3): (B, C, *size).

    An image twice as large as ``size`` or more is first averaged over whole squares of pixels, as sampling
    alone would miss what lies between.
    """
    shrink = min(image.shape[-2] // size[0], image.shape[-1] // size[1])
    if shrink > 1 and mode != "nearest":
        image = F.avg_pool2d(image, shrink)
    grid = sampling_grid(matrix, size, align_corners=align_corners)
    return F.grid_sample(image, grid, mode=mode, padding_mode=pad_mode, align_corners=align_corners)


def sampling_grid(matrix: torch.Tensor, size: tuple[int, int], *, align_corners: bool) -> torch.Tensor:
    """Where each pixel of the output comes from: (B, H, W, 2) in coordinates from -1 to 1."""
    height, width = size
    y, x = _centres(height, align_corners, matrix), _centres(width, align_corners, matrix)
    m = matrix[:, :, :, None, None]
    x, y = x[None, None, :], y[None, :, None]
    grid = fresh((len(matrix), height, width, 2), matrix.device)
    depth = m[:, 2, 0] * x + (m[:, 2, 1] * y + m[:, 2, 2])
    for i in range(2):  # a row and a column are added: one pass over the grid
        torch.add(m[:, i, 0] * x, m[:, i, 1] * y + m[:, i, 2], out=grid[..., i]).div_(depth)
    return grid


def _centres(count: int, align_corners: bool, like: torch.Tensor) -> torch.Tensor:
    edge = 1.0 if align_corners and count > 1 else 1 - 1 / count
    return torch.linspace(-edge, edge, count, device=like.device, dtype=like.dtype)
