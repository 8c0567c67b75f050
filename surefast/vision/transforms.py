"""Item transforms of images: crop, pad and resize one sample in a data thread.

An image is ``tv_tensors.Image`` of uint8 (C, H, W), a mask ``tv_tensors.Mask`` of (H, W) or (1, H, W); all
pictures of a sample get the same draw, masks without mixing values. Each transform is a function of the
sample and its key; nothing here touches a global generator or the number of threads.

Validation and prediction use one definition of resizing: antialiased interpolation in float32, rounded to
the nearest level, half to even. Training items may use torch's integer kernel, three to four times faster:
a value in six is one level off. ``fast=False`` makes training items exact too.

This file must not know how an image was opened.
"""

from __future__ import annotations

import abc
import math
import operator
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, final

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision import tv_tensors

from surefast.data.transform import ItemTransform
from surefast.errors import ArgumentError
from surefast.keys.key import Draws
from surefast.protocols import Sample
from surefast.recipe.call import declared
from surefast.vision.image import ImageOpener

Size: TypeAlias = int | tuple[int, int]
"""A side of a square, or (height, width), in pixels."""


class Uniform(Protocol):
    """Uniform draws in [0, 1), by position."""

    def __getitem__(self, position: int, /) -> float:
        """Draw number ``position``."""


Method: TypeAlias = Literal["crop", "pad", "squish"]
Padding: TypeAlias = Literal["zeros", "border", "reflection"]
Resample: TypeAlias = Literal["nearest", "bilinear", "bicubic"]

NEAREST: Final = "nearest"
BILINEAR: Final = "bilinear"
BICUBIC: Final = "bicubic"


class ResizeMethod:
    """What ``Resize`` does with an image of another shape."""

    Squish: Final = "squish"
    """Change the aspect ratio."""
    Crop: Final = "crop"
    """Cut off the longer side."""
    Pad: Final = "pad"
    """Fill up the shorter side."""


class PadMode:
    """What stands where the image does not reach."""

    Zeros: Final = "zeros"
    """Black."""
    Border: Final = "border"
    """The nearest pixel of the image."""
    Reflection: Final = "reflection"
    """The image mirrored, without repeating its edge."""


class Box(NamedTuple):
    """A window on an image, in pixels; it may reach over the edges."""

    top: int
    left: int
    height: int
    width: int


def fit_box(height: int, width: int, size: tuple[int, int], at: tuple[float, float]) -> Box:
    """The largest window of the aspect ratio of ``size`` in a picture of ``height`` by ``width`` pixels.

    Args:
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        size: (height, width) whose aspect ratio the window gets.
        at: where the window lies, vertically and horizontally, each from 0 to 1.
    """
    scale = min(height / size[0], width / size[1])
    # A hair more, as 7 * (100 / 7) may be below 100.
    inner = max(1, int(scale * size[0] + 1e-6)), max(1, int(scale * size[1] + 1e-6))
    return place_box(height, width, inner, at)


