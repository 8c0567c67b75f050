"""From the curve of a learning-rate range test to a suggestion, and its picture.

The four ways are fastai's (``valley``, ``slide``, ``minimum``, ``steep``), on the same part of the curve:
the first tenth and the last five steps are left out, and all from the first NaN on. A curve that never
falls gives an error, not a number.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

import numpy as np
import numpy.typing as npt

from surefast.errors import ArgumentError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array: TypeAlias = npt.NDArray[np.float64]

Suggester: TypeAlias = Callable[[Any, Any, int], tuple[float, tuple[float, float]]]
"""``(lrs, losses, num_it) -> (suggestion, (lr, loss))``: the pair is the point to mark on the curve."""

_MIN_POINTS: Final = 6
_SKIP_END: Final = 5


@final
@dataclass(frozen=True)
class Suggestions:
    """Suggested learning rates, in the order they were asked for, with the curve they come from.

    It unpacks as fastai's does: ``low, steepest = learn.lr_find(suggest_funcs=(minimum, steep))``.
    """

    suggested: Mapping[str, float]
    """Name of the way to the learning rate."""

    points: Mapping[str, tuple[float, float]]
    """Name of the way to the point (learning rate, loss) that it marks."""

    lrs: Sequence[float]
    """Learning rates that were tried."""

    losses: Sequence[float]
    """Smoothed loss after each."""

    figure: Figure | None = None
    """The picture, where it was asked for."""

    def __iter__(self) -> Iterator[float]:
        return iter(self.suggested.values())

    def __len__(self) -> int:
        return len(self.suggested)

    def __getitem__(self, index: int) -> float:
        return list(self.suggested.values())[index]

    @property
    def valley(self) -> float:
        """What ``valley`` suggests."""
        return self._of("valley")

    @property
    def slide(self) -> float:
        """What ``slide`` suggests."""
        return self._of("slide")

    @property
    def minimum(self) -> float:
        """What ``minimum`` suggests."""
        return self._of("minimum")

    @property
    def steep(self) -> float:
        """What ``steep`` suggests."""
        return self._of("steep")

    def _of(self, name: str) -> float:
        if name not in self.suggested:
            raise ArgumentError(
                f"{name} was not asked for, only {', '.join(self.suggested)}",
                do=f"pass suggest_funcs=({name},) to lr_find",
            )
        return self.suggested[name]

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={lr:.2e}" for name, lr in self.suggested.items())
        return f"Suggestions({inner})"


def valley(lrs: Sequence[float], losses: Sequence[float], num_it: int) -> tuple[float, tuple[float, float]]:
    """Two thirds into the longest fall of the loss (the longest decreasing subsequence).

    Args:
        lrs: learning rates that were tried.
        losses: smoothed losses.
        num_it: steps of the test; not used.
    """
    n = len(losses)
    lengths = [1] * n
    start = end = 0
    for i in range(1, n):
        for j in range(i):
            if losses[i] < losses[j] and lengths[i] < lengths[j] + 1:
                lengths[i] = lengths[j] + 1
            if lengths[end] < lengths[i]:
                end = i
                start = end - lengths[end]
    third = (end - start) / 3
    index = start + int(third) + int(third / 2)
    return float(lrs[index]), (float(lrs[index]), float(losses[index]))


def slide(
    lrs: Sequence[float],
    losses: Sequence[float],
    num_it: int,
    *,
    lr_diff: int = 15,
    thresh: float = 0.005,
    adjust_value: float = 1.0,
) -> tuple[float, tuple[float, float]]:
    """Where two points of the slope, ``lr_diff`` steps apart, become alike, coming from the end.

    Args:
        lrs: learning rates that were tried.
        losses: smoothed losses.
        num_it: steps of the test; not used.
        lr_diff: steps between the two points.
        thresh: what counts as alike.
        adjust_value: what the suggestion is multiplied by.
    """
    values = np.asarray(losses, dtype=np.float64)
    if len(values) <= lr_diff:
        raise ArgumentError(
            f"slide needs more than lr_diff={lr_diff} points of the curve, and there are {len(values)}",
            do="raise num_it, or pass partial(slide, lr_diff=5)",
        )
    slope = np.gradient(values)
    right, left = -1, -1 - lr_diff
    found = lrs[left]
    while left >= -len(values) and abs(slope[right] - slope[left]) > thresh:
        found = lrs[left]
        right, left = right - 1, left - 1
    suggestion = float(found) * adjust_value
    loss = np.interp(np.log10(suggestion), np.log10(np.asarray(lrs, dtype=np.float64)), values)
    return suggestion, (suggestion, float(loss))


def minimum(lrs: Sequence[float], losses: Sequence[float], num_it: int) -> tuple[float, tuple[float, float]]:
    """A tenth of the learning rate with the smallest loss.

    Args:
        lrs: learning rates that were tried.
        losses: smoothed losses.
        num_it: steps of the test; not used.
    """
    index = int(np.argmin(np.asarray(losses)))
    return float(lrs[index]) / 10, (float(lrs[index]), float(losses[index]))


def steep(lrs: Sequence[float], losses: Sequence[float], num_it: int) -> tuple[float, tuple[float, float]]:
    """Where the loss falls fastest over the logarithm of the learning rate.

    Args:
        lrs: learning rates that were tried.
        losses: smoothed losses.
        num_it: steps of the test; not used.
    """
    slope = np.diff(np.asarray(losses, dtype=np.float64)) / np.diff(np.log(np.asarray(lrs, dtype=np.float64)))
    index = int(np.argmin(slope))
    return float(lrs[index]), (float(lrs[index]), float(losses[index]))


def suggest(
    lrs: Sequence[float],
    losses: Sequence[float],
    suggest_funcs: Suggester | Sequence[Suggester] = valley,
    *,
    num_it: int | None = None,
    show_plot: bool = True,
) -> Suggestions:
    """Suggest learning rates from a range test.

    Args:
        lrs: learning rates that were tried, rising.
        losses: smoothed loss after each.
        suggest_funcs: one or several of ``valley``, ``slide``, ``minimum``, ``steep``, or your own.
        num_it: steps that were planned, where the test stopped early; a tenth of them is left out.
        show_plot: whether the picture is drawn.

    Raises:
        ArgumentError: when too little of the curve is left, or the loss never fell.
    """
    funcs = [suggest_funcs] if callable(suggest_funcs) else list(suggest_funcs)
    num_it = len(lrs) if num_it is None else num_it
    kept_lrs, kept = _usable(np.asarray(lrs, np.float64), np.asarray(losses, np.float64), num_it)
    found = {_name(func): func(kept_lrs, kept, num_it) for func in funcs}
    suggested = {name: lr for name, (lr, _) in found.items()}
    points = {name: point for name, (_, point) in found.items()}
    figure = plot_lr_find(lrs, losses, points, suggested=suggested) if show_plot else None
    return Suggestions(suggested, points, list(lrs), list(losses), figure)


def _usable(lrs: Array, losses: Array, num_it: int) -> tuple[Array, Array]:
    part = slice(num_it // 10, -_SKIP_END)
    lrs, losses = lrs[part], losses[part]
    broken = np.flatnonzero(~np.isfinite(losses))
    if len(broken):
        lrs, losses = lrs[: broken[0]], losses[: broken[0]]
    if len(losses) < _MIN_POINTS:
        raise ArgumentError(
            f"the range test left {len(losses)} usable points, and {_MIN_POINTS} are needed",
            do="lower start_lr or raise num_it; a loss that is NaN from the start points at data or model",
            found=f"{num_it} steps planned, the first {num_it // 10} and the last {_SKIP_END} left out",
        )
    if not losses.min() < losses[0]:
        raise ArgumentError(
            "the loss never fell in the range test, so no learning rate can be suggested",
            do="lower start_lr, raise num_it, and check that the model can learn from its targets",
            found=f"loss {losses[0]:.4g} at lr {lrs[0]:.1e}, {losses[-1]:.4g} at lr {lrs[-1]:.1e}",
        )
    return lrs, losses


def _name(func: Suggester) -> str:
    base = func.func if isinstance(func, functools.partial) else func
    return str(getattr(base, "__name__", type(base).__name__))


def plot_lr_find(
    lrs: Sequence[float],
    losses: Sequence[float],
    points: Mapping[str, tuple[float, float]] | None = None,
    skip_end: int = _SKIP_END,
    suggested: Mapping[str, float] | None = None,
) -> Figure:
    """The curve of a range test with the suggestions marked; a figure, nothing is shown.

    Args:
        lrs: learning rates that were tried.
        losses: smoothed loss after each.
        points: name to (learning rate, loss).
        skip_end: last steps to leave out, where the loss explodes.
        suggested: name to the rate that is suggested, where it is not that of the point.

    Raises:
        MissingExtraError: without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "pictures need matplotlib", do="pip install 'surefast[report]', or pass show_plot=False"
        ) from error
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes: Axes = figure.subplots()
    end = len(lrs) - skip_end if len(lrs) > skip_end else len(lrs)
    axes.plot(lrs[:end], losses[:end])
    axes.set(xlabel="learning rate", ylabel="loss (smoothed)", xscale="log")
    for number, (name, (lr, loss)) in enumerate((points or {}).items()):
        rate = (suggested or {}).get(name, lr)
        axes.plot([lr], [loss], "o", color=f"C{number + 1}", label=f"{name}: {rate:.1e}")
    if points:
        axes.legend(loc="best")
    return figure
