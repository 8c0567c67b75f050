"""All splitters: each item on one side, the same each time, global generators untouched."""

from __future__ import annotations

import inspect
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from surefast.data import split
from tests.contract.families import own

PATHS = [Path(f"{'valid' if i % 4 == 0 else 'train'}/{'ab'[i % 2]}/{i:03}.png") for i in range(40)]
TABLE = pd.DataFrame({"name": [str(p) for p in PATHS], "is_valid": [i % 5 == 0 for i in range(40)]})

MADE = {
    "RandomSplitter": (split.RandomSplitter(), PATHS),
    "GrandparentSplitter": (split.GrandparentSplitter(), PATHS),
    "FuncSplitter": (split.FuncSplitter(lambda p: p.stem.endswith("7")), PATHS),
    "IndexSplitter": (split.IndexSplitter([1, 5, 7]), PATHS),
    "ColSplitter": (split.ColSplitter(), TABLE),
    "TrainTestSplitter": (split.TrainTestSplitter(stratify=[p.parent.name for p in PATHS]), PATHS),
    "EndSplitter": (split.EndSplitter(), PATHS),
    "MaskSplitter": (split.MaskSplitter([i % 3 == 0 for i in range(40)]), PATHS),
    "GroupSplitter": (split.GroupSplitter(lambda p: int(p.stem) // 4), PATHS),
    "TimeSplitter": (split.TimeSplitter(lambda p: int(p.stem)), PATHS),
    "KFoldSplitter": (split.KFoldSplitter(5, fold=2), PATHS),
}


def test_every_splitter_is_here():
    """A new splitter must be put through the same checks."""
    names = {name for name, thing in own(split) if name.endswith("Splitter") and inspect.isfunction(thing)}
    assert names <= set(MADE), names - set(MADE)


@pytest.mark.parametrize("name", MADE)
def test_a_splitter_keeps_the_contract(name):
    """Disjoint sides that are not empty, in range, equal at the second call, no global draw."""
    splitter, items = MADE[name]
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    train, valid = (list(map(int, side)) for side in splitter(items))
    assert train
    assert valid
    assert set(train).isdisjoint(valid)
    assert set(train) | set(valid) <= set(range(len(items)))
    assert len(set(train)) == len(train)
    assert ([int(i) for i in splitter(items)[0]], [int(i) for i in splitter(items)[1]]) == (train, valid)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