def fit_inside(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a picture that is shrunk or enlarged until it just fits into ``size``."""
    scale = max(height / size[0], width / size[1])
    return max(1, min(size[0], round(height / scale))), max(1, min(size[1], round(width / scale)))


def place_box(height: int, width: int, inner: tuple[int, int], at: tuple[float, float]) -> Box:
    """A window of ``inner`` (height, width) at a place of the image, from 0 to 1 in each direction.

    Where the window is larger than the image, the place says how the image lies in the window.
    """
    return Box(_offset(height - inner[0], at[0]), _offset(width - inner[1], at[1]), *inner)


def _offset(room: int, at: float) -> int:
    # Each of the room + 1 offsets is as likely as the others; the middle is the middle.
    offset = min(abs(room), int(at * (abs(room) + 1)))
    return offset if room >= 0 else -offset


def random_area_box(
    height: int,
    width: int,
    u: Uniform,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    attempts: int = 10,
) -> Box:
    """A window of random area and aspect ratio (Szegedy et al., Going deeper with convolutions, 1409.4842).

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        u: 2 draws for the place, then 2 for each attempt.
        scale: least and greatest part of the image's area.
        ratio: least and greatest width over height; drawn evenly in its logarithm.
        attempts: how many windows are drawn in search of one that fits.
    """
    at = u[0], u[1]
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for i in range(2, 2 + 2 * attempts, 2):
        area = (scale[0] + u[i] * (scale[1] - scale[0])) * height * width
        aspect = math.exp(low + u[i + 1] * (high - low))
        inner = max(1, round(math.sqrt(area / aspect))), max(1, round(math.sqrt(area * aspect)))
        if inner[0] <= height and inner[1] <= width:
            return place_box(height, width, inner, at)
    # No attempt fitted into a long and narrow image: the largest window in its middle.
    aspect = min(max(width / height, ratio[0]), ratio[1])
    inner = min(height, max(1, int(width / aspect))), min(width, max(1, int(height * aspect)))
    return place_box(height, width, inner, (0.5, 0.5))


def cut(picture: torch.Tensor, box: Box, pad_mode: Padding = "zeros") -> torch.Tensor:
    """The window ``box`` of a picture (..., H, W), filled up where it reaches over an edge."""
    height, width = picture.shape[-2:]
    if box == Box(0, 0, height, width):
        return picture
    bottom, right = box.top + box.height, box.left + box.width
    if box.top >= 0 and box.left >= 0 and bottom <= height and right <= width:
        return picture[..., box.top : bottom, box.left : right]
    rows, row_inside = _source_index(box.top, box.height, height, pad_mode)
    columns, column_inside = _source_index(box.left, box.width, width, pad_mode)
    out = picture.index_select(-2, rows).index_select(-1, columns)
    if pad_mode == "zeros":
        out = out.masked_fill(~(row_inside[:, None] & column_inside[None, :]), 0)
    return out


def _source_index(
    start: int, count: int, length: int, pad_mode: Padding
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of ``length`` lines each line of a window shows, and whether it is inside the picture."""
    index = torch.arange(start, start + count)
    inside = (index >= 0) & (index < length)
    if pad_mode == "reflection" and length > 1:
        index = index.remainder(2 * length - 2)
        index = torch.minimum(index, 2 * length - 2 - index)
    return index.clamp_(0, length - 1), inside


def resize_nearest(picture: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A picture (..., H, W) of any type in another size, each pixel a copy of the one at its centre."""
    height, width = picture.shape[-2:]
    rows = ((torch.arange(size[0], dtype=torch.float64) + 0.5) * (height / size[0])).long()
    columns = ((torch.arange(size[1], dtype=torch.float64) + 0.5) * (width / size[1])).long()
    return picture.index_select(-2, rows).index_select(-1, columns)


def resize_exact(image: torch.Tensor, size: tuple[int, int], mode: Resample = "bilinear") -> torch.Tensor:
    """A uint8 image (C, H, W) in another size: antialiased in float32, rounded half to even."""
    if mode == "nearest":
        return resize_nearest(image, size)
    out = F.interpolate(image[None].float(), size, mode=mode, antialias=True)[0]
    return out.round_().clamp_(0, 255).to(torch.uint8)


def resize_fast(image: torch.Tensor, size: tuple[int, int], mode: Resample = "bilinear") -> torch.Tensor:
    """As ``resize_exact`` by torch's integer kernel, in one thread; values may be one level off."""
    if mode == "nearest":
        return resize_nearest(image, size)
    return F.interpolate(image[None], size, mode=mode, antialias=True)[0].contiguous()


class PictureTransform(ItemTransform):
    """Base of the transforms that treat all images and masks of a sample alike."""

    def apply(self, sample: Sample, key: int, *, train: bool) -> Sample:
        """The sample with every picture changed by the same draw."""
        if not any(isinstance(element, _PICTURES) for element in sample):
            raise ArgumentError(
                f"{type(self).__name__} finds no picture among {', '.join(map(_kind, sample))}",
                do="put it before what makes floats or plain tensors of pictures, or start with ToTensor()",
            )
        u: Uniform = Draws(key) if train else _CENTRE
        return tuple(self._change(element, u, train=train) for element in sample)

    def _change(self, element: Any, u: Uniform, *, train: bool) -> Any:
        if isinstance(element, tv_tensors.Mask):
            plain = element.as_subclass(torch.Tensor)
            return self.change(plain, u, train=train, mask=True).as_subclass(tv_tensors.Mask)
        if isinstance(element, Image.Image):
            element = _open_pil(element)
        if isinstance(element, tv_tensors.Image):
            if element.dtype != torch.uint8:
                raise ArgumentError(
                    f"{type(self).__name__} takes uint8 pictures, and was given {_kind(element)}",
                    do="put it before what makes floats; ImageBlock makes floats of the batch by itself",
                )
            plain = element.as_subclass(torch.Tensor)
            return self.change(plain, u, train=train, mask=False).as_subclass(tv_tensors.Image)
        return element

    @abc.abstractmethod
    def change(self, picture: torch.Tensor, u: Uniform, *, train: bool, mask: bool) -> torch.Tensor:
        """The changed picture (..., H, W).

        Args:
            picture: uint8 image or mask of any integer type.
            u: uniform draws; in validation the first two are 1/2, the middle, and there are no more.
            train: False for validation and prediction.
            mask: whether values must not be mixed.
        """


_CENTRE: Final = (0.5, 0.5)
_PICTURES: Final = (tv_tensors.Image, tv_tensors.Mask, Image.Image)


def _kind(element: Any) -> str:
    shape = f" of {element.dtype} {tuple(element.shape)}" if isinstance(element, torch.Tensor) else ""
    return type(element).__name__ + shape


@final
@declared()
class Resize(PictureTransform):
    """Brings every picture to one size.

    Args:
        size: side of a square, or (height, width).
        method: ``crop`` the longer side (at a random place in training, in the middle otherwise), ``pad``
            the shorter one, or ``squish``.
        pad_mode: what fills the padding: ``reflection``, ``border`` or ``zeros``.
        resamples: the interpolation of images, and that of masks.
        fast: whether training items may be one level off (see the top of this file).
    """

    def __init__(
        self,
        size: Size,
        method: Method = "crop",
        pad_mode: Padding = "reflection",
        resamples: tuple[Resample, Resample] = ("bilinear", "nearest"),
        *,
        fast: bool = True,
    ) -> None:
        self.size = as_size(size)
        self.method = _one_of("method", method, ("crop", "pad", "squish"))
        self.pad_mode = _one_of("pad_mode", pad_mode, _PADDINGS)
        self.resamples = _both_resamples(resamples)
        self.fast = fast

    def change(self, picture: torch.Tensor, u: Uniform, *, train: bool, mask: bool) -> torch.Tensor:
        """The picture in the asked size."""
        height, width = picture.shape[-2:]
        at, exact = (u[0], u[1]), mask or not (train and self.fast)
        if self.method == "crop":
            picture = cut(picture, fit_box(height, width, self.size, at))
        inner = fit_inside(height, width, self.size) if self.method == "pad" else self.size
        picture = _resized(picture, inner, self.resamples[mask], exact=exact)
        return cut(picture, place_box(*inner, self.size, at), self.pad_mode)


@final
@declared()
class RandomResizedCrop(PictureTransform):
    """A random window of the picture, resized; the middle of it in validation.

    Args:
        size: side of a square, or (height, width).
        min_scale: least part of the picture's area that a window covers.
        ratio: least and greatest width over height of a window.
        resamples: the interpolation of images, and that of masks.
        val_xtra: validation takes the window that is left when the picture is resized to cover
            (1 + val_xtra) times the size, rounded up to 8 pixels, and its middle is cut out. The aspect
            ratio is kept.
        max_scale: greatest part of the picture's area.
        fast: whether training items may be one level off (see the top of this file).
    """

    def __init__(
        self,
        size: Size,
        min_scale: float = 0.08,
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        resamples: tuple[Resample, Resample] = ("bilinear", "nearest"),
        val_xtra: float = 0.14,
        *,
        max_scale: float = 1.0,
        fast: bool = True,
    ) -> None:
        if not 0 < min_scale <= max_scale <= 1:
            raise ArgumentError(
                f"min_scale is {min_scale} and max_scale {max_scale}, expected parts of the picture's area",
                do="pass 0 < min_scale <= max_scale <= 1",
            )
        if not 0 < ratio[0] <= ratio[1]:
            raise ArgumentError(f"ratio is {ratio}, expected (least, greatest)", do="such as (3/4, 4/3)")
        if val_xtra < 0:
            raise ArgumentError(f"val_xtra is {val_xtra}, expected 0 or more", do="such as 0.14")
        self.size = as_size(size)
        self.scale = (min_scale, max_scale)
        self.ratio = (ratio[0], ratio[1])
        self.resamples = _both_resamples(resamples)
        self.val_xtra = val_xtra
        self.fast = fast

    def change(self, picture: torch.Tensor, u: Uniform, *, train: bool, mask: bool) -> torch.Tensor:
        """The window, in the asked size."""
        height, width = picture.shape[-2:]
        if train:
            box = random_area_box(height, width, u, scale=self.scale, ratio=self.ratio)
        else:
            box = self._middle(height, width)
        exact = mask or not (train and self.fast)
        return _resized(cut(picture, box), self.size, self.resamples[mask], exact=exact)

    def _middle(self, height: int, width: int) -> Box:
        extra = math.ceil(max(self.size) * self.val_xtra / 8) * 8
        whole = fit_box(height, width, self.size, (0.5, 0.5))
        inner = (
            max(1, round(whole.height * self.size[0] / (self.size[0] + extra))),
            max(1, round(whole.width * self.size[1] / (self.size[1] + extra))),
        )
        return place_box(height, width, inner, (0.5, 0.5))


@final
@declared()
class RandomCrop(PictureTransform):
    """A window of fixed size at a random place, in the middle in validation; nothing is resized.

    Args:
        size: side of a square, or (height, width).
        pad_mode: what fills up a picture that is smaller.
    """

    def __init__(self, size: Size, *, pad_mode: Padding = "zeros") -> None:
        self.size = as_size(size)
        self.pad_mode = _one_of("pad_mode", pad_mode, _PADDINGS)

    def change(self, picture: torch.Tensor, u: Uniform, *, train: bool, mask: bool) -> torch.Tensor:
        """The window."""
        height, width = picture.shape[-2:]
        return cut(picture, place_box(height, width, self.size, (u[0], u[1])), self.pad_mode)


@final
@declared()
class CropPad(PictureTransform):
    """The middle of the picture in a fixed size, filled up where it is smaller; nothing is resized.

    Args:
        size: side of a square, or (height, width).
        pad_mode: what fills up a picture that is smaller.
    """

    def __init__(self, size: Size, pad_mode: Padding = "zeros") -> None:
        self.size = as_size(size)
        self.pad_mode = _one_of("pad_mode", pad_mode, _PADDINGS)

    def change(self, picture: torch.Tensor, u: Uniform, *, train: bool, mask: bool) -> torch.Tensor:
        """The middle."""
        height, width = picture.shape[-2:]
        return cut(picture, place_box(height, width, self.size, (0.5, 0.5)), self.pad_mode)


@final
@declared()
class FlipItem(PictureTransform):
    """Mirrors left and right, in training only.

    Args:
        p: how likely a sample is mirrored.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ArgumentError(f"p is {p}, expected a probability", do="pass 0 to 1")
        self.p = p

    def change(self, picture: torch.Tensor, u: Uniform, *, train: bool, mask: bool) -> torch.Tensor:
        """The picture or its mirror image."""
        return picture.flip(-1) if train and u[0] < self.p else picture


@final
@declared()
class ToTensor(ItemTransform):
    """Makes image tensors of PIL images and of uint8 or uint16 arrays (H, W, C); leaves the rest alone.

    ``ImageBlock`` opens files as tensors already, so this is for samples that come from elsewhere.
    """

    def apply(self, sample: Sample, key: int, *, train: bool) -> Sample:
        """The sample with its pictures as ``tv_tensors.Image`` of uint8 (C, H, W)."""
        return tuple(_picture_tensor(element) for element in sample)


def as_size(size: Size) -> tuple[int, int]:
    """(height, width) of a size given as one number or two.

    Raises:
        ArgumentError: it is neither.
    """
    pair = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    try:
        sides = [operator.index(side) for side in pair]  # also an integer of numpy's
    except TypeError:
        sides = []
    if len(sides) != 2 or min(sides) < 1:
        raise ArgumentError(
            f"size is {size!r}, expected pixels", do="pass a number such as 224, or (height, width)"
        )
    return sides[0], sides[1]


_PADDINGS: Final = ("zeros", "border", "reflection")
_RESAMPLES: Final = ("nearest", "bilinear", "bicubic")


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> Any:
    if value not in known:
        raise ArgumentError(f"{name} is {value!r}, which nobody knows", do=f"use one of: {', '.join(known)}")
    return value


def _both_resamples(resamples: tuple[Resample, Resample]) -> tuple[Resample, Resample]:
    if isinstance(resamples, str) or len(resamples) != 2:
        raise ArgumentError(
            f"resamples is {resamples!r}, expected two", do="pass (that of images, that of masks)"
        )
    _one_of("resamples[0]", resamples[0], _RESAMPLES)
    _one_of("resamples[1]", resamples[1], ("nearest",))  # other ones would invent classes
    return resamples[0], resamples[1]


def _resized(picture: torch.Tensor, size: tuple[int, int], mode: Resample, *, exact: bool) -> torch.Tensor:
    if picture.shape[-2:] == size:
        return picture
    return resize_exact(picture, size, mode) if exact else resize_fast(picture, size, mode)


def _open_pil(image: Image.Image) -> tv_tensors.Image:
    return ImageOpener("L" if image.mode in {"L", "1", "I;16", "I"} else "RGB")(image)


def _picture_tensor(element: Any) -> Any:
    if isinstance(element, Image.Image):
        return _open_pil(element)
    if isinstance(element, np.ndarray) and element.dtype in {np.dtype("uint8"), np.dtype("uint16")}:
        if element.ndim == 2 or (element.ndim == 3 and element.shape[2] == 1):
            return ImageOpener("L")(element)
        if element.ndim == 3 and element.shape[2] in {3, 4}:
            return ImageOpener("RGB")(element)
    return element
