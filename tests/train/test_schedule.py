"""Schedules give fastai's numbers, at once and for every group."""

from __future__ import annotations

import math

import numpy as np
import pytest

from surefast.errors import ArgumentError
from surefast.train.schedule import (
    SchedCos,
    SchedExp,
    SchedLin,
    SchedNo,
    SchedPoly,
    combine_scheds,
    combined_cos,
    flat_cos,
    one_cycle,
    sgdr,
)

QUARTERS = [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("sched", "values"),
    [
        (SchedLin(0, 2), [0.0, 0.5, 1.0, 1.5, 2.0]),
        (SchedCos(0, 2), [0.0, 0.29289, 1.0, 1.70711, 2.0]),
        (SchedNo(0, 2), [0.0, 0.0, 0.0, 0.0, 0.0]),
        (SchedExp(1, 2), [1.0, 1.18921, 1.41421, 1.68179, 2.0]),
        (SchedPoly(0, 2, 2), [0.0, 0.125, 0.5, 1.125, 2.0]),
    ],
    ids=repr,
)
def test_values_at_the_quarters(sched, values):
    assert [sched(pos) for pos in QUARTERS] == pytest.approx(values, abs=5e-6)


def test_combined_schedules():
    sched = combine_scheds([0.3, 0.2, 0.5], [SchedLin(0.0, 1.0), SchedNo(1.0, 1.0), SchedCos(1.0, 0.0)])
    found = [sched(pos) for pos in (0, 0.15, 0.3, 0.4, 0.5, 0.7, 1.0)]
    assert found == pytest.approx([0.0, 0.5, 1.0, 1.0, 1.0, 0.65451, 0.0], abs=5e-6)


def test_combined_cos_also_for_vectors():
    places, expected = (0.0, 0.1, 0.25, 0.5, 1.0), np.array([0.5, 0.67275, 1.0, 0.75, 0.0])
    sched = combined_cos(0.25, 0.5, 1.0, 0.0)
    assert [sched(pos) for pos in places] == pytest.approx(expected, abs=5e-6)
    two = combined_cos(0.25, np.array([0.25, 0.5]), np.array([0.5, 1.0]), np.array([0.0, 0.0]))
    found = np.stack([two(pos) for pos in places])
    assert found == pytest.approx(np.stack([expected / 2, expected], axis=1), abs=5e-6)
    assert combined_cos(0.25, [0.25, 0.5], [0.5, 1.0], [0.0, 0.0])(0.1) == pytest.approx(found[1])


def test_empty_pieces_are_left_out():
    assert combined_cos(0.0, 5.0, 1.0, 0.0)(0.0) == 1.0
    assert combined_cos(1.0, 0.0, 1.0, 9.0)(1.0) == 1.0


def test_one_cycle_equals_combined_cos_for_scalars_and_groups():
    curves = one_cycle(1e-2)
    two = one_cycle([1e-3, 1e-2])
    for i in range(21):
        pos = i / 20
        lr = combined_cos(0.25, 1e-2 / 25, 1e-2, 1e-2 / 1e5)(pos)
        assert curves["lr"](pos) == lr
        assert list(two["lr"](pos)) == pytest.approx([lr / 10, lr], rel=1e-12)
        assert curves["mom"](pos) == combined_cos(0.25, 0.95, 0.85, 0.95)(pos)


def test_one_cycle_without_momentum():
    assert list(one_cycle(1e-2, moms=None)) == ["lr"]


def test_equal_groups_are_one_number():
    assert isinstance(one_cycle([1e-3, 1e-3])["lr"](0.5), float)


def test_flat_cos():
    curve = flat_cos(1e-2)["lr"]
    assert [curve(0.0), curve(0.75), curve(1.0)] == pytest.approx([1e-2, 1e-2, 1e-7])
    assert curve(0.875) == pytest.approx((1e-2 + 1e-7) / 2)


def test_sgdr_counts_epochs_and_is_piecewise_cosine():
    n_epoch, curves = sgdr(3, 1, 1e-2, 2)
    assert n_epoch == 7
    cos = SchedCos(1e-2, 0)
    expected = [cos(0), cos(0), cos(0.5), cos(0), cos(0.25), cos(0.5), cos(0.75)]
    assert [curves["lr"](i / 7) for i in range(7)] == pytest.approx(expected)
    n_epoch, curves = sgdr(2, 3, [1e-3, 1e-2], 1)  # fastai divides by zero here
    assert n_epoch == 6
    assert list(curves["lr"](0.5)) == pytest.approx([1e-3, 1e-2])


def test_schedules_can_be_read():
    assert repr(SchedCos(0, 2)) == "SchedCos(0, 2)"
    assert (
        repr(combined_cos(0.25, 0, 1, 0)) == "combine_scheds([0.25, 0.75], [SchedCos(0, 1), SchedCos(1, 0)])"
    )


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: combine_scheds([0.5, 0.6], [SchedNo(1, 1), SchedNo(1, 1)]), r"sum 1: got \[0.5, 0.6\]"),
        (lambda: combine_scheds([1.0], []), "for 0 schedules"),
        (lambda: combine_scheds([], []), "for 0 schedules"),
        (lambda: combined_cos(1.5, 0, 1, 0), "pct=1.5 is no share"),
        (lambda: one_cycle(1e-2, div=0), "div=0 cannot divide"),
        (lambda: one_cycle(1e-2, pct_start=2), "pct_start=2 is no share"),
        (lambda: one_cycle(1e-2, moms=(0.9, 0.8)), r"moms=\(0.9, 0.8\) must be three"),
        (lambda: one_cycle(1e-2, moms=(0.9, 1.5, 0.9)), "from 0 to below 1"),
        (lambda: flat_cos(1e-2, div_final=math.nan), "div_final=nan"),
        (lambda: flat_cos(1e-2, pct_start=-1), "pct_start=-1"),
        (lambda: sgdr(0, 1, 1e-2), "n_cycles=0"),
    ],
)
def test_values_that_cannot_work(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()
