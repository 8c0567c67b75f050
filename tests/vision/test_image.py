"""Every kind of file gives upright 8-bit pixels, or an error that names file, cause and way out."""

import importlib
import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from surefast.errors import ArgumentError, FileError, UnknownNameError
from surefast.vision import image as image_file
from surefast.vision.image import (
    ImageFileWarning,
    ImageOpener,
    PILImage,
    PILImageBW,
    decoder,
    open_image,
)


@pytest.fixture(scope="module")
def photo():
    datasets = importlib.import_module("sklearn.datasets")
    return Image.fromarray(datasets.load_sample_image("china.jpg")[::4, ::4])  # 107 x 160


@pytest.fixture(params=["simplejpeg", "pillow"])
def either_decoder(request, monkeypatch):
    if request.param == "pillow":
        monkeypatch.setattr(image_file, "_simplejpeg", lambda: None)
    return request.param


def encoded(image, kind="JPEG", **how):
    stream = io.BytesIO()
    image.save(stream, kind, **how)
    return stream.getvalue()


def opened(image, kind="PNG", mode="RGB", **how):
    return open_image(encoded(image, kind, **how), mode)


def close(a, b, levels=2.0):
    """Whether pixels agree: on average to a number of levels, or exactly for 0."""
    difference = a.as_subclass(torch.Tensor).float() - torch.as_tensor(np.array(b)).float()
    return difference.abs().mean() <= levels


def chw(image):
    return np.array(image.convert("RGB")).transpose(2, 0, 1)


def test_a_jpeg_file_opens_as_uint8_channels_first(photo, tmp_path, either_decoder):
    """A path gives tv_tensors.Image of uint8 (3, H, W) with the pixels that Pillow sees."""
    file = tmp_path / "a.jpg"
    file.write_bytes(encoded(photo, quality=90))
    image = open_image(file)
    assert type(image) is tv_tensors.Image
    assert (image.dtype, tuple(image.shape)) == (torch.uint8, (3, 107, 160))
    assert close(image, chw(Image.open(file)))


def test_the_decoder_is_stated_with_its_version(either_decoder):
    """The recipe can say which library made the pixels."""
    name, version = decoder().split()
    assert name.lower() == either_decoder
    assert version[0].isdigit()


def test_grey_mode_gives_one_channel(photo, either_decoder):
    """PILImageBW and mode L read colour files as grey, grey files as they are, and colour from grey."""
    grey = photo.convert("L")
    assert tuple(open_image(encoded(photo), "L").shape) == (1, 107, 160)
    assert close(opened(grey, mode="L"), np.array(grey)[None], 0)
    assert close(opened(grey), np.repeat(np.array(grey)[None], 3, 0), 0)
    assert tuple(open_image(encoded(grey)).shape) == (3, 107, 160)


