"""From a file, bytes or an array to pixels: one opener, the same for training, validation and serving.

A JPEG is decoded by libjpeg-turbo (the ``simplejpeg`` package of the extra ``vision``) where it is
installed, and by Pillow otherwise; everything else goes through Pillow. Two decoders may differ by a level
in a pixel, so ``decoder()`` is a fact of every recipe.

What the opener settles, so that nobody has to guess:

- the header is read first, and an image over ``max_pixels`` is refused before a pixel is decoded;
- the EXIF orientation is applied; colour profiles (ICC) are not;
- transparent pixels are laid over a plain ``background``; an animation gives its first frame;
- 16-bit grey is scaled to 8 bits by v / 257, rounded; 1-bit becomes 0 and 255; CMYK is converted to RGB;
- a truncated file is an error. Damage inside the data of a JPEG is found only as far as libjpeg notices
  it: much of it decodes to wrong pixels without a word, which no reader can tell.

This file must know nothing of transforms, blocks or loaders.
"""

from __future__ import annotations

import functools
import importlib
import io
import os
import stat
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import PIL
import torch
from PIL import Image, UnidentifiedImageError
from torchvision import tv_tensors

from surefast.errors import ArgumentError, FileError, SurefastWarning
from surefast.recipe.call import declared

MAX_PIXELS: Final = 80_000_000
"""The default pixel cap, 240 MB of RGB; a little under the size at which Pillow warns of a bomb."""

Mode: TypeAlias = Literal["RGB", "L"]
Damaged: TypeAlias = Literal["raise", "warn"]
Pixels: TypeAlias = npt.NDArray[Any]

# Not in the list: EPS and the like (they run Ghostscript) and formats without a signature.
_FORMATS: Final = (
    "JPEG",
    "MPO",
    "PNG",
    "GIF",
    "BMP",
    "DIB",
    "TIFF",
    "WEBP",
    "AVIF",
    "PPM",
    "JPEG2000",
    "ICO",
)
_READ_ERRORS: Final = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    AttributeError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""What Pillow's plugins raise on bytes they did not expect."""

_SKIP: Final = 'replace or delete the file, or leave it out of training with on_error="skip"'


class ImageFileWarning(SurefastWarning):
    """A file was read, but its decoder complained."""


def decoder() -> str:
    """The library that decodes JPEG here, with its version: a fact of the recipe."""
    module = _simplejpeg()
    return f"Pillow {PIL.__version__}" if module is None else f"simplejpeg {module.__version__}"


