"""Blocks of images for the DataBlock.

This file must not know of models or learners.
"""

from __future__ import annotations

from surefast.data.blocks import TransformBlock
from surefast.errors import ArgumentError
from surefast.recipe.call import declared
from surefast.vision.augment import IntToFloatTensor
from surefast.vision.image import MAX_PIXELS, Damaged, ImageOpener, PILImage


@declared()
def ImageBlock(  # noqa: N802  # fastai's name
    cls: type[PILImage] = PILImage,
    *,
    max_pixels: int = MAX_PIXELS,
    background: int = 255,
    damaged: Damaged = "raise",
) -> TransformBlock:
    """An image: opened as uint8 (C, H, W), and float32 in [0, 1] in the batch.

    Args:
        cls: ``PILImage`` for colour, ``PILImageBW`` for grey.
        max_pixels: height times width above which a file is refused, before it is decoded.
        background: the grey level, 0 to 255, that shows through transparent pixels.
        damaged: what to do with a JPEG whose data libjpeg finds corrupt: ``raise`` or ``warn``.

    Raises:
        ArgumentError: ``cls`` is no kind of image.
    """
    if not isinstance(cls, type) or not issubclass(cls, PILImage):
        raise ArgumentError(
            f"cls is {cls!r}, which is no kind of image", do="pass PILImage (colour) or PILImageBW (grey)"
        )
    opener = ImageOpener(cls.mode, max_pixels=max_pixels, background=background, damaged=damaged)
    return TransformBlock(type_tfms=opener, batch_tfms=IntToFloatTensor())