@pytest.mark.parametrize("mode", ["P", "1", "L", "LA", "RGBA", "CMYK", "RGB"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_every_pixel_format_becomes_rgb(photo, mode, kind):
    """Palette, 1-bit, grey, alpha and CMYK files give three channels."""
    if (mode, kind) == ("CMYK", "PNG"):
        kind = "JPEG"
    source = photo.convert(mode)
    image = opened(source, kind)
    assert tuple(image.shape) == (3, 107, 160)
    assert close(image, chw(source), 12 if kind == "JPEG" else 0)


def test_sixteen_bit_grey_is_scaled_not_cut(tmp_path):
    """I;16 maps 0..65535 to 0..255 evenly; a plain conversion by Pillow would clip at 255."""
    deep = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    image = opened(Image.fromarray(deep), mode="L")
    assert image.flatten().tolist() == [0, 0, 1, 1, 128, 255]


def test_transparent_pixels_show_the_background(photo):
    """Hidden colours do not come back; partial transparency is mixed."""
    pixels = np.array(photo.convert("RGBA"))
    pixels[:, :80, 3] = 0
    data = encoded(Image.fromarray(pixels), "PNG")
    assert (open_image(data)[:, :, :80] == 255).all()
    assert (ImageOpener(background=0)(data)[:, :, :80] == 0).all()
    assert close(open_image(data)[:, :, 80:], chw(photo)[:, :, 80:], 0)


def test_a_transparent_palette_colour_shows_the_background():
    """GIF-like transparency through a palette is flattened too."""
    image = Image.new("P", (4, 4), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    assert (opened(image, "GIF", transparency=1) == 255).all()
    assert opened(image, "GIF")[:, 0, 0].tolist() == [40, 50, 60]


def test_an_animation_gives_its_first_frame(photo):
    """GIF, WebP and multi-page TIFF."""
    other = photo.transpose(Image.Transpose.ROTATE_180)
    for kind in ("GIF", "TIFF"):
        many = opened(photo, kind, save_all=True, append_images=[other])
        assert torch.equal(many, opened(photo, kind))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_rotation_is_applied(photo, orientation, kind, either_decoder):
    """All eight orientations come out upright, from every kind of file that can carry them."""
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = photo if orientation == 1 else photo.transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    how = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    image = opened(stored, kind, exif=exif, **how)
    assert tuple(image.shape) == (3, 107, 160)
    assert close(image, chw(photo), 10 if kind == "JPEG" else 0)  # turned wrongly it is 50 or more


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's own remark
def test_broken_exif_leaves_the_image_as_stored(photo, either_decoder):
    """A damaged EXIF block says nothing about the pixels."""
    data = encoded(photo)
    for block in (b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"nonsense"):
        segment = b"\xff\xe1" + struct.pack(">H", len(block) + 8) + b"Exif\0\0" + block
        assert tuple(open_image(data[:2] + segment + data[2:]).shape) == (3, 107, 160)


def test_arrays_tensors_and_pil_images_open_too(photo):
    """The same pixels, whatever holds them."""
    array = np.array(photo)
    wanted = chw(photo)
    for source in (
        photo,
        array,
        torch.tensor(wanted),
        tv_tensors.Image(wanted),
        array.astype(np.uint16) * 257,
    ):
        assert close(open_image(source), wanted, 0)
    assert tuple(open_image(array[:, :, 0]).shape) == (3, 107, 160)
    assert tuple(open_image(array, "L").shape) == (1, 107, 160)


def test_an_opened_array_is_not_changed_by_the_image():
    """Writing into the image of a PIL image is possible and does not reach Pillow's memory."""
    source = Image.new("RGB", (3, 3))
    image = open_image(source)
    image += 1
    assert source.getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), "dtype float32, whose range is not known"),
        (torch.zeros(4, 4, dtype=torch.int64), "dtype int64"),
        (np.zeros((4, 4, 7), np.uint8), r"shape (4, 4, 7) is no image"),
        (np.zeros((0, 4, 3), np.uint8), "is no image"),
        (17, "cannot be opened from int"),
    ],
)
def test_what_is_no_image_is_refused(source, words):
    """The message says what was given and what to pass."""
    with pytest.raises(ArgumentError) as error:
        open_image(source)
    assert words in str(error.value)
    assert "pass" in error.value.do


def file_error(path_or_bytes, **how):
    with pytest.raises(FileError) as error:
        ImageOpener(**how)(path_or_bytes)
    assert error.value.do
    return error.value


def test_missing_empty_and_other_than_files_are_named(tmp_path):
    """The message holds the path, the cause and the remedy."""
    error = file_error(tmp_path / "no.jpg")
    assert "does not exist" in str(error)
    assert str(tmp_path / "no.jpg") in str(error)
    (tmp_path / "empty.jpg").touch()
    assert "empty (0 bytes)" in str(file_error(tmp_path / "empty.jpg"))
    assert "no regular file" in str(file_error(tmp_path))
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "no regular file" in str(file_error(tmp_path / "pipe.jpg"))


def test_html_and_text_are_told_from_images(tmp_path):
    """A saved error page under the name of an image is called that."""
    page = tmp_path / "cat.jpg"
    page.write_text("<!DOCTYPE html><html>404</html>")
    assert "HTML or XML text" in str(file_error(page))
    page.write_bytes(b"just text")
    assert "no image in a format that is read here" in str(file_error(page))
    assert "b'just text'" in str(file_error(page))


