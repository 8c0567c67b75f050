"""Splitters: sizes, sides, seeds, and what they refuse."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from surefast.data.split import (
    ColSplitter,
    EndSplitter,
    FuncSplitter,
    GrandparentSplitter,
    GroupSplitter,
    IndexSplitter,
    KFoldSplitter,
    MaskSplitter,
    RandomSplitter,
    TimeSplitter,
    TrainTestSplitter,
    checked_split,
)
from surefast.errors import ArgumentError, EmptyDataError, LabelError, LeakError
from surefast.recipe.call import call_of

ITEMS = list(range(100))
LABELS = ["a"] * 70 + ["b"] * 20 + ["c"] * 10

ALL = [
    RandomSplitter(),
    TrainTestSplitter(0.2, stratify=LABELS),
    TrainTestSplitter(25),
    IndexSplitter([1, 2, 99]),
    EndSplitter(),
    FuncSplitter(lambda i: i % 3 == 0),
    MaskSplitter([i > 90 for i in ITEMS]),
    GroupSplitter(lambda i: i // 7),
    TimeSplitter(lambda i: -i),
    KFoldSplitter(5, 2),
    KFoldSplitter(5, 2, stratify=LABELS),
]


@pytest.mark.parametrize("splitter", ALL, ids=lambda s: type(s).__name__)
def test_every_splitter_covers_all_items_once_and_repeats(splitter):
    """Both sides together are the items, and a second call gives the same."""
    train, valid = checked_split(splitter, ITEMS)
    assert sorted(train + valid) == ITEMS
    assert splitter(ITEMS) == splitter(ITEMS)


@pytest.mark.parametrize("splitter", ALL, ids=lambda s: type(s).__name__)
def test_no_splitter_touches_or_needs_a_global_generator(splitter):
    """The state of torch's and numpy's generators is the same before and after."""
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = splitter(ITEMS)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    torch.rand(3)
    assert splitter(ITEMS) == first


def test_random_splitter_draws_its_share_by_its_seed():
    """None is the default seed, and the record says so."""
    train, valid = RandomSplitter(0.3, seed=1)(ITEMS)
    assert (len(train), len(valid)) == (70, 30)
    assert RandomSplitter(0.3, seed=2)(ITEMS) != (train, valid)
    without = RandomSplitter(seed=None)
    assert without(ITEMS) == RandomSplitter()(ITEMS)
    record = call_of(without)
    assert record is not None
    assert (record.values["seed"].value, record.values["seed"].origin) == (42, "inferred")


def test_stratified_sets_have_each_label_in_its_share():
    """The counts are those of scikit-learn's stratified split."""
    train, valid = TrainTestSplitter(0.2, stratify=LABELS)(ITEMS)
    assert Counter(LABELS[i] for i in valid) == {"a": 14, "b": 4, "c": 2}
    assert len(train) == 80
    fold = KFoldSplitter(5, 0, stratify=lambda i: LABELS[i])(ITEMS)[1]
    assert Counter(LABELS[i] for i in fold) == {"a": 14, "b": 4, "c": 2}


def test_a_label_with_one_item_cannot_be_stratified():
    """It is named, with its position."""
    with pytest.raises(LabelError, match="'z' has a single item, at position 2"):
        TrainTestSplitter(0.5, stratify=["x", "x", "z", "x"])(range(4))


def test_folds_hold_every_item_once():
    """The validation sets of all folds together are the items."""
    folds = [KFoldSplitter(3, k, seed=5)(ITEMS)[1] for k in range(3)]
    assert sorted(i for fold in folds for i in fold) == ITEMS
    with pytest.raises(ArgumentError, match="fold 3 of 3 does not exist"):
        KFoldSplitter(3, 3)


