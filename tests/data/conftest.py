"""Real handwritten digits (scikit-learn), in memory and as files, and user code of every kind."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import tv_tensors

from surefast.data.block import DataBlock
from surefast.data.blocks import CategoryBlock, TransformBlock
from surefast.data.items import get_image_files
from surefast.data.label import ItemGetter, parent_label


@pytest.fixture(scope="session")
def digits():
    """300 pairs of picture (8, 8) and digit."""
    data = load_digits()
    return [
        (image.astype("float32"), int(label))
        for image, label in zip(data.images[:300], data.target[:300], strict=True)
    ]


@pytest.fixture(scope="session")
def digit_folder(tmp_path_factory, digits):
    """120 digits as PNG files, in one folder for each digit."""
    root = tmp_path_factory.mktemp("digits")
    for i, (image, label) in enumerate(digits[:120]):
        folder = root / str(label)
        folder.mkdir(exist_ok=True)
        Image.fromarray((image * 15).astype("uint8")).resize((16, 16)).save(folder / f"{i:03}.png")
    return root


class Opener:
    """A file to an image, as an application's opener does it."""

    def __call__(self, path: Path):
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))
        return tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))


def draw_from_all(x):
    """A user's transform that draws from all three global generators."""
    return torch.as_tensor(x) + torch.rand(8, 8) + random.random() + float(np.random.rand())


@pytest.fixture
def memory_block():
    """Pairs in memory."""

    def make(item_tfms=None, batch_tfms=None, **more):
        return DataBlock(
            (TransformBlock, CategoryBlock),
            getters=[ItemGetter(0), ItemGetter(1)],
            item_tfms=item_tfms,
            batch_tfms=batch_tfms,
            **more,
        )

    return make


@pytest.fixture
def file_block():
    """Files in folders."""

    def make(item_tfms=None, batch_tfms=None, **more):
        return DataBlock(
            (TransformBlock(Opener()), CategoryBlock),
            get_items=get_image_files,
            get_y=parent_label,
            item_tfms=item_tfms,
            batch_tfms=batch_tfms,
            **more,
        )

    return make


def bits(loader, seed=7, epoch=0, start=0):
    """Everything an epoch gives, one entry for each batch."""
    return [
        (*(t.numpy().tobytes() for t in (*batch.x, *batch.y)), batch.ids.tobytes(), batch.number)
        for batch in loader.batches(seed, epoch, start, device="cpu")
    ]


@pytest.fixture(name="bits")
def bits_fixture():
    """The function ``bits``."""
    return bits


@pytest.fixture(name="draw_from_all")
def draw_from_all_fixture():
    """The function ``draw_from_all``."""
    return draw_from_all
