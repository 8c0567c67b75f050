"""All transforms: a pure function of (sample, key), labels untouched, the batch cut as one likes."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from surefast.data.transform import BatchTransform, ItemTransform
from surefast.keys.key import make_key, uniform
from tests.contract.families import public

GIVEN = {"size": 32, "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "mult": 1.0}


def made(cls):
    """An instance with the required arguments; None where it wraps foreign code."""
    needed = [
        p.name
        for p in inspect.signature(cls).parameters.values()
        if p.default is p.empty and p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}
    ]
    if any(name not in GIVEN for name in needed):
        return None
    return cls(**{name: GIVEN[name] for name in needed})


def picture() -> tv_tensors.Image:
    """A picture with structure, 48 by 40."""
    y, x = torch.meshgrid(torch.arange(48), torch.arange(40), indexing="ij")
    return tv_tensors.Image(torch.stack([x * 5, y * 4, (x * y) % 255]).to(torch.uint8))


ITEMS = {cls.__name__: t for cls in public(ItemTransform) if (t := made(cls)) is not None}
BATCHES = {cls.__name__: t for cls in public(BatchTransform) if (t := made(cls)) is not None}


def test_the_known_transforms_are_found():
    """The search by import finds the names a user knows."""
    assert {"Resize", "RandomResizedCrop", "RandomCrop", "CropPad", "FlipItem", "ToTensor"} <= set(ITEMS)
    names = "Flip Dihedral Rotate Zoom Warp Brightness Contrast Saturation Hue RandomErasing Normalize"
    assert set(names.split()) <= set(BATCHES)


@pytest.mark.parametrize("name", ITEMS)
@pytest.mark.parametrize("train", [True, False])
def test_an_item_transform_is_pure(name, train):
    """The same key gives the same bytes whatever global generators hold; the label stays; input unchanged."""
    original = picture()
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        image, label = ITEMS[name].apply((picture(), 7), make_key(0, "item", 0, 5), train=train)
        assert label == 7
        results.append(torch.as_tensor(image))
    assert torch.equal(results[0], results[1])
    assert torch.equal(picture(), original)


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_transform_does_not_see_its_neighbours(name):
    """A sample comes out the same in a batch of six, in two halves, and in another order."""
    transform = BATCHES[name]
    keys = np.array([make_key(0, "batch", 0, i) for i in range(6)], dtype=np.uint64)
    u = torch.from_numpy(uniform(keys, transform.draws)).float()
    x = torch.stack([torch.as_tensor(picture()).roll(i, 2) for i in range(6)]).float() / 255
    y = torch.arange(6)

    def run(part):
        return transform.apply((x[part].clone(), y[part]), u[part])

    whole = run(slice(None))
    halves = [run(slice(0, 3)), run(slice(3, 6))]
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert torch.equal(whole[1], y)
    assert torch.equal(whole[0], torch.cat([h[0] for h in halves]))
    assert torch.equal(run(order)[0], whole[0][order])