@functools.cache
def _simplejpeg() -> Any:
    try:
        return importlib.import_module("simplejpeg")
    except ImportError:
        return None


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()  # loads the plugins; some depend on how Pillow was built
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@declared()
class ImageOpener:
    """Opens a path, bytes, PIL image, array or tensor as ``tv_tensors.Image``, uint8 of (C, H, W).

    Args:
        mode: ``"RGB"`` for three channels, ``"L"`` for one of grey.
        max_pixels: height times width above which an image is refused, before it is decoded.
        background: the grey level, 0 to 255, that shows through transparent pixels.
        damaged: what to do with a JPEG whose data libjpeg finds corrupt: ``"raise"`` a FileError, or
            ``"warn"`` and go on with the pixels it could make. Bytes that are merely left over always warn.
    """

    def __init__(
        self,
        mode: Mode = "RGB",
        *,
        max_pixels: int = MAX_PIXELS,
        background: int = 255,
        damaged: Damaged = "raise",
    ) -> None:
        if mode not in {"RGB", "L"}:
            raise ArgumentError(f"mode is {mode!r}, expected 'RGB' or 'L'", do="pass one of the two")
        if damaged not in {"raise", "warn"}:
            raise ArgumentError(
                f"damaged is {damaged!r}, expected 'raise' or 'warn'", do="pass one of the two"
            )
        if not 0 <= background <= 255:
            raise ArgumentError(f"background is {background}, expected a grey level", do="pass 0 to 255")
        self.mode = mode
        self.max_pixels = max_pixels
        self.background = background
        self.damaged = damaged

    def __call__(self, source: object) -> tv_tensors.Image:
        """The image of ``source``.

        Raises:
            FileError: naming the file, what is wrong with it, and what to do.
        """
        return _as_image(self.pixels(source))

    def pixels(self, source: object) -> Pixels:
        """The image of ``source`` as a uint8 array of (H, W, C)."""
        if isinstance(source, (str, os.PathLike)):
            path = Path(source)
            return self._from_bytes(_read_file(path), _shown(path))
        if isinstance(source, (bytes, bytearray, memoryview)):
            return self._from_bytes(bytes(source), None)
        if isinstance(source, Image.Image):
            self._check_size(source.height, source.width, None)
            return self._from_pil(source, None)
        if isinstance(source, torch.Tensor):
            return self._from_array(_tensor_to_hwc(source))
        if isinstance(source, np.ndarray):
            return self._from_array(source)
        raise ArgumentError(
            f"an image cannot be opened from {type(source).__name__}",
            do="pass a path, bytes, a PIL image, an array (H, W, C) or a tensor (C, H, W)",
        )

    def _from_bytes(self, data: bytes, file: str | None) -> Pixels:
        if not data:
            raise FileError("the file is empty (0 bytes)", do=_SKIP, file=file)
        if data[:3] == b"\xff\xd8\xff":
            header = _jpeg_header(data)
            if header is None:
                raise FileError("the JPEG header is cut short or damaged", do=_SKIP, file=file)
            self._check_size(header.height, header.width, file)
            if _simplejpeg() is not None and header.components in {1, 3}:
                pixels = self._decode_jpeg(data, file)
                if pixels is not None:
                    return _oriented(pixels, header.orientation)
            return self._decode_pillow(data, file, header.orientation)
        return self._decode_pillow(data, file, None)

    def _decode_jpeg(self, data: bytes, file: str | None) -> Pixels | None:
        decode = _simplejpeg().decode_jpeg
        colour = "GRAY" if self.mode == "L" else "RGB"
        try:
            return decode(data, colorspace=colour)  # type: ignore[no-any-return]
        except ValueError as error:
            cause = str(error)
        if cause.startswith("Premature end"):
            raise FileError(
                "the JPEG is truncated: its data ends too early", do=_SKIP, file=file, found=cause
            )
        if not cause.startswith("Corrupt JPEG data"):
            return None  # a rare kind of JPEG, such as an unusual subsampling: Pillow reads more of them
        left_over = "extraneous bytes" in cause and "0xd9" in cause
        if not left_over and self.damaged == "raise":
            do = _SKIP + ', or accept what could be decoded with damaged="warn"'
            raise FileError("the JPEG's data is damaged", do=do, file=file, found=cause)
        warnings.warn(f"{file or 'an image'}: {cause}", ImageFileWarning, stacklevel=2)
        return decode(data, colorspace=colour, strict=False)  # type: ignore[no-any-return]

    def _decode_pillow(self, data: bytes, file: str | None, orientation: int | None) -> Pixels:
        try:
            with Image.open(io.BytesIO(data), formats=_formats()) as image:
                self._check_size(image.height, image.width, file)
                image.load()
                return self._from_pil(image, file, orientation)
        except UnidentifiedImageError:
            do = "look at the file: " + _SKIP
            raise FileError(_no_image(data), do=do, file=file, found=repr(data[:16])) from None
        except FileError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            do = "shrink the image; PIL.Image.MAX_IMAGE_PIXELS is the limit that Pillow has beside max_pixels"
            what = (
                f"the image has more pixels than Pillow reads, and the cap is {self.max_pixels:,}; nothing "
            )
            raise FileError(what + "was decoded", do=do, file=file, found=error) from None
        except _READ_ERRORS as error:
            what = "the image is truncated" if "truncated" in str(error) else "the image cannot be decoded"
            found = f"{type(error).__name__}: {error}"
            raise FileError(what, do=_SKIP, file=file, found=found) from error

    def _from_pil(self, image: Image.Image, file: str | None, orientation: int | None = None) -> Pixels:
        orientation = _pil_orientation(image) if orientation is None else orientation
        if image.mode.startswith("I"):
            return _oriented(self._from_array(_deep_grey(image, file)), orientation)
        if image.mode == "F":
            raise FileError(
                "the image holds floating-point values, whose range is not known",
                do="convert it to 8 or 16 bits first",
                file=file,
            )
        if "transparency" in image.info or image.mode in {"LA", "PA", "RGBA", "La", "RGBa"}:
            image = self._flatten(image)
        pixels = np.asarray(image.convert(self.mode))
        return _oriented(pixels.reshape(*pixels.shape[:2], -1), orientation)

    def _flatten(self, image: Image.Image) -> Image.Image:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, (self.background, self.background, self.background, 255))
        return Image.alpha_composite(ground, rgba).convert("RGB")

    def _from_array(self, array: Pixels) -> Pixels:
        pixels = _eight_bits(array)
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        if pixels.ndim != 3 or pixels.shape[2] not in {1, 3, 4} or 0 in pixels.shape:
            raise ArgumentError(
                f"an array of shape {array.shape} is no image",
                do="pass (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); a tensor has its channels first",
            )
        self._check_size(pixels.shape[0], pixels.shape[1], None)
        channels = 1 if self.mode == "L" else 3
        if pixels.shape[2] == channels:
            return np.ascontiguousarray(pixels)
        if pixels.shape[2] == 1:
            return np.repeat(pixels, 3, axis=2)
        return self._from_pil(Image.fromarray(np.ascontiguousarray(pixels)), None)

    def _check_size(self, height: int, width: int, file: str | None) -> None:
        if height < 1 or width < 1:
            raise FileError(f"the header says {height} x {width} pixels", do=_SKIP, file=file)
        if height * width > self.max_pixels:
            raise FileError(
                f"the header says {height} x {width} = {height * width:,} pixels, over the cap of "
                f"{self.max_pixels:,}; nothing was decoded",
                do="shrink the image, or raise max_pixels of the ImageBlock if the file can be trusted",
                file=file,
            )