def test_groups_stay_together():
    """No group is on both sides, and the share is reached with whole groups."""
    group = [i // 7 for i in ITEMS]
    train, valid = GroupSplitter(group, 0.25, seed=3)(ITEMS)
    assert not {group[i] for i in train} & {group[i] for i in valid}
    assert 25 <= len(valid) < 32
    with pytest.raises(EmptyDataError, match="all 100 items are in 1 group"):
        GroupSplitter(lambda _: 0)(ITEMS)


def test_time_goes_forward_and_a_moment_is_not_cut():
    """Everything in validation is newer than all of training."""
    times = [i // 10 for i in ITEMS][::-1]
    train, valid = TimeSplitter(times, 0.25)(ITEMS)
    assert max(times[i] for i in train) < min(times[i] for i in valid)
    assert len(valid) == 20
    with pytest.raises(LabelError, match="1 items have no time, the first at position 1"):
        TimeSplitter([1.0, float("nan")])(range(2))


def test_end_index_mask_and_function():
    """The plain ones, with their limits."""
    assert EndSplitter(0.25, valid_last=False)(range(4)) == ([1, 2, 3], [0])
    assert EndSplitter(0.25)(range(4)) == ([0, 1, 2], [3])
    assert IndexSplitter([-1])(range(3)) == ([0, 1], [2])
    assert FuncSplitter(lambda i: i > 1)(range(4)) == ([0, 1], [2, 3])
    with pytest.raises(ArgumentError, match="position 7 is outside the 3 items"):
        IndexSplitter([7])(range(3))
    with pytest.raises(ArgumentError, match="the mask has 2 values for 3 items"):
        MaskSplitter([True, False])(range(3))


def test_folders_above_decide():
    """Folders that are neither are left out; a name that no folder has is an error with those there are."""
    items = [Path(f"data/{top}/cat/{i}.jpg") for i in range(2) for top in ("train", "valid", "test")]
    assert GrandparentSplitter()(items) == ([0, 3], [1, 4])
    assert GrandparentSplitter(("train", "test"))(items) == ([0, 2, 3, 5], [1, 4])
    with pytest.raises(EmptyDataError, match="no item lies two folders under 'val'") as caught:
        GrandparentSplitter(valid_name="val")(items)
    assert "test, train, valid" in caught.value.do


def test_a_column_of_a_table_decides():
    """Truth in its usual spellings, or the values asked for."""
    frame = pd.DataFrame({"name": list("abcd"), "is_valid": [True, False, False, True], "part": [0, 1, 2, 1]})
    assert ColSplitter()(frame) == ([1, 2], [0, 3])
    assert ColSplitter("part", on=[1, 2])(frame) == ([0], [1, 2, 3])
    assert ColSplitter(1)(frame) == ([1, 2], [0, 3])
    with pytest.raises(LabelError, match="holds 2, which is neither true nor false"):
        ColSplitter("part")(frame)
    with pytest.raises(LabelError, match="no column 'is_vald'") as caught:
        ColSplitter("is_vald")(frame)
    assert "'is_valid'" in caught.value.do
    assert GroupSplitter("part", 0.25, seed=0)(frame)[1] in ([0], [1, 3], [2])


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5])
def test_a_share_is_between_0_and_1(value):
    """Others are refused where they are written."""
    with pytest.raises(ArgumentError, match=f"valid_pct={value} is no share"):
        RandomSplitter(value)


def test_a_users_splitter_is_checked():
    """Empty sides, overlap, positions outside and a wrong number of sets."""
    with pytest.raises(EmptyDataError, match="there are no items"):
        checked_split(RandomSplitter(), [])
    with pytest.raises(EmptyDataError, match="leaves the validation set empty: 3 of 3 items"):
        checked_split(RandomSplitter(0.2), [1, 2, 3])
    with pytest.raises(LeakError, match="puts 2 of 4 items into both"):
        checked_split(lambda items: ([0, 1, 2], [1, 2, 3]), list("abcd"))
    with pytest.raises(ArgumentError, match="outside the 2 items"):
        checked_split(lambda items: ([0], [2]), list("ab"))
    with pytest.raises(ArgumentError, match="gave 3 sets, not two"):
        checked_split(lambda items: ([0], [1], []), list("ab"))


def test_a_splitter_shows_its_seed():
    """Also one that was not chosen; functions by name, long lists cut."""
    assert repr(RandomSplitter(0.3)) == "RandomSplitter(valid_pct=0.3, seed=42)"
    assert repr(FuncSplitter(str.isupper)) == "FuncSplitter(func=isupper)"
    assert repr(IndexSplitter(list(range(99)))) == "IndexSplitter(valid_idx=[0, 1, 2, 3, 4, 5, ...])"
