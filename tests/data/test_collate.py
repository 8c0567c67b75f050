"""Stacking samples, and naming those that do not fit."""

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from surefast.data.collate import collate
from surefast.errors import CollateError


def test_kinds_of_elements():
    """Tensors stack, numbers become tensors, texts stay a list, nests are walked."""
    image = tv_tensors.Image(torch.zeros(3, 2, 2, dtype=torch.uint8))
    sample = (image, 1, 0.5, np.ones(2), "a", (torch.zeros(1), {"k": 2}), True)
    xs = collate([sample, sample])
    assert type(xs[0]) is torch.Tensor
    assert xs[0].shape == (2, 3, 2, 2)
    assert (xs[1].dtype, xs[2].dtype, xs[3].dtype) == (torch.int64, torch.float32, torch.float64)
    assert xs[4] == ["a", "a"]
    assert xs[5][0].shape == (2, 1)
    assert xs[5][1]["k"].tolist() == [2, 2]
    assert xs[6].dtype == torch.bool


def test_pictures_of_different_sizes_are_named_with_the_remedy():
    """Two files, two sizes, and Resize."""
    samples = [(torch.zeros(3, 5, 4),), (torch.zeros(3, 5, 4),), (torch.zeros(3, 7, 6),)]
    with pytest.raises(CollateError, match="4x5 and 6x7 pixels") as caught:
        collate(samples, lambda i: f"{i}.jpg")
    assert caught.value.do == "give them one size: item_tfms=Resize(224)"
    assert caught.value.details == {"first": "0.jpg: (3, 5, 4)", "second": "2.jpg: (3, 7, 6)"}


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (torch.zeros(1, 5, 4), "different numbers of channels: 3 and 1"),
        (torch.zeros(3), r"different shapes: \(3, 5, 4\) and \(3,\)"),
        (torch.zeros(3, 5, 4, dtype=torch.uint8), "0 is torch.float32, 1 is torch.uint8"),
        ("x", "element 0 of 1 is a str, that of 0 a tensor"),
    ],
)
def test_other_misfits(other, text):
    """Each says what differs."""
    with pytest.raises(CollateError, match=text):
        collate([(torch.zeros(3, 5, 4),), (other,)])


def test_samples_of_different_lengths():
    """A transform that drops the label is found."""
    with pytest.raises(CollateError, match="1 has 1 elements, 0 has 2"):
        collate([(1, 2), (1,)])
