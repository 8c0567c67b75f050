"""Hooks are bound once; observers cannot stop a fit, actors can; teardown always runs, last in first out."""

import sys

import pytest
import torch

from surefast.callbacks.contract import Actor, Observer
from surefast.callbacks.event import Event
from surefast.callbacks.observers import Progress, Recorder
from surefast.errors import CallbackError, UnknownNameError


class Fails(Observer):
    """Raises at the steps it is told to."""

    def __init__(self, steps, error=RuntimeError):
        self.steps, self.error, self.asked, self.closed = steps, error, [], False

    def after_batch(self, run):
        self.asked.append(run.step)
        if run.step in self.steps:
            raise self.error(f"step {run.step}\nmore")

    def after_fit(self, run):
        self.closed = True


def test_nobody_listening_costs_nothing(small_run):
    dispatch = small_run().dispatch

    assert all(dispatch.hooks[event] == () for event in Event if event is not Event.after_fit)
    assert dispatch.hooks[Event.after_batch] == ()
    assert dispatch.summary() == []


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, MemoryError, torch.OutOfMemoryError])
def test_a_failing_observer_changes_nothing_and_is_recorded(small_run, error):
    run = small_run(Fails([1], error)).fit()

    assert all(map(torch.equal, run.weights, small_run().fit().weights))
    (line,) = run.kinds("callback_error")
    assert (line["callback"], line["event"], line["step"]) == ("Fails", "after_batch", 1)
    assert line["error"] == f"{error.__name__} in after_batch: step 1"
    assert "in after_batch\n" in line["traceback"]
    assert run.dispatch.summary() == [f"Fails failed 1 times: {error.__name__} in after_batch: step 1"]


def test_three_failures_in_a_row_disable_an_observer(small_run):
    fails = Fails([1, 2, 3])
    run = small_run(fails).fit()

    assert fails.asked == [0, 1, 2, 3]
    assert fails.closed
    assert [line["step"] for line in run.kinds("callback_disabled")] == [3]
    assert run.dispatch.hooks[Event.after_batch] == ()
    assert run.dispatch.summary() == [
        "Fails was disabled after 3 failures in a row: RuntimeError in after_batch: step 3"
    ]


def test_failures_that_are_not_in_a_row_do_not_disable(small_run):
    fails = Fails([0, 1, 3, 4])
    run = small_run(fails).fit()

    assert fails.asked == list(range(6))
    assert not run.kinds("callback_disabled")


def test_a_loop_that_holds_an_old_tuple_does_not_ask_a_disabled_observer(small_run):
    fails = Fails([0])
    run = small_run(fails)
    held = run.dispatch.hooks[Event.after_batch]

    for _ in range(5):
        for hook in held:
            hook()

    assert fails.asked == [0, 0, 0]


def test_a_keyboard_interrupt_in_an_observer_is_the_users(small_run):
    with pytest.raises(KeyboardInterrupt):
        small_run(Fails([1], KeyboardInterrupt)).fit()


class Opens(Actor):
    """Notes when it is set up and torn down."""

    def __init__(self, log, fails=None, error=ValueError):
        self.log, self.fails, self.error = log, fails, error

    def _note(self, run):
        self.log.append((self.name, run.event.value))
        if run.event is self.fails:
            raise self.error(f"{self.name} at {run.event.value}")

    def before_fit(self, run):
        self._note(run)

    def before_step(self, run):
        if run.event is self.fails:
            self._note(run)

    def on_exception(self, run):
        self.log.append((self.name, str(run.error)))

    def after_fit(self, run):
        self._note(run)


def opens(log, name, **options):
    made = Opens(log, **options)
    made.name = name
    return made


def test_an_actors_exception_ends_the_fit_with_its_name(small_run):
    with pytest.raises(ValueError, match="a at before_step") as caught:
        small_run(opens([], "a", fails=Event.before_step)).fit()

    assert caught.value.__notes__ == ["raised by actor a in before_step"]


