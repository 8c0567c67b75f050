"""The observers of every fit: ``Recorder`` keeps the numbers, ``Progress`` shows them.

Both read only numbers that the step has read already: no tensor is touched, so a card never waits. This
file must know nothing of the loop or the learner.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol, TextIO, final

from surefast.callbacks.contract import Observer, RunView
from surefast.recipe.call import declared

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


class EventLines(Protocol):
    """Where lines go: the run's event log."""

    def append(self, kind: str, /, **fields: object) -> object:
        """Add one line."""


class Folder(Protocol):
    """What a recorder needs of a run folder."""

    @property
    def events(self) -> EventLines:
        """The event log."""

    def append_history(self, row: Mapping[str, object]) -> object:
        """Append the row of an epoch to ``history.csv``."""


@final
@declared()
class Recorder(Observer):
    """Keeps losses, learning rates, momenta of each step and a row for each epoch; writes them to the run.

    Grows over all fits of a run and is never emptied: not by validation, prediction or another fit.
    """

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.losses: list[float | None] = []
        self.grad_norms: list[float | None] = []
        self.lrs: list[list[float]] = []
        self.moms: list[list[float]] = []
        self.rows: list[dict[str, float]] = []
        """A row for each epoch of the run, by name: epoch, step, train_loss, valid_loss, metrics, seconds."""

        self._folder: Folder | None = None
        self._lines: EventLines | None = None

    def attach(self, folder: Folder) -> None:
        """Write to a run folder from now on: ``step`` and ``epoch`` lines and ``history.csv``."""
        self._folder, self._lines = folder, folder.events

    def after_batch(self, run: RunView) -> None:
        """Keep the numbers of a step and write its line; a batch that was skipped is no step."""
        if run.batch_skipped is not None:
            return
        step, loss, grad_norm, lrs = run.step, run.loss_value, run.grad_norm, run.lrs
        self.steps.append(step)
        self.losses.append(loss)
        self.grad_norms.append(grad_norm)
        self.lrs.append(list(lrs))
        self.moms.append(list(run.moms))
        if self._lines is not None:
            self._lines.append(
                "step",
                step=step,
                epoch=run.first_epoch + run.epoch,
                loss=loss,
                grad_norm=grad_norm,
                lr=lrs[-1],
            )

    def after_epoch(self, run: RunView) -> None:
        """Keep the row of an epoch, write its line and its row of the history."""
        row = {"epoch": run.first_epoch + run.epoch, "step": run.step, **run.metrics}
        self.rows.append(row)
        if self._lines is not None:
            self._lines.append("epoch", **row)
        if self._folder is not None:
            self._folder.append_history(row)


_INTERVAL_SECONDS = 0.1
_COLUMN_WIDTH = 12


@final
@declared(neutral={"stream"})
class Progress(Observer):
    """Shows a fit: a live bar with loss, samples a second and time left, and a row for each epoch.

    On a terminal and in a notebook the bar is drawn at most ten times a second, without a thread of its
    own; elsewhere there are plain lines, one for each epoch.

    Args:
        stream: where to write; standard output where not given.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream
        self._console: Console | None = None
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._columns: tuple[str, ...] = ()
        self._next = 0.0
        self._since = (0.0, 0)

    def before_fit(self, run: RunView) -> None:
        """Find out where to show, and open the bar there."""
        self._columns = ()
        self._console = _live_console(self.stream)
        if self._console is not None:
            self._bar = _bar(self._console)
            self._task = self._bar.add_task("", total=None, loss="", rate="")
            self._bar.start()

    def before_train(self, run: RunView) -> None:
        """Start the bar of an epoch."""
        self._since, self._next = (time.perf_counter(), run.step), 0.0
        if self._bar is not None and self._task is not None:
            self._bar.reset(self._task, total=run.n_batch, description=f"epoch {run.epoch + 1}/{run.n_epoch}")

    def after_batch(self, run: RunView) -> None:
        """Draw when it is time; otherwise a look at the clock is all."""
        if self._bar is None or self._task is None or (now := time.perf_counter()) < self._next:
            return
        self._next = now + _INTERVAL_SECONDS
        ids, (since, first) = run.batch_ids, self._since
        rate = (run.step - first + 1) * len(ids) / max(now - since, 1e-9) if ids is not None else 0.0
        loss = "" if run.loss_value is None else f"{run.loss_value:.4f}"
        self._bar.update(self._task, completed=run.batch + 1, loss=loss, rate=f"{rate:,.0f}")
        self._bar.refresh()

    def before_validate(self, run: RunView) -> None:
        """Say that validation is on."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description="validating")
            self._bar.refresh()

    def after_epoch(self, run: RunView) -> None:
        """Write the row of the epoch, and the head of the table before the first."""
        if not self._columns or set(run.metrics) - set(self._columns):
            self._columns = ("epoch", *run.metrics)
            heads = ["time" if name == "seconds" else name for name in self._columns]
            self._write("".join(head.ljust(_width(head)) for head in heads))
        cells = {"epoch": str(run.epoch), **{name: _cell(name, x) for name, x in run.metrics.items()}}
        self._write("".join(cells.get(name, "").ljust(_width(name)) for name in self._columns))

    def after_fit(self, run: RunView) -> None:
        """Take the bar away; the rows stay."""
        bar, self._bar, self._task, self._console = self._bar, None, None, None
        if bar is not None:
            bar.stop()

    def _write(self, line: str) -> None:
        if self._console is not None:
            self._console.print(line.rstrip(), markup=False, highlight=False, soft_wrap=True)
            return
        stream = self.stream or sys.stdout
        stream.write(line.rstrip() + "\n")
        stream.flush()


def _width(name: str) -> int:
    return max(_COLUMN_WIDTH, len(name) + 2)


def _cell(name: str, value: float) -> str:
    if name != "seconds":
        return f"{value:.6f}"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes:02d}:{seconds:02d}"


def _live_console(stream: TextIO | None) -> Console | None:
    """A console that can redraw, or None where only lines make sense."""
    target = stream or sys.stdout
    notebook = stream is None and "ipykernel" in sys.modules and find_spec("ipywidgets") is not None
    if not notebook and not target.isatty():
        return None  # without importing rich, which costs 40 ms
    from rich.console import Console

    return Console(file=stream)


def _bar(console: Console) -> Bar:
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:.0f}/{task.total}"),
        TextColumn("loss {task.fields[loss]}"),
        TextColumn("{task.fields[rate]} samples/s"),
        TimeRemainingColumn(),
        console=console,
        auto_refresh=False,  # no thread: the training thread draws when the clock says so
        transient=True,
    )
