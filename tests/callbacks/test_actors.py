"""Trackers take the direction from the metric, name what they monitor, and go on where they were saved."""

import math

import pytest

from surefast.callbacks.actors import EarlyStoppingCallback, ReduceLROnPlateau
from surefast.callbacks.contract import Actor
from surefast.callbacks.event import Event
from surefast.callbacks.observers import Recorder
from surefast.errors import ArgumentError, CallbackError, ConflictError, UnknownNameError


def losses(*values):
    return [{"valid_loss": value} for value in values]


@pytest.mark.parametrize(
    ("values", "options", "epochs"),
    [
        ((3, 2, 1, 0), {}, 4),
        ((3, 2, 2, 0), {}, 3),
        ((3, 3, 3, 3), {"patience": 2}, 3),
        ((3, 4, 2, 5), {"patience": 2}, 4),
        ((3, 2.95, 1, 0), {"min_delta": 0.1}, 2),
        ((3, math.nan, 1, 0), {}, 2),
        ((math.nan, 3, 2, 1), {"patience": 2}, 4),
    ],
)
def test_a_fit_ends_when_patience_is_over(small_run, values, options, epochs):
    run = small_run(EarlyStoppingCallback(**options), rows=losses(*values)).fit()

    assert run.state.epoch == epochs
    assert (run.state.stop is None) == (epochs == len(values))


def test_the_reason_is_recorded(small_run):
    run = small_run(EarlyStoppingCallback(patience=2), rows=losses(3, 4, 5, 6)).fit()

    (line,) = run.kinds("callback_request")
    assert line["why"] == "valid_loss was not better than 3 for 2 epochs"
    assert run.state.stop.who == "EarlyStoppingCallback"


def test_every_observer_sees_the_epoch_that_ended_the_fit(small_run):
    recorder = Recorder()
    small_run(EarlyStoppingCallback(), recorder, rows=losses(1, 2, 3)).fit()

    assert [row["epoch"] for row in recorder.rows] == [0, 1]


def test_the_direction_is_the_metrics_own(small_run):
    rows = [{"valid_loss": 1.0, "accuracy": value} for value in (0.1, 0.2, 0.1, 0.4)]
    run = small_run(EarlyStoppingCallback("accuracy"), rows=rows).fit()

    assert run.state.epoch == 3


def test_a_number_nobody_measures_fails_before_the_first_step(small_run):
    run = small_run(EarlyStoppingCallback("acuracy"))
    with pytest.raises(UnknownNameError, match="has no number to monitor called 'acuracy'") as caught:
        run.fit()

    assert caught.value.do == "write 'accuracy'"
    assert run.state.step == 0


def test_a_number_without_direction_or_missing_in_a_row_is_named(small_run):
    with pytest.raises(CallbackError, match="monitors seconds, of which neither higher nor lower is better"):
        small_run(EarlyStoppingCallback("seconds")).fit()
    with pytest.raises(CallbackError, match="monitors accuracy, which this epoch did not measure"):
        small_run(EarlyStoppingCallback("accuracy")).fit()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EarlyStoppingCallback(patience=0), "patience=0 would act on the first epoch"),
        (lambda: EarlyStoppingCallback(min_delta=-1.0), "min_delta=-1.0 is negative"),
        (lambda: ReduceLROnPlateau(factor=0.1), "factor=0.1 would not reduce the learning rate"),
    ],
)
def test_arguments_that_cannot_work_are_refused(make, message):
    with pytest.raises(ArgumentError, match=message.replace(".", r"\.")):
        make()


def test_two_of_a_kind_are_told_apart_by_name(small_run):
    stops = EarlyStoppingCallback("valid_loss"), EarlyStoppingCallback("accuracy", name="on accuracy")
    rows = [{"valid_loss": -epoch, "accuracy": 0.5} for epoch in range(3)]
    run = small_run(*stops, rows=rows).fit()

    assert run.state.stop.who == "on accuracy"
    assert set(run.dispatch.state_dict()) == {"EarlyStoppingCallback", "on accuracy"}


def test_a_plateau_divides_what_the_schedule_sets(small_run):
    recorder = Recorder()
    small_run(ReduceLROnPlateau(), recorder, rows=losses(3, 3, 3, 2)).fit()

    assert [lr for (lr,) in recorder.lrs[::3]] == pytest.approx([0.1, 0.1, 0.01, 0.001])


def test_a_plateau_keeps_above_the_least_rate(small_run):
    recorder = Recorder()
    small_run(ReduceLROnPlateau(min_lr=0.005), recorder, rows=losses(3, 3, 3, 3)).fit()

    assert [lr for (lr,) in recorder.lrs[::3]] == pytest.approx([0.1, 0.1, 0.01, 0.005])


def test_a_plateau_without_a_schedule_divides_once(small_run):
    plateau = ReduceLROnPlateau()
    run = small_run(plateau)
    plateau.load_state_dict({"best": 1.0, "wait": 0, "divisor": 10.0})

    for _ in range(3):
        run.dispatch.fire(Event.before_batch)

    assert run.state.lrs == pytest.approx([0.01])


class Warms(Actor):
    writes = {"lr"}

    def before_batch(self, run):
        run.lr = 0.01


def test_two_writers_of_the_learning_rate_need_an_order(small_run):
    with pytest.raises(ConflictError, match="ReduceLROnPlateau and Warms both write lr in before_batch"):
        small_run(ReduceLROnPlateau(), Warms())


@pytest.mark.parametrize("kind", [EarlyStoppingCallback, ReduceLROnPlateau])
def test_what_is_saved_is_what_goes_on(small_run, kind):
    first = small_run(kind(patience=3), rows=losses(3, 4)).fit()
    again = small_run(kind(patience=3), rows=losses(3, 4))
    again.dispatch.load_state_dict(first.dispatch.state_dict())

    assert again.dispatch.state_dict() == first.dispatch.state_dict()
    assert first.dispatch.state_dict()[kind.__name__]["wait"] == 1


def test_another_fit_starts_anew_unless_asked_not_to(small_run):
    stop, keeps = EarlyStoppingCallback(), EarlyStoppingCallback(reset_on_fit=False)
    for callback in (stop, keeps):
        small_run(callback, rows=losses(1)).fit()

    assert small_run(stop, rows=losses(2, 1.5)).fit().state.epoch == 2
    assert small_run(keeps, rows=losses(2, 1.5)).fit().state.epoch == 1
