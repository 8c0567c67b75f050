"""The same file on both sides, and transforms that do not repeat."""

import shutil

import numpy as np
import pytest
import torch

from surefast.data.leaks import find_leaks, same
from surefast.data.split import IndexSplitter
from surefast.data.transform import TrainOnly
from surefast.errors import LeakError, SurefastWarning, TransformError


@pytest.fixture
def doubled(digit_folder, tmp_path):
    """The digits with a copy of one under another name, and its two positions."""
    folder = tmp_path / "doubled"
    shutil.copytree(digit_folder, folder)
    files = sorted(folder.rglob("*.png"))
    copy = files[3].with_name("zz_copy.png")
    shutil.copy(files[3], copy)
    return folder, files[3], copy


def test_copies_are_found_by_content(doubled):
    """Not by name, and not by size alone."""
    folder, first, copy = doubled
    others = [f for f in sorted(folder.rglob("*.png")) if f != copy]
    leaks = find_leaks(others, [copy, None])
    assert [(leak.train, leak.valid, leak.valid_name) for leak in leaks] == [
        (others.index(first), 0, str(copy))
    ]
    copy.write_bytes(copy.read_bytes()[:-1] + b"?")
    assert find_leaks(others, [copy]) == []


def test_large_files_that_differ_at_the_end_are_no_copies(tmp_path):
    """The whole is read where the beginnings are equal."""
    for name, end in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / name).write_bytes(b"x" * 100_000 + end)
    paths = [tmp_path / name for name in "abc"]
    assert [leak.train for leak in find_leaks(paths[:2], paths[2:])] == [0]
    with pytest.raises(LeakError, match="3 files share their size"):
        find_leaks(paths[:2], paths[2:], limit=2)


def test_dataloaders_warn_or_refuse(doubled, file_block):
    """One warning with the first pair; ``"raise"`` makes it an error; False does not look."""
    folder, first, copy = doubled
    files = sorted(folder.rglob("*.png"))
    block = file_block(splitter=IndexSplitter([files.index(copy), 0, 1]))
    with pytest.warns(SurefastWarning, match="1 of 3 validation files are in the training set too") as caught:
        block.dataloaders(folder, device="cpu")
    assert str(copy) in str(caught[0].message)
    assert str(first) in str(caught[0].message)
    assert caught[0].filename == __file__
    with pytest.raises(LeakError, match="same bytes") as refused:
        block.dataloaders(folder, device="cpu", check_leaks="raise")
    assert "GroupSplitter" in refused.value.do
    block.dataloaders(folder, device="cpu", check_leaks=False)


def test_a_transform_with_its_own_generator_is_named(digits, memory_block):
    """Its draws cannot be keyed."""
    own = np.random.default_rng(3)

    def mine(x):
        return torch.as_tensor(x) + own.random()

    with pytest.raises(TransformError, match="mine gave two different results for the same item") as caught:
        memory_block([lambda x: x, mine]).dataloaders(digits, device="cpu")
    assert "global generators" in caught.value.do


def test_a_transform_that_changes_the_items_is_found(digits, memory_block):
    """Each epoch would start from what the last one left; in-place work on a copy is fine."""

    def worse(x):
        x += 1
        return x

    items = [(image.copy(), label) for image, label in digits]
    with pytest.raises(TransformError, match="change the items of the data set themselves"):
        memory_block(worse).dataloaders(items, device="cpu")
    memory_block([lambda x: x.copy(), worse]).dataloaders(items, device="cpu")


def test_randomness_in_validation_is_warned_of(digits, memory_block, draw_from_all):
    """Unless it is marked as augmentation."""
    with pytest.warns(SurefastWarning, match="draw_from_all is random in validation too"):
        memory_block(draw_from_all).dataloaders(digits, device="cpu")
    memory_block(TrainOnly(draw_from_all)).dataloaders(digits, device="cpu")


def test_equality_is_bit_by_bit():
    """Not-a-numbers are equal to themselves, minus zero is not zero."""
    nan = torch.tensor([float("nan")])
    assert same((nan, [1, "a"]), (nan.clone(), [1, "a"]))
    assert not same(torch.tensor(0.0), torch.tensor(-0.0))
    assert not same((1, 2), (1,))
    assert not same(np.zeros(2), np.ones(2))
    assert same(object(), object())


def noisy(x):
    return x + torch.rand_like(x)


def test_a_batch_transform_that_is_random_in_validation_is_told(memory_block, digits):
    """Marked as augmentation it is not, nor is a function that draws nothing."""
    tensors = torch.as_tensor
    with pytest.warns(SurefastWarning, match="noisy among the batch transforms: random in validation"):
        memory_block(tensors, noisy).dataloaders(digits, device="cpu")
    memory_block(tensors, TrainOnly(noisy)).dataloaders(digits, device="cpu")
    memory_block(tensors, lambda x: x * 2).dataloaders(digits, device="cpu")
