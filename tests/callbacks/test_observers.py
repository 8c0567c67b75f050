"""Recorder and Progress keep and show what a fit did, change nothing, and read no tensor."""

import csv
import io
import itertools
import math

import pytest
import torch

from surefast.callbacks.actors import EarlyStoppingCallback
from surefast.callbacks.contract import Actor
from surefast.callbacks.event import Event
from surefast.callbacks.observers import Progress, Recorder
from surefast.run.folder import RunFolder


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def folder(tmp_path):
    made = RunFolder.create(tmp_path / "runs")
    yield made
    made.close()


def test_the_recorder_keeps_every_step_and_every_epoch(small_run):
    recorder = Recorder()
    run = small_run(recorder).fit()

    assert recorder.steps == list(range(6))
    assert len(recorder.losses) == 6
    assert recorder.losses[-1] == run.state.loss_value
    assert recorder.lrs == [[0.1]] * 6
    assert recorder.moms == [[0.0]] * 6
    assert [row["valid_loss"] for row in recorder.rows] == [1.0, 0.5]
    assert list(recorder.rows[0]) == ["epoch", "step", "train_loss", "valid_loss", "seconds"]


def test_another_fit_is_appended_and_erases_nothing(small_run):
    recorder = Recorder()
    small_run(recorder).fit()
    small_run(recorder).fit()

    assert len(recorder.losses) == 12
    assert [row["epoch"] for row in recorder.rows] == [0, 1, 0, 1]


def test_the_run_folder_gets_step_and_epoch_lines_and_a_history(small_run, folder):
    recorder = Recorder()
    recorder.attach(folder)
    small_run(recorder).fit()

    lines = folder.read_events()
    steps = [line for line in lines if line["kind"] == "step"]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    with folder.history_path.open() as file:
        rows = list(csv.DictReader(file))
    assert [line["step"] for line in steps] == list(range(6))
    assert [line["loss"] for line in steps] == recorder.losses
    assert steps[0]["lr"] == 0.1
    assert [line["valid_loss"] for line in epochs] == [1.0, 0.5]
    assert epochs[0]["seconds"] == 61.0
    assert [row["valid_loss"] for row in rows] == ["1.0", "0.5"]
    assert rows[0]["seconds"] == "61.0"


class SkipsSecond(Actor):
    def before_batch(self, run):
        if run.step == 1:
            run.skip_batch("a test")


def test_a_skipped_batch_is_no_step(small_run):
    recorder = Recorder()
    small_run(SkipsSecond(), recorder).fit()

    assert recorder.steps == [0, 2, 3, 4, 5]


def test_progress_writes_plain_lines_where_there_is_no_terminal(small_run):
    stream = io.StringIO()
    small_run(Progress(stream), rows=[{"valid_loss": 0.5}, {"valid_loss": math.nan, "accuracy": 0.25}]).fit()

    lines = stream.getvalue().splitlines()
    assert [line.split() for line in lines[::2]] == [
        ["epoch", "train_loss", "valid_loss", "time"],
        ["epoch", "train_loss", "valid_loss", "accuracy", "time"],
    ]
    assert lines[1].split()[0] == "0"
    assert lines[1].split()[2:] == ["0.500000", "01:01"]
    assert lines[3].split()[2:] == ["nan", "0.250000", "01:01"]


def test_progress_draws_a_bar_on_a_terminal_and_leaves_only_rows(small_run, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    run = small_run(Progress(stream)).fit()

    text = stream.getvalue()
    assert run.dispatch.summary() == []
    assert "epoch 1/2" in text
    assert "samples/s" in text
    assert "valid_loss" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is back


def test_progress_closes_its_bar_after_an_error(small_run, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()

    class Breaks(Actor):
        def before_step(self, run):
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        small_run(Breaks(), Progress(stream)).fit()

    assert stream.getvalue().endswith("\x1b[?25h") or "\x1b[?25h" in stream.getvalue()


def test_progress_draws_at_most_ten_times_a_second(small_run, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    progress = Progress(Terminal())
    run = small_run(progress)
    run.dispatch.fire(Event.before_fit)
    run.dispatch.fire(Event.before_train)
    drawn = []
    monkeypatch.setattr(progress._bar, "refresh", lambda: drawn.append(1))

    for _ in range(200):
        run.dispatch.fire(Event.after_batch)
    run.dispatch.close()

    assert len(drawn) <= 3


def test_a_closed_stream_does_not_end_training(small_run):
    stream = io.StringIO()
    stream.close()
    run = small_run(Progress(stream)).fit()

    assert run.dispatch.summary()[0].startswith("Progress failed")
    assert all(map(torch.equal, run.weights, small_run().fit().weights))


def makers():
    return [Recorder, lambda: Progress(io.StringIO()), lambda: Progress(Terminal())]


@pytest.mark.parametrize(
    "chosen", [c for n in range(4) for c in itertools.combinations(range(3), n) if c != (1, 2)]
)
def test_weights_are_equal_for_every_set_of_observers(small_run, chosen):
    observers = [makers()[position]() for position in chosen]
    if len(observers) == 3:
        observers[2].name = "second"
    run = small_run(*observers).fit()

    assert all(map(torch.equal, run.weights, small_run().fit().weights))
    assert run.lines == []


def test_weights_are_not_equal_when_an_actor_stops_early(small_run):
    """The twin: the comparison above can fail."""
    run = small_run(
        EarlyStoppingCallback(), rows=[{"valid_loss": 1.0}, {"valid_loss": 2.0}, {"valid_loss": 0.0}]
    )

    assert not all(map(torch.equal, run.fit().weights, small_run(rows=[{}] * 3).fit().weights))


def test_hooks_of_a_step_read_no_tensor(small_run):
    """A tensor that refuses to be read stands in for one on a card."""
    run = small_run(Recorder(), Progress(io.StringIO()))
    run.state.loss_value, run.state.loss = 0.5, torch.empty((), device="meta")
    run.state.pred = torch.empty(3, device="meta")

    run.dispatch.fire(Event.after_batch)

    assert run.lines == []
