"""The drawing of the loop is what a fit fires."""

from surefast.callbacks.contract import Observer
from surefast.callbacks.event import EVENT_NAMES, PER_BATCH, Event, drawn_events


def test_drawing_holds_every_event_but_on_exception():
    drawn = set(drawn_events(epoch=1, batch=1))

    assert set(Event) - drawn == {Event.on_exception}


def test_drawing_unfolds_the_loops():
    events = drawn_events(epoch=2, batch=3, grain=4)

    assert events.count(Event.before_epoch) == 2
    assert events.count(Event.before_batch) == 6
    assert events.count(Event.after_pred) == 24
    assert events[0] is Event.before_fit
    assert events[-1] is Event.after_fit


def test_members_are_found_by_fastais_names():
    assert {event.name for event in Event} == EVENT_NAMES == {event.value for event in Event}
    assert all(event.value not in {"before_fit", "after_epoch"} for event in PER_BATCH)


class Everything(Observer):
    def __init__(self):
        self.seen = []

    def before_fit(self, run):
        self.seen.append(run.event)

    def before_epoch(self, run):
        self.seen.append(run.event)

    def before_train(self, run):
        self.seen.append(run.event)

    def before_batch(self, run):
        self.seen.append(run.event)

    def after_pred(self, run):
        self.seen.append(run.event)

    def after_loss(self, run):
        self.seen.append(run.event)

    def before_backward(self, run):
        self.seen.append(run.event)

    def after_backward(self, run):
        self.seen.append(run.event)

    def before_step(self, run):
        self.seen.append(run.event)

    def after_step(self, run):
        self.seen.append(run.event)

    def after_batch(self, run):
        self.seen.append(run.event)

    def after_train(self, run):
        self.seen.append(run.event)

    def before_validate(self, run):
        self.seen.append(run.event)

    def after_validate(self, run):
        self.seen.append(run.event)

    def after_epoch(self, run):
        self.seen.append(run.event)

    def on_exception(self, run):
        self.seen.append(run.event)

    def after_fit(self, run):
        self.seen.append(run.event)


def test_a_callback_sees_the_events_as_drawn(small_run):
    everything = Everything()

    run = small_run(everything).fit()

    assert everything.seen == run.fired == drawn_events(epoch=2, batch=3)
