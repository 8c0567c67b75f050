"""Schedules: pure functions of progress in [0, 1], and the curves of the fits.

``SchedCos(0, 2)(0.5)`` is 1. A start or end may be a numpy array, one value for each parameter group.
fastai's curves (``fastai.callback.schedule``); this file knows no optimizer.
"""

from __future__ import annotations

import abc
import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, final

import numpy as np

from surefast.errors import ArgumentError
from surefast.recipe.call import declared

Curve: TypeAlias = Callable[[float], Any]
"""Progress in [0, 1] to a value: a float, or an array with one value for each parameter group."""

Level: TypeAlias = Any
"""A float or an array of floats."""


class Sched(abc.ABC):
    """From ``start`` to ``end`` while progress goes from 0 to 1."""

    def __init__(self, start: Level, end: Level) -> None:
        self.start = _level(start)
        self.end = _level(end)

    @abc.abstractmethod
    def __call__(self, pos: float) -> Any:
        """The value at ``pos`` in [0, 1]."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.start!r}, {self.end!r})"


def _level(value: Level) -> Level:
    return np.asarray(value, dtype=np.float64) if isinstance(value, (list, tuple)) else value


@declared()
@final
class SchedLin(Sched):
    """A straight line from ``start`` to ``end``."""

    def __init__(self, start: Level, end: Level) -> None:
        super().__init__(start, end)

    def __call__(self, pos: float) -> Any:
        """The value at ``pos``."""
        return self.start + pos * (self.end - self.start)


@declared()
@final
class SchedCos(Sched):
    """Half a cosine wave from ``start`` to ``end``.

    >>> round(SchedCos(0, 2)(0.25), 5)
    0.29289
    """

    def __init__(self, start: Level, end: Level) -> None:
        super().__init__(start, end)

    def __call__(self, pos: float) -> Any:
        """The value at ``pos``."""
        return self.start + (1 + math.cos(math.pi * (1 - pos))) * (self.end - self.start) / 2


@declared()
@final
class SchedNo(Sched):
    """``start`` all the way."""

    def __init__(self, start: Level, end: Level) -> None:
        super().__init__(start, end)

    def __call__(self, pos: float) -> Any:
        """The value at ``pos``."""
        return self.start


@declared()
@final
class SchedExp(Sched):
    """Multiplied by the same factor in equal distances, from ``start`` to ``end``."""

    def __init__(self, start: Level, end: Level) -> None:
        super().__init__(start, end)

    def __call__(self, pos: float) -> Any:
        """The value at ``pos``."""
        return self.start * (self.end / self.start) ** pos


@declared()
@final
class SchedPoly(Sched):
    """From ``start`` to ``end`` as ``pos ** power``."""

    def __init__(self, start: Level, end: Level, power: float) -> None:
        super().__init__(start, end)
        self.power = power

    def __call__(self, pos: float) -> Any:
        """The value at ``pos``."""
        return self.start + (self.end - self.start) * pos**self.power


@final
class Combined:
    """Schedules one after the other; see ``combine_scheds``."""

    def __init__(self, pcts: Sequence[float], scheds: Sequence[Curve]) -> None:
        pieces = [(pct, sched) for pct, sched in zip(pcts, scheds, strict=True) if pct > 0]
        self.widths = [pct for pct, _ in pieces]
        self.scheds = [sched for _, sched in pieces]
        self.starts = [0.0, *itertools.accumulate(self.widths[:-1])]

    def __call__(self, pos: float) -> Any:
        """The value at ``pos``."""
        piece = bisect.bisect_right(self.starts, pos) - 1
        return self.scheds[piece]((pos - self.starts[piece]) / self.widths[piece])

    def __repr__(self) -> str:
        return f"combine_scheds({self.widths}, {self.scheds})"


@declared()
def combine_scheds(pcts: Sequence[float], scheds: Sequence[Curve]) -> Combined:
    """Schedules one after the other, each over its share of the way.

    Args:
        pcts: the shares, which sum to 1.
        scheds: as many schedules.

    Raises:
        ArgumentError: when the shares do not sum to 1, or are not as many as the schedules.
    """
    if len(pcts) != len(scheds) or min(pcts, default=-1) < 0 or not math.isclose(sum(pcts), 1, rel_tol=1e-9):
        raise ArgumentError(
            f"combine_scheds needs one share of 0 or more for each schedule, with the sum 1: "
            f"got {list(pcts)} for {len(scheds)} schedules",
            do="pass for example combine_scheds([0.3, 0.7], [SchedLin(0, 1), SchedCos(1, 0)])",
        )
    return Combined(pcts, scheds)


@declared()
def combined_cos(pct: float, start: Level, middle: Level, end: Level) -> Combined:
    """Half a cosine wave from ``start`` to ``middle`` over the share ``pct``, then one to ``end``.

    >>> round(combined_cos(0.25, 0.5, 1, 0)(0.1), 5)
    0.67275
    """
    if not 0 <= pct <= 1:
        raise ArgumentError(f"pct={pct} is no share of the way", do="pass a number from 0 to 1")
    return Combined([pct, 1 - pct], [SchedCos(start, middle), SchedCos(middle, end)])


@declared()
def one_cycle(
    lr_max: float | Sequence[float],
    div: float = 25.0,
    div_final: float = 1e5,
    pct_start: float = 0.25,
    moms: Sequence[float] | None = (0.95, 0.85, 0.95),
) -> dict[str, Curve]:
    """Up from ``lr_max / div`` and down to ``lr_max / div_final``, momentum the other way.

    Smith and Topin: Super-Convergence, arXiv 1708.07120, with cosines.

    Args:
        lr_max: learning rate at the top, or one for each parameter group.
        div: what the first rate is smaller by.
        div_final: what the last rate is smaller by.
        pct_start: share of the way up.
        moms: momentum at start, top and end; None leaves it alone.
    """
    lr = _rates(lr_max)
    _check_above_zero(div=div, div_final=div_final)
    _check_pct_start(pct_start)
    curves: dict[str, Curve] = {"lr": combined_cos(pct_start, lr / div, lr, lr / div_final)}
    if moms is not None:
        if len(moms) != 3 or not all(0 <= mom < 1 for mom in moms):
            raise ArgumentError(
                f"moms={moms!r} must be three momenta from 0 to below 1: at start, top and end",
                do="pass for example moms=(0.95, 0.85, 0.95), or None to leave momentum alone",
            )
        curves["mom"] = combined_cos(pct_start, *moms)
    return curves


@declared()
def flat_cos(
    lr: float | Sequence[float], div_final: float = 1e5, pct_start: float = 0.75
) -> dict[str, Curve]:
    """Flat for ``pct_start`` of the way, then down a cosine to ``lr / div_final``.

    Args:
        lr: the flat learning rate, or one for each parameter group.
        div_final: what the last rate is smaller by.
        pct_start: share of the way that is flat.
    """
    rates = _rates(lr)
    _check_above_zero(div_final=div_final)
    _check_pct_start(pct_start)
    return {"lr": combined_cos(pct_start, rates, rates, rates / div_final)}


@declared()
def sgdr(
    n_cycles: int, cycle_len: int, lr_max: float | Sequence[float], cycle_mult: int = 2
) -> tuple[int, dict[str, Curve]]:
    """Cosines from ``lr_max`` to 0, each cycle ``cycle_mult`` times as long as the one before.

    Loshchilov and Hutter: SGDR, arXiv 1608.03983.

    Args:
        n_cycles: number of cycles.
        cycle_len: epochs of the first one.
        lr_max: learning rate at the start of each cycle, or one for each parameter group.
        cycle_mult: growth of the cycles.

    Returns:
        The number of epochs of all cycles, and the curves.
    """
    if min(n_cycles, cycle_len, cycle_mult) < 1:
        raise ArgumentError(
            f"n_cycles={n_cycles}, cycle_len={cycle_len}, cycle_mult={cycle_mult}: each must be 1 or more",
            do="pass for example sgdr(3, 1, lr_max, cycle_mult=2), which takes 7 epochs",
        )
    epochs = [cycle_len * cycle_mult**i for i in range(n_cycles)]
    n_epoch = sum(epochs)
    rates = _rates(lr_max)
    scheds = [SchedCos(rates, rates * 0) for _ in epochs]
    return n_epoch, {"lr": Combined([n / n_epoch for n in epochs], scheds)}


def _rates(lr: float | Sequence[float]) -> Level:
    """One float where all groups have the same rate, which is faster; else an array."""
    if isinstance(lr, (int, float)):
        return float(lr)
    rates = np.asarray(lr, dtype=np.float64)
    return float(rates[0]) if (rates == rates[0]).all() else rates


def _check_above_zero(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ArgumentError(f"{name}={value} cannot divide a learning rate", do="pass a number above 0")


def _check_pct_start(pct_start: float) -> None:
    if not 0 <= pct_start <= 1:
        raise ArgumentError(
            f"pct_start={pct_start} is no share of the way", do="pass a number from 0 to 1, such as 0.25"
        )
