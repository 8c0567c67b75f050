"""Suggestions follow fastai's rules, and a curve without a fall gives an error."""

from __future__ import annotations

import functools
import sys

import numpy as np
import pytest

from surefast.errors import ArgumentError, MissingExtraError
from surefast.train.lr_suggest import Suggestions, minimum, plot_lr_find, slide, steep, suggest, valley

LRS = np.geomspace(1e-7, 10, 100)


def bowl(lowest=70):
    """Flat, then a fall to step ``lowest``, then an explosion."""
    steps = np.arange(100)
    return np.where(steps < lowest, 3 - 2 / (1 + np.exp(-(steps - 50) / 5)), 1 + (steps - lowest) ** 2 / 50)


def test_valley_is_two_thirds_into_the_longest_fall():
    lr, point = valley([1, 2, 3, 4, 5, 6, 7], [9, 8, 7, 6, 5, 4, 9], 7)
    # The fall has 6 points and ends at index 5: it starts at -1, thirds are 2, index -1 + 2 + 1.
    assert (lr, point) == (3, (3, 7))


def test_valley_follows_a_noisy_fall():
    losses = [5, 6, 4, 5, 3, 4, 2, 3, 1, 9]
    # 6 (or 5), 4, 3, 2, 1: five points up to index 8; start 3, third 5 / 3, index 3 + 1 + 0.
    assert valley(range(10), losses, 10)[0] == 4


def test_minimum_is_a_tenth_of_the_lowest():
    assert minimum([1e-3, 1e-2, 1e-1], [3.0, 1.0, 2.0], 3) == (1e-3, (1e-2, 1.0))


def test_steep_is_where_the_loss_falls_fastest():
    assert steep([1e-3, 1e-2, 1e-1, 1.0], [3.0, 2.9, 1.0, 2.0], 4) == (1e-2, (1e-2, 2.9))


def test_slide_stops_where_slopes_are_alike():
    losses = np.concatenate([np.full(30, 2.0), 2 + np.arange(1, 21) ** 2 / 10])
    lr, (_, loss) = slide(np.geomspace(1e-5, 1, 50), losses, 50)
    # Slopes 15 steps apart differ by 3.0 at the end, and by less than .005 once both lie on the flat part:
    # the last pair that differs has its left point at index 14, where the right one is at 29.
    assert lr == pytest.approx(np.geomspace(1e-5, 1, 50)[14])
    assert loss == pytest.approx(2.0)


def test_suggest_leaves_out_both_ends_and_what_follows_a_nan():
    seen = {}

    def mine(lrs, losses, num_it):
        seen["lrs"], seen["num_it"] = lrs, num_it
        return 1.0, (1.0, 1.0)

    losses = bowl()
    losses[90] = np.nan
    found = suggest(LRS, losses, mine, show_plot=False)
    assert list(seen["lrs"]) == list(LRS[10:90])
    assert (seen["num_it"], found.suggested, found.figure) == (100, {"mine": 1.0}, None)
    suggest(LRS[:60], losses[:60], mine, num_it=100, show_plot=False)
    assert list(seen["lrs"]) == list(LRS[10:55])


def test_suggestions_are_sane_and_unpack():
    found = suggest(LRS, bowl(), (minimum, steep, valley, functools.partial(slide, adjust_value=0.5)))
    lowest, steepest, *_ = found
    assert lowest == found.minimum == found[0] == pytest.approx(LRS[70] / 10)
    assert steepest == found.steep
    assert LRS[45] < steepest < LRS[55]
    assert LRS[30] < found.valley < LRS[65]
    assert found.slide == found.suggested["slide"]
    assert len(found) == 4
    assert repr(suggest(LRS, bowl(), steep)).startswith("Suggestions(steep=")


def test_asking_for_another_way_says_how():
    with pytest.raises(
        ArgumentError, match=r"steep was not asked for, only valley(.|\n)*suggest_funcs=\(steep,\)"
    ):
        _ = suggest(LRS, bowl(), show_plot=False).steep


@pytest.mark.parametrize(
    ("lrs", "losses", "text"),
    [
        (LRS, np.linspace(1, 9, 100), r"never fell(.|\n)*lower start_lr(.|\n)*"),
        (LRS, np.ones(100), "never fell"),
        (LRS, np.full(100, np.nan), "left 0 usable points(.|\n)*NaN from the start"),
        (LRS[:11], bowl()[:11], "left 5 usable points, and 6 are needed"),
        (LRS[:0], bowl()[:0], "left 0 usable points"),
    ],
)
def test_a_curve_that_is_of_no_use(lrs, losses, text):
    with pytest.raises(ArgumentError, match=text):
        suggest(lrs, losses, show_plot=False, num_it=100 if len(lrs) == 100 else 10)


def test_slide_needs_enough_points():
    with pytest.raises(
        ArgumentError, match=r"lr_diff=15 points of the curve, and there are 10(.|\n)*lr_diff=5"
    ):
        slide(LRS[:10], bowl()[:10], 10)


def test_the_picture_holds_curve_and_marks():
    found = suggest(LRS, bowl(), (valley, minimum))
    assert isinstance(found, Suggestions)
    (axes,) = found.figure.axes
    assert len(axes.lines) == 3
    assert len(axes.lines[0].get_xdata()) == 95
    assert axes.get_xscale() == "log"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [f"valley: {found.valley:.1e}", f"minimum: {found.minimum:.1e}"]
    assert plot_lr_find(LRS, bowl()).axes[0].get_legend() is None


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"surefast\[report\]"):
        plot_lr_find(LRS, bowl())
