"""Transforms of torchvision v2 in a recipe: by their arguments, so that nothing is hidden."""

import pytest
import torch
from torchvision.transforms import v2

from surefast.data.transform import TrainOnly, as_batch_transforms, as_item_transforms
from surefast.data.v2 import describe_v2
from surefast.recipe.call import call_of

CUBIC = v2.InterpolationMode.BICUBIC


class Own(v2.Transform):
    """A user's: its code is not the library's."""


@pytest.mark.parametrize(
    "transform",
    [
        v2.Resize((3, 4), interpolation=CUBIC),
        v2.ColorJitter(0.3, 0.2),
        v2.RandomAffine(10),
        v2.Normalize([0.5], [0.5]),
        v2.ToDtype(torch.float32, scale=True),
        v2.Compose([v2.Resize(3), v2.RandomApply([v2.GaussianBlur(3)], 0.3)]),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_the_record_makes_an_equal_one(transform):
    """Arguments as the object keeps them; those inside of others have records of their own."""
    describe_v2(transform)
    record = call_of(transform)
    assert record.target == f"torchvision.transforms.v2:{type(transform).__name__}"
    again = type(transform)(**{name: value.value for name, value in record.values.items()})
    assert repr(again) == repr(transform).replace("InterpolationMode.BICUBIC", "bicubic")
    assert all(call_of(part) for part in getattr(transform, "transforms", ()))


def test_origins_are_told_by_the_signature():
    """What equals the default counts as one."""
    transform = v2.RandomHorizontalFlip(0.25)
    describe_v2(transform)
    assert call_of(transform).values["p"].origin == "user"
    describe_v2(other := v2.RandomHorizontalFlip())
    assert call_of(other).values["p"].origin == "default"


@pytest.mark.parametrize(
    "transform", [Own(), v2.Lambda(abs), v2.MixUp(num_classes=3)], ids=["own", "lambda", "mixup"]
)
def test_what_cannot_be_read_back_stays_as_it_is(transform):
    """The recipe tells it by a digest."""
    describe_v2(transform)
    assert call_of(transform) is None


def test_transforms_given_to_a_block_are_described():
    """Among item and batch transforms, marked as augmentation or not."""
    given = [v2.RandomHorizontalFlip() for _ in range(4)]
    as_item_transforms([given[0], TrainOnly(given[1])])
    as_batch_transforms([given[2], TrainOnly(given[3])])
    assert all(call_of(transform) is not None for transform in given)