def test_teardown_is_last_in_first_out_whatever_was_raised(small_run):
    log = []
    with pytest.raises(ValueError, match="b at before_step"):
        small_run(opens(log, "a"), opens(log, "b", fails=Event.before_step), opens(log, "c")).fit()

    assert log == [
        ("a", "before_fit"),
        ("b", "before_fit"),
        ("c", "before_fit"),
        ("b", "before_step"),
        ("c", "b at before_step"),
        ("b", "b at before_step"),
        ("a", "b at before_step"),
        ("c", "after_fit"),
        ("b", "after_fit"),
        ("a", "after_fit"),
    ]


def test_only_what_was_set_up_is_torn_down(small_run):
    log = []
    with pytest.raises(ValueError, match="b at before_fit"):
        small_run(opens(log, "a"), opens(log, "b", fails=Event.before_fit), opens(log, "c")).fit()

    assert [entry for entry in log if entry[1] == "after_fit"] == [("a", "after_fit")]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failing_teardown_does_not_keep_others_from_theirs(small_run, error):
    log = []
    with pytest.raises(error, match="b at after_fit"):
        small_run(opens(log, "a"), opens(log, "b", fails=Event.after_fit, error=error), opens(log, "c")).fit()

    assert log[-3:] == [("c", "after_fit"), ("b", "after_fit"), ("a", "after_fit")]


def test_a_failing_teardown_does_not_hide_what_was_raised_before(small_run):
    log = []
    with pytest.raises(ValueError, match="a at before_step") as caught:
        small_run(opens(log, "a", fails=Event.before_step), opens(log, "b", fails=Event.after_fit)).fit()

    assert caught.value.__notes__[-1] == "while tearing down: b at after_fit"


def test_a_second_close_does_nothing(small_run):
    log = []
    run = small_run(opens(log, "a")).fit()
    run.dispatch.close()
    run.dispatch.fire(Event.after_fit)

    assert log.count(("a", "after_fit")) == 1


class Counts(Actor):
    def __init__(self):
        self.count = 0

    def after_batch(self, run):
        self.count += 1

    def state_dict(self):
        return {"count": self.count, "nested": {"list": [1.0, None, "text", torch.zeros(2)]}}

    def load_state_dict(self, state):
        self.count = state["count"]


def test_state_goes_into_checkpoints_and_back_by_name(small_run):
    saved = small_run(Counts(), Fails([])).fit().dispatch.state_dict()
    fresh = small_run(counts := Counts()).dispatch
    fresh.load_state_dict(saved)

    assert list(saved) == ["Counts"]
    assert counts.count == 6
    with pytest.raises(CallbackError, match="holds state of Counts, and there is no such callback"):
        small_run().dispatch.load_state_dict(saved)
    with pytest.raises(CallbackError, match="Fails has saved state but no load_state_dict"):
        small_run(Fails([])).dispatch.load_state_dict({"Fails": {"count": 1}})


class KeepsAnything(Counts):
    def state_dict(self):
        return {"a": [{"b": object()}]}


def test_state_that_a_checkpoint_cannot_hold_is_refused_when_saved(small_run):
    with pytest.raises(CallbackError, match=r"state_dict of KeepsAnything holds a object at a\[0\]\.b"):
        small_run(KeepsAnything()).dispatch.state_dict()


def test_callbacks_are_found_by_name(small_run):
    counts = Counts()
    dispatch = small_run(counts).dispatch

    assert dispatch.callback("Counts") is counts
    assert "after_batch" in str(dispatch.explain())
    with pytest.raises(UnknownNameError, match="this fit has no callback 'Count'"):
        dispatch.callback("Count")


def test_default_observers_add_few_python_calls_to_a_step(small_run):
    run = small_run(Recorder(), Progress(sys.stderr))
    run.state.batch_ids, run.state.loss_value = None, 0.5
    calls = []

    def count(frame, kind, _):
        if kind == "call":
            calls.append(frame.f_code.co_qualname)

    sys.setprofile(count)
    try:
        for hook in run.dispatch.hooks[Event.after_batch]:
            hook()
    finally:
        sys.setprofile(None)

    assert len([call for call in calls if "count" not in call]) <= 8