class PILImage:
    """A colour image: three channels. Names the kind of image in ``ImageBlock(PILImage)``."""

    mode: ClassVar[Mode] = "RGB"

    @classmethod
    @declared(skip={"source"})
    def create(cls, source: object, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
        """The PIL image of a path, bytes, array or tensor, upright and in this class's mode."""
        pixels = ImageOpener(cls.mode, max_pixels=max_pixels).pixels(source)
        return Image.fromarray(pixels if cls.mode == "RGB" else pixels[:, :, 0])


class PILImageBW(PILImage):
    """A grey image: one channel."""

    mode: ClassVar[Mode] = "L"


def open_image(source: object, mode: Mode = "RGB") -> tv_tensors.Image:
    """The image of ``source`` with the default settings of ``ImageOpener``."""
    return ImageOpener(mode)(source)


@dataclass(frozen=True, slots=True)
class _JpegHeader:
    height: int
    width: int
    components: int
    orientation: int


_FRAME_MARKERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE_MARKERS: Final = frozenset(range(0xD0, 0xD8)) | {0x01}


def _jpeg_header(data: bytes) -> _JpegHeader | None:
    """Walk the segments of a JPEG up to its first scan; None where they make no sense (ITU T.81, B.1)."""
    at, orientation, frame = 2, 1, None
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in _BARE_MARKERS:
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA and frame is not None:
            height, width, components = frame
            return _JpegHeader(height, width, components, orientation)
        if length < 2 or marker in {0xD9, 0xDA}:
            return None
        if marker in _FRAME_MARKERS and length >= 8 and at + 10 <= len(data):
            frame = struct.unpack(">HHB", data[at + 5 : at + 10])
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _exif_orientation(data[at + 10 : at + 2 + length])
        at += 2 + length
    return None


def _exif_orientation(tiff: bytes) -> int:
    """The orientation, 1 to 8, in the first directory of an EXIF block; 1 where there is none."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(count):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, start + 2 + 12 * entry)
            if tag == 0x0112 and kind == 3:
                return value if 1 <= value <= 8 else 1
    except struct.error:  # a damaged EXIF block says nothing of the pixels
        return 1
    return 1


def _pil_orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(0x0112, 1)
    except _READ_ERRORS:  # as above
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _oriented(pixels: Pixels, orientation: int) -> Pixels:
    """Pixels (H, W, C) turned upright by an EXIF orientation (CIPA DC-008, 4.6.4)."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _deep_grey(image: Image.Image, file: str | None) -> Pixels:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise FileError(
            f"the image holds whole numbers from {values.min()} to {values.max()}, expected 0 to 65535",
            do="convert it to 8 or 16 bits first",
            file=file,
        )
    return values.astype(np.uint16)


def _eight_bits(array: Pixels) -> Pixels:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    raise ArgumentError(
        f"an image array has dtype {array.dtype}, whose range is not known",
        do="pass uint8 (0 to 255) or uint16 (0 to 65535)",
    )


def _tensor_to_hwc(tensor: torch.Tensor) -> Pixels:
    array: Pixels = tensor.detach().cpu().as_subclass(torch.Tensor).numpy()
    return array.transpose(1, 2, 0) if array.ndim == 3 else array


def _as_image(pixels: Pixels) -> tv_tensors.Image:
    if not pixels.flags.writeable:  # an array lent by Pillow
        pixels = pixels.copy()
    # A view with the channels last in memory: the fast layout for the resize that follows.
    return torch.from_numpy(pixels).permute(2, 0, 1).as_subclass(tv_tensors.Image)


def _read_file(path: Path) -> bytes:
    try:
        # Not Path.read_bytes, which asks the system twice as often. Not to wait for the writer of a pipe.
        descriptor = os.open(path, os.O_RDONLY | _OPEN_FLAGS)
    except FileNotFoundError:
        do = "check the path, or how it is made from the label"
        raise FileError("the file does not exist", do=do, file=_shown(path)) from None
    except OSError as error:
        raise _unreadable(error, path) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileError("this is no regular file", do="pass the path of an image file", file=_shown(path))
        data = os.read(descriptor, status.st_size)
        while len(data) < status.st_size and (more := os.read(descriptor, status.st_size - len(data))):
            data += more
        return data
    except OSError as error:
        raise _unreadable(error, path) from error
    finally:
        os.close(descriptor)


_OPEN_FLAGS: Final = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
"""Each is missing on some system."""


def _unreadable(error: OSError, path: Path) -> FileError:
    what = f"the file cannot be read: {error.strerror or error}"
    return FileError(what, do="check its permissions", file=_shown(path))


def _shown(path: Path) -> str:
    # A name may hold line breaks, or bytes that are no text in any encoding.
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text if text.isprintable() else repr(text)[1:-1]


def _no_image(data: bytes) -> str:
    if data.lstrip()[:1] == b"<":
        return "the file is HTML or XML text, not an image: often a saved error page"
    return "the file is no image in a format that is read here"
