"""Actors that follow a number from epoch to epoch and act when it stops getting better.

Whether higher is better comes from the metric itself, never from its name. This file must know nothing of
the loop or the learner.
"""

from __future__ import annotations

import math
from typing import final

from surefast.callbacks.contract import Actor, RunState
from surefast.errors import ArgumentError, CallbackError, unknown_name
from surefast.recipe.call import declared


class _Watch:
    """Counts for how many epochs a number has not become better."""

    __slots__ = ("best", "direction", "min_delta", "monitor", "wait")

    def __init__(self, monitor: str, min_delta: float) -> None:
        self.monitor = monitor
        self.min_delta = min_delta
        self.direction = 0.0
        self.best = -math.inf
        self.wait = 0

    def begin(self, run: RunState, who: str) -> None:
        """Find the direction, before the first step."""
        directions = dict(run.directions)
        if self.monitor not in directions:
            raise unknown_name(self.monitor, directions, of=who, kind="number to monitor called")
        higher = directions[self.monitor]
        if higher is None:
            raise CallbackError(
                f"{who} monitors {self.monitor}, of which neither higher nor lower is better",
                do="monitor one of: " + ", ".join(n for n, h in directions.items() if h is not None),
                callback=who,
            )
        self.direction = 1.0 if higher else -1.0

    def waited(self, run: RunState, who: str) -> int:
        """Take the epoch's number; epochs since it was last better by more than ``min_delta``."""
        if self.monitor not in run.metrics:
            raise CallbackError(
                f"{who} monitors {self.monitor}, which this epoch did not measure",
                do="monitor one of: " + ", ".join(run.metrics),
                callback=who,
            )
        value = self.direction * run.metrics[self.monitor]
        if value > self.best + self.min_delta:  # never true for NaN
            self.best, self.wait = value, 0
        else:
            self.wait += 1
        return self.wait

    def reset(self) -> None:
        self.best, self.wait = -math.inf, 0

    def state_dict(self) -> dict[str, object]:
        return {"best": self.best if self.wait or self.best > -math.inf else None, "wait": self.wait}

    def load_state_dict(self, state: dict[str, object]) -> None:
        best, wait = state["best"], state["wait"]
        assert isinstance(wait, int)
        self.best, self.wait = float(best) if isinstance(best, int | float) else -math.inf, wait


def _check_patience(patience: int, min_delta: float) -> None:
    if patience < 1:
        raise ArgumentError(f"patience={patience} would act on the first epoch", do="use 1 or more epochs")
    if min_delta < 0:
        raise ArgumentError(
            f"min_delta={min_delta} is negative",
            do="give the size of a change that counts; the metric knows which way is better",
        )


@final
@declared()
class EarlyStoppingCallback(Actor):
    """Ends the fit when a number has not become better for ``patience`` epochs.

    Reads ``metrics`` after each epoch and asks to stop; writes nothing. Costs nothing in a step.

    Args:
        monitor: ``train_loss``, ``valid_loss`` or the name of a metric.
        min_delta: how much better counts as better, in the metric's own unit.
        patience: epochs without a better number before it stops.
        reset_on_fit: forget the best number when another fit begins.
        name: tells several of these apart.

    Raises:
        UnknownNameError: at the start of the fit, when nothing of that name is measured.
    """

    def __init__(
        self,
        monitor: str = "valid_loss",
        *,
        min_delta: float = 0.0,
        patience: int = 1,
        reset_on_fit: bool = True,
        name: str | None = None,
    ) -> None:
        _check_patience(patience, min_delta)
        super().__init__(name=name)
        self.patience = patience
        self.reset_on_fit = reset_on_fit
        self._watch = _Watch(monitor, min_delta)

    def before_fit(self, run: RunState) -> None:
        """Find out which way is better, or say what is measured."""
        self._watch.begin(run, self.name)
        if self.reset_on_fit and run.epoch == 0:  # not when a fit is resumed in the middle
            self._watch.reset()

    def after_epoch(self, run: RunState) -> None:
        """Ask to stop once patience is over."""
        waited = self._watch.waited(run, self.name)
        if waited >= self.patience:
            best = self._watch.direction * self._watch.best
            run.stop(f"{self._watch.monitor} was not better than {best:.6g} for {waited} epochs")

    def state_dict(self) -> dict[str, object]:
        """The best number and how long ago it was."""
        return self._watch.state_dict()

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on from what ``state_dict`` gave."""
        self._watch.load_state_dict(state)


@final
@declared()
class ReduceLROnPlateau(Actor):
    """Divides the learning rates when a number has not become better for ``patience`` epochs.

    Writes ``lr`` before each batch: what the schedule has set is divided, so the two work together.

    Args:
        monitor: ``train_loss``, ``valid_loss`` or the name of a metric.
        min_delta: how much better counts as better, in the metric's own unit.
        patience: epochs without a better number before it divides.
        factor: by how much it divides each time.
        min_lr: no learning rate is divided below this.
        reset_on_fit: forget best number and division when another fit begins.
        name: tells several of these apart.

    Raises:
        UnknownNameError: at the start of the fit, when nothing of that name is measured.
    """

    writes = frozenset({"lr"})

    def __init__(
        self,
        monitor: str = "valid_loss",
        *,
        min_delta: float = 0.0,
        patience: int = 1,
        factor: float = 10.0,
        min_lr: float = 0.0,
        reset_on_fit: bool = True,
        name: str | None = None,
    ) -> None:
        _check_patience(patience, min_delta)
        if factor <= 1:
            raise ArgumentError(
                f"factor={factor} would not reduce the learning rate", do="it divides: use 10 for a tenth"
            )
        super().__init__(name=name)
        self.patience = patience
        self.factor = factor
        self.min_lr = min_lr
        self.reset_on_fit = reset_on_fit
        self._divisor = 1.0
        self._watch = _Watch(monitor, min_delta)
        self._set: tuple[list[float], list[float]] | None = None

    def before_fit(self, run: RunState) -> None:
        """Find out which way is better, or say what is measured."""
        self._watch.begin(run, self.name)
        self._set = None
        if self.reset_on_fit and run.epoch == 0:  # not when a fit is resumed in the middle
            self._watch.reset()
            self._divisor = 1.0

    def before_batch(self, run: RunState) -> None:
        """Divide what the schedule has set."""
        if self._divisor == 1.0:
            return
        base = list(run.lrs)
        if self._set is not None and self._set[1] == base:
            base = self._set[0]  # no schedule set them anew since: do not divide twice
        reduced = [max(lr / self._divisor, min(lr, self.min_lr)) for lr in base]
        self._set = base, reduced
        run.lr = reduced  # type: ignore[assignment]  # one number, or one for each group

    def after_epoch(self, run: RunState) -> None:
        """Divide further once patience is over."""
        if self._watch.waited(run, self.name) >= self.patience:
            self._divisor *= self.factor
            self._watch.wait = 0

    def state_dict(self) -> dict[str, object]:
        """The best number, how long ago it was, and the division so far."""
        return {**self._watch.state_dict(), "divisor": self._divisor}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on from what ``state_dict`` gave."""
        self._watch.load_state_dict(state)
        divisor = state["divisor"]
        assert isinstance(divisor, float)
        self._divisor = divisor
