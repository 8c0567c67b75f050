"""Blocks: vocabularies from training labels, encodings, tasks, and labels that do not fit."""

import warnings

import pandas as pd
import pytest
import torch

from surefast.data.block import DataBlock
from surefast.data.blocks import CategoryBlock, MultiCategoryBlock, RegressionBlock, TransformBlock
from surefast.data.label import ColReader
from surefast.data.split import IndexSplitter
from surefast.errors import ArgumentError, LabelError, SurefastWarning, UnknownNameError
from surefast.task.loss import BCEWithLogitsLossFlat, CrossEntropyLossFlat, MSELossFlat


def datasets(block, labels, valid=(0, 1)):
    """Data sets of (number, label) pairs with the given validation positions."""
    pairs = list(enumerate(labels))
    made = DataBlock(
        (TransformBlock, block),
        getters=[lambda pair: pair[0], lambda pair: pair[1]],
        splitter=IndexSplitter(valid),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SurefastWarning)
        return made.datasets(pairs)


def test_classes_are_those_of_training_sorted():
    """Numbers sort as numbers; positions are the targets."""
    data = datasets(CategoryBlock, [10, 2, 10, 2, 9])
    assert data.vocab == ("2", "9", "10")
    assert [data.train[i][1] for i in range(3)] == [2, 0, 1]
    assert (data.task.kind, data.task.n_out) == ("category", 3)
    assert isinstance(data.task.loss, CrossEntropyLossFlat)


def test_a_given_vocabulary_keeps_its_order():
    """And an inferred one is not sorted where that is switched off."""
    assert datasets(CategoryBlock(vocab=["z", "a"]), ["a", "z", "a", "z"]).vocab == ("z", "a")
    assert datasets(CategoryBlock(sort=False), ["a", "z", "z", "a"]).vocab == ("z", "a")
    assert datasets(CategoryBlock, [True, False, True, False]).vocab == ("False", "True")


def test_a_label_never_seen_in_training_is_named_with_its_first_item():
    """The count of items and the ways out are there."""
    with pytest.raises(LabelError) as caught:
        datasets(CategoryBlock, ["tiger", "tiger", "cat", "dog"])
    assert (
        "the label 'tiger' was never seen in training: 2 of 2 validation items have it" in caught.value.what
    )
    assert "the first is item 0" in caught.value.what
    assert "stratify" in caught.value.do
    data = datasets(CategoryBlock(add_na=True), ["tiger", None, "cat", "dog"])
    assert data.vocab == ("#na#", "cat", "dog")
    assert [data.valid[i][1] for i in range(2)] == [0, 0]


def test_a_label_outside_a_given_vocabulary_is_answered():
    """With the nearest one in it."""
    with pytest.raises(LabelError, match="'cats' is not in the vocabulary: 1 of 2 training") as caught:
        datasets(CategoryBlock(vocab=["cat", "dog"]), ["cat", "dog", "cats", "dog"])
    assert caught.value.do == "write 'cat', or add it to vocab"
    with pytest.raises(LabelError, match="'x' is not in the vocabulary"):
        datasets(MultiCategoryBlock(vocab=["cat", "dog"]), [["cat"], ["dog"], ["x"], []])


def test_missing_labels_and_a_single_class_are_refused():
    """With what to do instead."""
    with pytest.raises(LabelError, match="an item has no label: 1 of 3 training items have it"):
        datasets(CategoryBlock, ["a", "b", "a", None, "b"])
    with pytest.raises(LabelError, match="have only one class, 'a'") as caught:
        datasets(CategoryBlock, ["a"] * 4)
    assert "RegressionBlock" in caught.value.do
    with pytest.raises(LabelError, match="two classes are both written '1'"):
        datasets(CategoryBlock, ["1", 1, "1", 1])


def test_a_class_with_one_item_is_warned_of():
    """It is trained on and cannot be validated."""
    pairs = [(i, label) for i, label in enumerate(["a", "b", "a", "b", "rare"])]
    block = DataBlock(
        (TransformBlock, CategoryBlock), getters=[None, lambda p: p[1]], splitter=IndexSplitter([0, 1])
    )
    with pytest.warns(SurefastWarning, match=r"1 of 3 classes have a single item \('rare'\)"):
        block.datasets(pairs)


