"""Batch transforms of images, on the device: to float, normalisation, erasing, and the usual augmentations.

Images are (B, C, H, W): uint8 from the loader, float32 in [0, 1] after ``IntToFloatTensor``. Masks are
``tv_tensors.Mask`` or integer tensors (B, H, W) of an image's height and width. Parameters are functions of
the draws of a sample alone: a batch may be cut or reordered.

This file must not know how images are opened or models look.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias, final

import torch
import torch.nn.functional as F

from surefast.data.transform import BatchTransform
from surefast.errors import ArgumentError
from surefast.recipe.call import declared
from surefast.vision.geometry import Dihedral, Flip, RandomResizedCropGPU, Rotate, Warp, Zoom
from surefast.vision.lighting import Brightness, Contrast
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

Stats: TypeAlias = tuple[Sequence[float], Sequence[float]]


imagenet_stats: Final[Stats] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


cifar_stats: Final[Stats] = ((0.491, 0.482, 0.447), (0.247, 0.243, 0.261))


mnist_stats: Final[Stats] = ((0.131,), (0.308,))


@final
@declared()
class IntToFloatTensor(BatchTransform):
    """Makes uint8 images float32 in [0, 1], and masks int64.

    Args:
        div: what stands for 1.
    """

    order = 10

    def __init__(self, div: float = 255.0) -> None:
        self.div = div

    def apply(self, xs: Tensors, u: torch.Tensor) -> Tensors:
        """The tensors with images as floats."""
        return tuple(self._convert(x, xs) for x in xs)

    def _convert(self, x: Any, xs: Tensors) -> Any:
        if is_mask(x, xs):
            return x.as_subclass(torch.Tensor).long()
        if isinstance(x, torch.Tensor) and x.ndim == 4 and x.dtype == torch.uint8:
            return fresh(x.shape, x.device).copy_(x.as_subclass(torch.Tensor)).div_(self.div)
        return x

    def fuse(self, other: BatchTransform) -> BatchTransform | None:
        """One pass over the memory for this and ``Normalize``, with the same operations and bits."""
        return _ToNormal(self, other) if isinstance(other, Normalize) else None


@final
@declared()
class Normalize(BatchTransform):
    """Subtracts a mean and divides by a standard deviation, by channel.

    It goes last wherever it is written, as in fastai: the other transforms are for images in [0, 1].

    Args:
        mean: one number a channel.
        std: one number a channel.
    """

    order = 99

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean = tuple(float(value) for value in mean)
        self.std = tuple(float(value) for value in std)
        if len(self.mean) != len(self.std) or not self.mean:
            raise ArgumentError(
                f"mean has {len(self.mean)} numbers and std {len(self.std)}, expected one a channel in each",
                do="such as Normalize.from_stats(*imagenet_stats)",
            )
        if min(self.std) <= 0:
            raise ArgumentError(f"std is {self.std}, expected numbers above 0", do="compute it on the images")
        self._on: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}

    @classmethod
    @declared()
    def from_stats(cls, mean: Sequence[float], std: Sequence[float]) -> Normalize:
        """As the class itself; ``Normalize.from_stats(*imagenet_stats)``."""
        return cls(mean, std)

    def apply(self, xs: Tensors, u: torch.Tensor) -> Tensors:
        """The tensors with images normalised."""
        return tuple(self.shift(x, fresh(x.shape, x.device, x.dtype)) if is_image(x) else x for x in xs)

    def decode(self, xs: Tensors) -> Tensors:
        """The tensors with images as they were before."""
        return tuple(self._restore(x) if is_image(x) else x for x in xs)

    def shift(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Images (B, C, H, W), normalised into ``out``, which may be the images themselves."""
        mean, std = self._stats(x)
        return torch.sub(x, mean, out=out).div_(std)

    def _restore(self, x: torch.Tensor) -> torch.Tensor:
        mean, std = self._stats(x)
        return x.mul(std).add_(mean)

    def _stats(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if len(self.mean) not in {1, x.shape[1]}:
            raise ArgumentError(
                f"Normalize has {len(self.mean)} channels and the images have {x.shape[1]}",
                do="give statistics for each channel of the images",
            )
        if x.device not in self._on:  # copied to a device once, not at each batch
            pair = torch.tensor([self.mean, self.std], dtype=torch.float32, device=x.device)
            self._on[x.device] = (pair[0, :, None, None], pair[1, :, None, None])
        return self._on[x.device]


@final
class _ToNormal(BatchTransform):
    """To float and normalised at once: in place on memory that nobody else has seen."""

    def __init__(self, to_float: IntToFloatTensor, normalize: Normalize) -> None:
        self.to_float = to_float
        self.normalize = normalize

    def joined(self) -> tuple[BatchTransform, ...]:
        return self.to_float, self.normalize

    def apply(self, xs: Tensors, u: torch.Tensor) -> Tensors:
        floats = self.to_float.apply(xs, u)
        return tuple(
            # An image that was float before is the caller's.
            self.normalize.shift(x, x if x is not given else fresh(x.shape, x.device, x.dtype))
            if is_image(x)
            else x
            for x, given in zip(floats, xs, strict=True)
        )

    def decode(self, xs: Tensors) -> Tensors:
        return self.normalize.decode(xs)


@final
@declared()
class ResizeBatch(BatchTransform):
    """Brings the images and masks of a batch to one size, antialiased; nothing to do where they have it.

    Args:
        size: side of a square, or (height, width).
    """

    def __init__(self, size: Size) -> None:
        self.size = as_size(size)

    def apply(self, xs: Tensors, u: torch.Tensor) -> Tensors:
        """The tensors with pictures in the asked size."""
        return tuple(self._resize(x, xs) for x in xs)

    def _resize(self, x: Any, xs: Tensors) -> Any:
        if is_mask(x, xs) and x.shape[-2:] != self.size:
            picture = x.as_subclass(torch.Tensor).reshape(x.shape[0], -1, *x.shape[-2:])
            out = F.interpolate(picture.float(), self.size, mode="nearest-exact")
            return as_mask(out.to(x.dtype).reshape(*x.shape[:-2], *self.size), x)
        if is_image(x) and x.shape[-2:] != self.size:
            return F.interpolate(x, self.size, mode="bilinear", antialias=True)
        return x


@final
@declared()
class RandomErasing(BatchTransform):
    """Covers rectangles with the image's own mean colour (Zhong et al., Random Erasing, 1708.04896).

    The mean stands in the same place before and after ``Normalize``, so the order of the two is free.

    Args:
        p: how likely a sample is covered.
        sl: least part of the area that one rectangle covers.
        sh: greatest part of the area.
        min_aspect: least ratio of its sides; the greatest is the inverse.
        max_count: greatest number of rectangles; each number from 1 is as likely.
    """

    train_only = True

    def __init__(
        self,
        p: float = 0.5,
        sl: float = 0.0,
        sh: float = 0.3,
        min_aspect: float = 0.3,
        max_count: int = 1,
    ) -> None:
        if not 0 <= sl <= sh <= 1:
            raise ArgumentError(
                f"sl is {sl} and sh {sh}, expected 0 <= sl <= sh <= 1", do="parts of the area"
            )
        if not 0 < min_aspect <= 1:
            raise ArgumentError(f"min_aspect is {min_aspect}, expected 0 to 1", do="such as 0.3")
        if max_count < 1:
            raise ArgumentError(f"max_count is {max_count}, expected 1 or more", do="such as 1")
        self.p = probability(p)
        self.area = (sl, sh)
        self.min_aspect = min_aspect
        self.max_count = max_count
        self.draws = 2 + 4 * max_count

    def apply(self, xs: Tensors, u: torch.Tensor) -> Tensors:
        """The tensors with parts of the images covered."""
        u = u.to(torch.float32)
        changed = u[:, 0] < self.p
        count = (u[:, 1] * self.max_count).floor() + 1
        return tuple(
            where_changed(x, changed, self._cover, torch.cat([count[:, None], u[:, 2:]], 1))
            if is_image(x)
            else x
            for x in xs
        )

    def _cover(self, x: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        count, draws = parameters[:, 0], parameters[:, 1:].reshape(len(x), self.max_count, 4)
        area = spread(draws[..., 0], *self.area)
        aspect = spread(draws[..., 1], math.log(self.min_aspect), -math.log(self.min_aspect)).exp()
        hidden = rectangles(area, aspect, draws[..., 2:], x.shape[-2], x.shape[-1])
        used = torch.arange(self.max_count, device=x.device) < count[:, None]
        hidden = (hidden & used[..., None, None]).any(dim=1)
        return torch.where(hidden[:, None], x.mean(dim=(2, 3), keepdim=True), x)


class TransformList(list[BatchTransform]):
    """A list of batch transforms that can carry the record of the call that made it."""


@declared()
def aug_transforms(
    mult: float = 1.0,
    do_flip: bool = True,
    flip_vert: bool = False,
    max_rotate: float = 10.0,
    min_zoom: float = 1.0,
    max_zoom: float = 1.1,
    max_lighting: float = 0.2,
    max_warp: float = 0.2,
    p_affine: float = 0.75,
    p_lighting: float = 0.75,
    xtra_tfms: Sequence[BatchTransform] | None = None,
    size: Size | None = None,
    mode: Resample = "bilinear",
    pad_mode: Padding = "reflection",
    align_corners: bool = True,
    batch: Literal[False] = False,
    min_scale: float = 1.0,
) -> TransformList:
    """The usual augmentations: flip, rotation, zoom, tilt, brightness and contrast.

    Args:
        mult: multiplies ``max_rotate``, ``max_lighting`` and ``max_warp``.
        do_flip: whether to mirror half of the samples.
        flip_vert: whether to lay them down in all eight ways instead.
        max_rotate: greatest angle, in degrees.
        min_zoom: least zoom.
        max_zoom: greatest zoom.
        max_lighting: greatest change of brightness and contrast.
        max_warp: greatest tilt.
        p_affine: how likely each of rotation, zoom and tilt is.
        p_lighting: how likely each of brightness and contrast is.
        xtra_tfms: further transforms, between geometry and lighting.
        size: brings training and validation batches to this size.
        mode: interpolation of images.
        pad_mode: what stands outside of the picture.
        align_corners: see ``SpaceTransform``.
        batch: fastai's one draw for a whole batch; refused, because a sample would depend on its neighbours.
        min_scale: below 1, takes a random window of at least this part of the area; needs ``size``.
    """
    if batch:
        raise ArgumentError(
            "batch=True would make the augmentation of a sample depend on the batch it is in",
            do="leave it out: each sample gets its own draw",
        )
    if min_scale < 1 and size is None:
        raise ArgumentError(f"min_scale is {min_scale} and size is missing", do="pass size= as well")
    how: dict[str, Any] = {"mode": mode, "pad_mode": pad_mode, "align_corners": align_corners}
    found = TransformList()
    if do_flip or flip_vert:
        found.append(Dihedral(**how) if flip_vert else Flip(**how))
    if max_rotate:
        found.append(Rotate(mult * max_rotate, p_affine, **how))
    if min_zoom < 1 or max_zoom > 1:
        found.append(Zoom(min_zoom, max_zoom, p_affine, **how))
    if max_warp:
        found.append(Warp(mult * max_warp, p_affine, **how))
    if size is not None:
        if min_scale < 1:
            found.append(RandomResizedCropGPU(size, min_scale, (1.0, 1.0), **how))
        found.append(ResizeBatch(size))
    found.extend(xtra_tfms or ())
    if max_lighting:
        found.append(Brightness(mult * max_lighting, p_lighting))
        found.append(Contrast(mult * max_lighting, p_lighting))
    return found


def rectangles(
    area: torch.Tensor, aspect: torch.Tensor, at: torch.Tensor, height: int, width: int
) -> torch.Tensor:
    """Which pixels lie in a rectangle: bool (B, N, height, width).

    Args:
        area: part of the picture it covers, (B, N).
        aspect: its width over its height, in pixels, (B, N).
        at: where it lies, from 0 to 1 across and down, (B, N, 2).
        height: of the picture.
        width: of the picture.
    """
    pixels = area * (height * width)
    wide = (pixels * aspect).sqrt().round().clamp(max=width)[..., None]
    high = (pixels / aspect).sqrt().round().clamp(max=height)[..., None]
    left = (at[..., :1] * (width - wide + 1)).floor()
    top = (at[..., 1:] * (height - high + 1)).floor()
    x = torch.arange(width, device=area.device)
    y = torch.arange(height, device=area.device)
    columns = (x >= left) & (x < left + wide)
    rows = (y >= top) & (y < top + high)
    return rows[..., :, None] & columns[..., None, :]
