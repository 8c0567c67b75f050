"""ImageBlock opens files inside a DataBlock, and makes floats of the batch."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from surefast.data.block import DataBlock
from surefast.data.blocks import CategoryBlock, TransformBlock
from surefast.data.items import get_image_files
from surefast.errors import ArgumentError, FileError, LabelError, UnknownNameError
from surefast.recipe.call import call_of
from surefast.vision.blocks import ImageBlock
from surefast.vision.image import PILImage, PILImageBW


def arrays(count=8):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (12, 10, 3), dtype=np.uint8) for _ in range(count)]


def block(image_block):
    return DataBlock(blocks=(image_block, CategoryBlock()), get_y=lambda array: int(array.mean() > 127))


def test_samples_are_images_and_batches_are_floats():
    """uint8 in the sample, float32 in [0, 1] in the batch, as (B, C, H, W)."""
    dls = block(ImageBlock).dataloaders(arrays(), bs=4, num_workers=0, check_leaks=False, device="cpu")
    image = dls.train_ds[0][0]
    assert type(image) is tv_tensors.Image
    assert image.dtype == torch.uint8
    x, _ = dls.one_batch()
    assert (x.shape, x.dtype) == ((4, 3, 12, 10), torch.float32)
    assert 0 <= x.min() <= x.max() <= 1


def test_grey_images_have_one_channel():
    """PILImageBW."""
    dls = block(ImageBlock(PILImageBW)).dataloaders(
        arrays(), bs=4, num_workers=0, check_leaks=False, device="cpu"
    )
    assert dls.one_batch()[0].shape == (4, 1, 12, 10)


def test_every_setting_is_in_the_record():
    """The kind of image and the cap, with their origins."""
    made = ImageBlock(PILImageBW, max_pixels=10_000)
    assert isinstance(made, TransformBlock)
    values = call_of(made).values
    assert (values["cls"].value, values["cls"].origin) == (PILImageBW, "user")
    assert (values["background"].value, values["background"].origin) == (255, "default")
    assert values["max_pixels"].value == 10_000


def test_the_settings_reach_the_opener():
    """A file over the cap of the block is refused, with its name."""
    opener = ImageBlock(PILImage, max_pixels=100).type_tfms[0]
    with pytest.raises(FileError, match="over the cap of 100"):
        opener(arrays(1)[0])


def test_what_is_no_kind_of_image_is_refused():
    """A mode, an instance, a typo."""
    with pytest.raises(ArgumentError, match="'RGB', which is no kind of image"):
        ImageBlock("RGB")
    with pytest.raises(UnknownNameError, match="'max_pixels'"):
        ImageBlock(max_pixel=3)


def test_a_path_is_no_label(tmp_path):
    """Nobody said how to read one from it."""
    for i in range(10):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
    block = DataBlock((ImageBlock, CategoryBlock), get_items=get_image_files)
    with pytest.raises(LabelError, match="is the path itself") as caught:
        block.dataloaders(tmp_path)
    assert "get_y=parent_label" in caught.value.do