def test_file_names_that_are_no_text_can_be_shown(tmp_path):
    """Bytes that are no UTF-8, and line breaks, do not break the message."""
    error = file_error(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.jpg"))
    assert "\\xff\\xfe.jpg" in str(error)
    str(error).encode()
    assert "\n" not in file_error(tmp_path / "a\nb.jpg").details["file"]


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("how", [{}, {"progressive": True}])
def test_a_truncated_jpeg_is_an_error(photo, share, how, either_decoder, tmp_path):
    """Wherever it is cut."""
    data = encoded(photo, **how)
    file = tmp_path / "cut.jpg"
    file.write_bytes(data[: int(len(data) * share)])
    error = file_error(file)
    assert "cut.jpg" in str(error)
    assert "truncated" in str(error) or "cut short" in str(error)
    assert "on_error" in error.do


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.03, 0.5])
def test_other_truncated_files_are_errors(photo, kind, share):
    """No plugin of Pillow lets its own kind of exception through."""
    data = encoded(photo, kind)
    assert file_error(data[: int(len(data) * share)]).what


def test_random_damage_never_escapes_as_another_error(photo, either_decoder):
    """Flipped bytes give pixels or a FileError, nothing else."""
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"):
            data = np.frombuffer(encoded(photo, kind), np.uint8)
            for _ in range(15):
                bad = data.copy()
                bad[rng.integers(0, min(len(bad), 600), 4)] = rng.integers(0, 256, 4)
                try:
                    image = ImageOpener(max_pixels=10**6)(bad.tobytes())
                except FileError:
                    continue
                assert image.dtype == torch.uint8


def corrupt_jpeg(photo):
    data = encoded(photo)
    middle = len(data) // 2
    return data[:middle] + b"\xff\xd9\0\0" + data[middle + 4 :]


def test_damaged_jpeg_data_is_refused_or_warned_of(photo):
    """What libjpeg notices is an error that says how to accept it; accepting it still warns."""
    error = file_error(corrupt_jpeg(photo))
    assert "data is damaged" in str(error)
    assert 'damaged="warn"' in error.do
    with pytest.warns(ImageFileWarning, match="Corrupt JPEG data"):
        image = ImageOpener(damaged="warn")(corrupt_jpeg(photo))
    assert tuple(image.shape) == (3, 107, 160)


def test_bytes_left_over_in_a_jpeg_warn(photo):
    """The picture is whole; the file is named in a warning, and used."""
    data = encoded(photo, progressive=True)
    with pytest.warns(ImageFileWarning, match="extraneous bytes"):
        image = open_image(data[:-2] + b"\x12\x34\x56" * 20 + data[-2:])
    assert torch.equal(image, open_image(data))


def big_png(height, width):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def test_the_pixel_cap_is_checked_before_decoding(photo, either_decoder):
    """From the header alone: no 400-megapixel bomb and no lying JPEG header gets memory."""
    assert "over the cap of 80,000,000" in str(file_error(big_png(9000, 9000)))
    assert "nothing was decoded" in str(file_error(big_png(20000, 20000)))
    data = bytearray(encoded(photo))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    assert "65500 x 65500" in str(file_error(bytes(data)))
    assert "over the cap of 100;" in str(file_error(encoded(photo), max_pixels=100))
    assert "over the cap" in str(file_error(np.zeros((11, 10), np.uint8), max_pixels=100))


def test_settings_out_of_range_are_refused():
    """Each says what it may be; an unknown one names the nearest."""
    for how, words in (
        ({"mode": "HSV"}, "'HSV'"),
        ({"background": 300}, "300"),
        ({"damaged": "ignore"}, "'ignore'"),
    ):
        with pytest.raises(ArgumentError, match=words):
            ImageOpener(**how)
    with pytest.raises(UnknownNameError, match="max_pixels"):
        ImageOpener(max_pixel=3)


def test_numbers_without_a_known_range_are_refused():
    """Floating-point TIFFs and whole numbers over 16 bits."""
    assert "floating-point" in str(file_error(encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")))
    huge = Image.fromarray(np.full((4, 4), 70000, np.int32))
    assert "from 70000 to 70000" in str(file_error(encoded(huge, "TIFF")))


def test_create_gives_a_pil_image(photo, tmp_path):
    """fastai's PILImage.create, from a file and from an array."""
    file = tmp_path / "a.png"
    photo.save(file)
    assert (PILImage.create(file).mode, PILImage.create(file).size) == ("RGB", (160, 107))
    assert PILImageBW.create(np.array(photo)).mode == "L"


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1)])
def test_extreme_shapes_open(shape, either_decoder):
    """One pixel, and lines."""
    for kind in ("JPEG", "PNG"):
        assert tuple(opened(Image.new("RGB", shape[::-1]), kind).shape[1:]) == shape
