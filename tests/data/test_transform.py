"""Foreign transforms: what they are given, when they run, and what is refused."""

import random

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from surefast.data.device import DeviceStage
from surefast.data.transform import (
    BatchTransform,
    ForeignItem,
    ItemTransform,
    TrainOnly,
    as_batch_transforms,
    as_item_transforms,
    fused,
    in_order,
    name_of,
)
from surefast.errors import ArgumentError, TransformError

CPU = torch.device("cpu")


class Same(ItemTransform):
    def apply(self, sample, key, *, train):
        return sample


class Add(BatchTransform):
    """Adds a number; two of them join."""

    draws = 1

    def __init__(self, value=1.0):
        self.value = value

    def apply(self, xs, u):
        return (xs[0] + self.value * u[:, :1], *xs[1:])

    def fuse(self, other):
        return Add(self.value + other.value) if isinstance(other, Add) else None


def test_a_v2_transform_changes_image_and_mask_alike():
    """The whole sample goes through it at once, and the label is left alone."""
    picture = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8)
    sample = (tv_tensors.Image(picture), tv_tensors.Mask(picture.clone()), 3)
    transform = as_item_transforms(v2.RandomHorizontalFlip(0.5))[0]
    done = [transform.apply(sample, key, train=True) for key in range(12)]
    assert all(
        image.numpy().tobytes() == mask.numpy().tobytes() and label == 3 for image, mask, label in done
    )
    assert len({image.numpy().tobytes() for image, *_ in done}) == 2


def test_a_function_is_given_each_input_with_the_same_draws():
    """All three global generators follow the key."""

    def noisy(x):
        return x + random.random() + np.random.rand() + float(torch.rand(1))

    transform = as_item_transforms([noisy], n_inp=2)[0]
    first = transform.apply((0.0, 10.0, "label"), 5, train=True)
    assert first[1] - first[0] == pytest.approx(10.0)
    assert first[2] == "label"
    assert transform.apply((0.0, 10.0, "label"), 5, train=False) == first
    assert transform.apply((0.0, 10.0, "label"), 6, train=True) != first


def test_train_only_leaves_validation_alone():
    """For items and for batches."""
    item = as_item_transforms(TrainOnly(lambda x: x + 1))[0]
    assert (item.apply((1,), 0, train=True), item.apply((1,), 0, train=False)) == ((2,), (1,))
    batch = as_batch_transforms([TrainOnly(lambda x: x + 1), lambda x: x * 2])
    assert len(DeviceStage(batch, 1, train=True).active) == 2
    assert len(DeviceStage(batch, 1, train=False).active) == 1


def test_the_wrong_list_is_named():
    """Item transforms among batch transforms, classes not built, things that cannot be called."""
    with pytest.raises(ArgumentError, match="Same is an item transform, given among the batch transforms"):
        as_batch_transforms([Same()])
    with pytest.raises(ArgumentError, match="Add is a batch transform, given among the item transforms"):
        as_item_transforms([Add])
    with pytest.raises(ArgumentError, match="holds the class RandomCrop") as caught:
        as_item_transforms([v2.RandomCrop])
    assert caught.value.do == "build it: RandomCrop(...)"
    with pytest.raises(ArgumentError, match="item_tfms holds 3, which cannot be called"):
        as_item_transforms([3])
    assert isinstance(as_item_transforms(Same)[0], Same)


def test_neighbours_that_offer_it_are_joined():
    """Others keep their place."""
    other = as_batch_transforms(lambda x: x)[0]
    done = fused([Add(1), Add(2), other, Add(4)])
    assert [getattr(t, "value", None) for t in done] == [3, None, 4]


def test_draws_belong_to_the_sample_not_to_the_batch():
    """A sample gets the same draw in whichever batch it is."""
    stage = DeviceStage([Add()], 1, train=True)

    def values(ids):
        xs = (torch.zeros(len(ids), 1), torch.zeros(len(ids)))
        return stage.run(xs, np.array(ids), (1, 0, 0), CPU).x[0][:, 0].tolist()

    whole = values([4, 9, 2, 7])
    assert values([2]) == [whole[2]]
    assert values([7, 4]) == [whole[3], whole[0]]
    assert stage.run((torch.zeros(1, 1),), np.array([4]), (2, 0, 0), CPU).x[0].item() != whole[0]


def test_a_batch_transform_that_fails_is_named():
    """With the shapes that it was given."""

    def crash(x):
        raise RuntimeError("no")

    stage = DeviceStage(as_batch_transforms(crash), 1, train=True)
    with pytest.raises(TransformError, match="crash failed: RuntimeError: no") as caught:
        stage.run((torch.zeros(2, 3), torch.zeros(2)), np.arange(2), (0, 0, 0), CPU)
    assert "(2, 3) torch.float32" in caught.value.details["given"]
    two = DeviceStage(as_batch_transforms(lambda x: (x, x)), 1, train=True)
    with pytest.raises(ArgumentError, match="gave 2 tensors for 1 inputs"):
        two.run((torch.zeros(2, 3),), np.arange(2), (0, 0, 0), CPU)


def test_foreign_code_is_not_for_threads():
    """It draws from generators that threads share."""
    assert not ForeignItem(abs).threadable
    assert Same().threadable


class ToFloat(BatchTransform):
    order = 10

    def apply(self, xs, u):
        return xs


class Last(BatchTransform):
    order = 99

    def apply(self, xs, u):
        return xs


def test_batch_transforms_go_in_their_order():
    """Equals as given; a user's function stays behind what it was written behind."""
    first, add, last = ToFloat(), Add(), Last()
    before, after = as_batch_transforms([lambda x: x, lambda x: x])
    assert in_order([last, add, first]) == [first, add, last]
    assert in_order([first, before, last, after, add]) == [first, before, add, last, after]
    done = in_order([last, after, add])
    assert done == [add, last, after]
    assert in_order(done) == done
    assert DeviceStage([last, first], 1, train=True).active == [first, last]


def test_transforms_have_names():
    """The call that makes one, and what is joined by its parts."""
    assert repr(Last()) == "Last()"

    class Joined(Last):
        def joined(self):
            return Add(), Last()

    assert name_of(Joined()) == "Add + Last"


def test_arithmetic_on_an_image_gives_an_image():
    """A function's plain tensor would be left alone by every transform behind it."""
    image = tv_tensors.Image(torch.zeros(3, 4, 4, dtype=torch.uint8))
    changed = as_item_transforms(lambda x: x + 1)[0].apply((image, 0), 1, train=True)[0]
    assert type(changed) is tv_tensors.Image
    floats = as_item_transforms(lambda x: x / 255)[0].apply((image, 0), 1, train=True)[0]
    assert type(floats) is torch.Tensor
