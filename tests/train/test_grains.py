"""Grains: how a batch is cut, and how what the grains give is summed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from surefast.data.batch import Batch
from surefast.errors import ArgumentError, DeterminismError
from surefast.train.grains import Buffers, TreeSum, bounds, part, windows


@given(length=st.integers(1, 300), grains=st.integers(1, 40))
def test_bounds_cover_the_batch_once(length, grains):
    """Every sample is in exactly one grain, in order, and no grain is empty."""
    cuts = bounds(length, grains)
    assert [i for start, end in cuts for i in range(start, end)] == list(range(length))
    assert all(end > start for start, end in cuts)
    assert len(cuts) == min(length, grains)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=70))
def test_tree_sum_is_the_sum(values):
    """The tree adds every leaf once; only rounding differs from a plain sum."""
    tree = TreeSum()
    for value in values:
        tree.add([torch.tensor(value, dtype=torch.float64)])
    (total,) = tree.total()
    assert total.item() == pytest.approx(sum(values), rel=1e-9, abs=1e-6)


def test_tree_sum_does_not_depend_on_who_summed():
    """A subtree summed elsewhere gives the same bits, which a running sum does not."""
    leaves = [torch.randn(1000) for _ in range(8)]
    whole = TreeSum()
    for leaf in leaves:
        whole.add([leaf.clone()])
    halves = []
    for half in (leaves[:4], leaves[4:]):
        tree = TreeSum()
        for leaf in half:
            tree.add([leaf.clone()])
        halves.append(tree.total()[0])
    assert torch.equal(whole.total()[0], halves[0] + halves[1])
    running = sum(leaves[1:], leaves[0])
    assert not torch.equal(running, halves[0] + halves[1])


def test_tree_sum_takes_missing_gradients_as_zero():
    """A parameter that some grains did not use keeps the gradients of the others."""
    tree = TreeSum()
    for leaf in ([torch.ones(2), None], [None, None], [torch.ones(2), torch.ones(1)]):
        tree.add(leaf)
    first, second = tree.total()
    assert first.tolist() == [2, 2]
    assert second.tolist() == [1]


def test_windows_join_batches_and_keep_a_short_last_one():
    """Five batches in windows of two are three global batches; no sample is lost."""
    batches = [
        Batch((torch.full((3, 2), float(i)),), (torch.full((3,), i),), np.arange(3) + 3 * i, 0, i)
        for i in range(5)
    ]
    joined = list(windows(batches, 2))
    assert [len(b) for b in joined] == [6, 6, 3]
    assert np.concatenate([b.ids for b in joined]).tolist() == list(range(15))
    assert joined[1].x[0][:, 0].tolist() == [2, 2, 2, 3, 3, 3]


def test_part_refuses_what_cannot_be_cut():
    """A batch part that is no tensor over samples is named, with the way out."""
    with pytest.raises(ArgumentError, match=r"holds a tensor of shape \(2, 2\).*\n.*grains=1"):
        part((torch.zeros(2, 2),), 0, 1, 4)


def test_buffers_come_back_after_a_failed_step():
    """Running statistics and counters are those from before the step."""
    model = nn.BatchNorm1d(3)
    buffers = Buffers(model)
    buffers.save()
    before = {k: v.clone() for k, v in model.named_buffers()}
    model(torch.randn(8, 3))
    assert any(not torch.equal(v, before[k]) for k, v in model.named_buffers())
    buffers.restore()
    assert all(torch.equal(v, before[k]) for k, v in model.named_buffers())


def test_integer_buffers_that_disagree_have_no_rule():
    """A counter of samples differs from grain to grain, and the error names it."""
    model = nn.Module()
    model.register_buffer("seen", torch.zeros((), dtype=torch.int64))
    buffers = Buffers(model)
    buffers.save()
    leaves = []
    for count in (3, 4):
        buffers.restore()
        model.seen += count
        leaves.append(buffers.leaf(count)[1])
    with pytest.raises(DeterminismError, match=r"'seen' counts differently"):
        buffers.combine([], 7, leaves)