def test_several_classes_become_a_vector():
    """float32 of 0 and 1; decoded to names."""
    data = datasets(MultiCategoryBlock, [["a"], [], ["a", "b"], ["c"]])
    assert data.vocab == ("a", "b", "c")
    assert data.train[0][1].tolist() == [1.0, 1.0, 0.0]
    assert data.valid[1][1].dtype == torch.float32
    assert isinstance(data.task.loss, BCEWithLogitsLossFlat)
    assert data.train.elements[1].encoder.decode(data.train[0][1]) == ("a", "b")
    with pytest.raises(LabelError, match="the label 'x' was never seen"):
        datasets(MultiCategoryBlock, [["a", "x"], ["a"], ["a"], ["b"]])
    with pytest.raises(LabelError, match="have no labels"):
        datasets(MultiCategoryBlock, [["a"], ["a"], [], []])


def test_encoded_classes_come_as_they_are():
    """They need names, and as many values as names."""
    data = datasets(MultiCategoryBlock(encoded=True, vocab=["x", "y"]), [[0, 1], [1, 1], [1, 0]])
    assert data.train[0][1].tolist() == [1.0, 0.0]
    with pytest.raises(ArgumentError, match="needs to know what the positions stand for"):
        MultiCategoryBlock(encoded=True)
    with pytest.raises(LabelError, match="an item has 3 values for 2 classes"):
        datasets(MultiCategoryBlock(encoded=True, vocab=["x", "y"]), [[0, 1, 1], [1, 1], [1, 0]])


def test_numbers_are_counted():
    """One number is a scalar, several a vector."""
    one = datasets(RegressionBlock, [1, 2, 3.5])
    assert (one.train[0][1], one.task.n_out, one.task.kind) == (3.5, 1, "regression")
    assert isinstance(one.task.loss, MSELossFlat)
    two = datasets(RegressionBlock(), [(1, 2), (3, 4), (5, 6)])
    assert (two.train[0][1].tolist(), two.task.n_out) == ([5.0, 6.0], 2)
    with pytest.raises(LabelError, match="an item has 1 numbers, where 2 were expected"):
        datasets(RegressionBlock(), [(1,), (3, 4), (5, 6)])
    with pytest.raises(LabelError, match="the target nan is no finite number"):
        datasets(RegressionBlock, [float("nan"), 1.0, 2.0])
    with pytest.raises(LabelError, match="the target 'dog' is no number"):
        datasets(RegressionBlock, ["cat", "cat", "dog"])


def test_a_block_may_be_used_twice():
    """Fitting one source leaves nothing behind in the block."""
    block = CategoryBlock()
    assert datasets(block, ["a", "b", "a", "b"]).vocab == ("a", "b")
    assert datasets(block, ["x", "y", "x", "y"]).vocab == ("x", "y")


def test_blocks_and_getters_must_fit():
    """Numbers that differ, things that are no blocks, names that nobody knows."""
    with pytest.raises(ArgumentError, match="get_y has 2 functions for 1 blocks"):
        DataBlock((TransformBlock, CategoryBlock), get_y=[str, str])
    with pytest.raises(ArgumentError, match="there are 1 getters for 2 blocks"):
        DataBlock((TransformBlock, CategoryBlock), getters=[None])
    with pytest.raises(ArgumentError, match="n_inp=3 for 2 blocks"):
        DataBlock((TransformBlock, CategoryBlock), n_inp=3)
    with pytest.raises(ArgumentError, match="7 is no block"):
        DataBlock((TransformBlock, 7))
    with pytest.raises(UnknownNameError, match="get_label") as caught:
        DataBlock((TransformBlock, CategoryBlock), get_labels=str)
    assert "get_items" in caught.value.do or "get_y" in caught.value.do
    with pytest.raises(UnknownNameError) as caught:
        CategoryBlock(vocabulary=["a"])
    assert caught.value.do == "write 'vocab'"


def test_a_table_is_read_row_by_row():
    """Both sides are parts of the table."""
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "y": ["a", "b", "a", "b"]})
    data = DataBlock(
        (TransformBlock, CategoryBlock),
        get_x=ColReader("x"),
        get_y=ColReader("y"),
        splitter=IndexSplitter([0, 3]),
    ).datasets(frame)
    assert [data.train[i] for i in range(2)] == [(2.0, 1), (3.0, 0)]
    assert data.valid[1] == (4.0, 1)
