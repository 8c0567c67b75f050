"""An observer that cheats is found, named, and undone where that is possible."""

import os
import signal

import pytest
import torch

from surefast.callbacks.contract import Actor, Observer
from surefast.callbacks.event import Event
from surefast.errors import CallbackError


class Cheats(Observer):
    """Does something it must not, once, at one event."""

    def __init__(self, deed, event, model=None):
        self.deed, self.event, self.model, self.done = deed, event, model, False

    def before_fit(self, run):
        self._cheat(run)

    def before_batch(self, run):
        self._cheat(run)

    def after_pred(self, run):
        self._cheat(run)

    def after_loss(self, run):
        self._cheat(run)

    def after_backward(self, run):
        self._cheat(run)

    def before_step(self, run):
        self._cheat(run)

    def after_step(self, run):
        self._cheat(run)

    def after_batch(self, run):
        self._cheat(run)

    def after_epoch(self, run):
        self._cheat(run)

    def after_fit(self, run):
        self._cheat(run)

    def _cheat(self, run):
        if run.event is self.event and not self.done:
            self.done = True
            self.deed(self.model, run)


def eval_mode(model, run):
    model[1].eval()


def freeze(model, run):
    model[0].weight.requires_grad_(False)


def grad_off(model, run):
    torch.set_grad_enabled(False)


def dtype(model, run):
    torch.set_default_dtype(torch.float64)


def threads(model, run):
    torch.set_num_threads(2)


def flags(model, run):
    torch.use_deterministic_algorithms(not torch.are_deterministic_algorithms_enabled())


def tf32(model, run):
    torch.backends.cuda.matmul.allow_tf32 = not torch.backends.cuda.matmul.allow_tf32


def chdir(model, run):
    os.chdir("/")


def handler(model, run):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


EPOCH_EVENTS = [Event.before_fit, Event.after_epoch, Event.after_fit]
BATCH_EVENTS = [Event.before_batch, Event.after_pred, Event.after_step, Event.after_batch]
RESTORED = [
    *((deed, field, event) for deed, field in [
        (eval_mode, "modes"),
        (freeze, "requires_grad"),
        (grad_off, "grad mode"),
        (dtype, "default dtype"),
        (threads, "threads"),
        (flags, "determinism flags"),
    ] for event in [*EPOCH_EVENTS, *BATCH_EVENTS]),
    *((deed, field, event) for deed, field in [
        (tf32, "determinism flags"),
        (chdir, "working directory"),
        (handler, "signal handler"),
    ] for event in EPOCH_EVENTS),
]  # fmt: skip


@pytest.fixture(autouse=True)
def process_as_before():
    """Put everything back that a test may have failed to put back."""
    saved = torch.get_default_dtype(), signal.getsignal(signal.SIGTERM), torch.backends.cuda.matmul.allow_tf32
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_default_dtype(saved[0])
    signal.signal(signal.SIGTERM, saved[1])
    torch.backends.cuda.matmul.allow_tf32 = saved[2]
    torch.use_deterministic_algorithms(deterministic)
    torch.set_grad_enabled(True)
    torch.set_num_threads(1)


@pytest.mark.parametrize(("deed", "field", "event"), RESTORED)
def test_what_can_be_restored_is_and_the_observer_is_named(small_run, deed, field, event):
    folder, before = os.getcwd(), signal.getsignal(signal.SIGTERM)
    cheats = Cheats(deed, event)
    run = small_run(cheats)
    cheats.model = run.state.model
    run.fit()

    (line,) = run.kinds("callback_change")
    assert (line["callback"], line["event"], line["field"]) == ("Cheats", event.value, field)
    assert line["restored"]
    assert run.dispatch.summary() == ["Cheats changed what it must not, 1 times; see the event log"]
    assert all(map(torch.equal, run.weights, small_run().fit().weights))
    assert os.getcwd() == folder
    assert signal.getsignal(signal.SIGTERM) is before
    assert torch.get_num_threads() == 1


def test_the_same_deeds_without_a_witness_do_change_something(small_run):
    """The twin of the test above: these deeds matter."""
    run = small_run()
    run.state.model[1].eval()

    assert not all(map(torch.equal, run.fit().weights, small_run().fit().weights))


class OwnFlag(torch.nn.Module):
    """Keeps its training flag elsewhere than in its dict, as a scripted module does."""

    flag = True

    @property
    def training(self):
        return self.flag

    @training.setter
    def training(self, value):
        object.__setattr__(self, "flag", value)

    def forward(self, x):
        return x


def test_a_module_that_keeps_its_flag_elsewhere_is_watched_too(small_run):
    cheats = Cheats(lambda model, run: model[4].eval(), Event.after_batch)
    run = small_run(cheats)
    run.state.model.append(OwnFlag())
    cheats.model = run.state.model
    run.fit()

    assert [line["field"] for line in run.kinds("callback_change")] == ["modes"]
    assert run.state.model[4].training


def weights(model, run):
    with torch.no_grad():
        model[0].weight.mul_(2)


def weights_through_the_view(model, run):
    for _, value in run.parameters():
        value.add_(1)


def buffers(model, run):
    model[1].reset_running_stats()


def gradients(model, run):
    model[0].weight.grad.mul_(2)


def no_gradients(model, run):
    model.zero_grad()


def inputs(model, run):
    run.xb[0].mul_(2)


def prediction(model, run):
    run.pred.mul_(2)


CHANGED = [
    *((deed, "parameters", event) for deed in [weights, weights_through_the_view, buffers]
      for event in [*EPOCH_EVENTS, *BATCH_EVENTS]),
    *((deed, "gradients", event) for deed in [gradients, no_gradients]
      for event in [Event.after_backward, Event.before_step]),
    (inputs, "batch", Event.before_batch),
    (inputs, "batch", Event.after_pred),
    (prediction, "batch", Event.after_pred),
    (prediction, "batch", Event.after_loss),
]  # fmt: skip


@pytest.mark.parametrize(("deed", "field", "event"), CHANGED)
def test_what_cannot_be_restored_is_an_error_in_strict_mode(small_run, deed, field, event):
    cheats = Cheats(deed, event)
    run = small_run(cheats)
    cheats.model = run.state.model

    with pytest.raises(
        CallbackError, match=f"Cheats changed {field} in {event.value} without declaring"
    ) as caught:
        run.fit()

    assert caught.value.details == {"callback": "Cheats", "event": event.value, "field": field}
    assert "make it an Actor" in caught.value.do


def test_what_cannot_be_restored_is_named_when_not_strict(small_run):
    cheats = Cheats(weights, Event.after_batch)
    run = small_run(cheats, strict=False)
    cheats.model = run.state.model
    run.fit()

    (line,) = run.kinds("callback_change")
    assert line["what"] == "changed in place: 0.weight"
    assert not line["restored"]


class Bystander(Observer):
    def after_batch(self, run):
        pass


def test_the_culprit_is_named_among_others(small_run):
    cheats = Cheats(eval_mode, Event.after_batch)
    run = small_run(Bystander(), cheats, Bystander(name="second"))
    cheats.model = run.state.model

    assert [line["callback"] for line in run.fit().kinds("callback_change")] == ["Cheats"]


class Swaps(Actor):
    def before_fit(self, run):
        run.model[1].eval()


class DeclaredSwaps(Swaps):
    writes = {"modes"}


def test_an_actors_undeclared_change_in_place_raises_and_a_declared_one_does_not(small_run):
    with pytest.raises(
        CallbackError, match="Swaps changed modes in before_fit without declaring it"
    ) as caught:
        small_run(Swaps()).fit()
    assert caught.value.do == "declare it: writes = {'modes'}"

    run = small_run(DeclaredSwaps()).fit()
    assert run.lines == []
    assert not run.state.model[1].training


def test_honest_callbacks_leave_no_finding(small_run):
    run = small_run(Bystander(), Cheats(lambda model, run: list(run.parameters()), Event.after_step)).fit()

    assert run.lines == []


class Late(Observer):
    """Changes the folder at a batch event, at the steps it is told to."""

    def __init__(self, steps):
        self.steps = steps

    def after_batch(self, run):
        if run.step in self.steps:
            os.chdir("/")


def test_a_changed_folder_is_found_at_the_next_pause_and_laid_on_no_innocent(small_run):
    folder = os.getcwd()
    innocent = Cheats(lambda model, run: None, Event.after_epoch)
    run = small_run(innocent, Late([1])).fit()

    assert os.getcwd() == folder
    (line,) = run.kinds("callback_change")
    assert (line["callback"], line["event"]) == ("Cheats or Late", "after_epoch")
    assert run.dispatch.summary()[0].startswith("Cheats or Late changed the working directory (from ")


def test_a_second_time_has_one_name(small_run):
    innocent = Cheats(lambda model, run: None, Event.after_epoch)
    run = small_run(innocent, Late([1, 4])).fit()

    assert [line["callback"] for line in run.kinds("callback_change")] == ["Cheats or Late", "Late"]


def test_version_counters_do_not_see_data_as_the_docs_say(small_run):
    """Writes past the version counter are found by the receipt's digests, not here."""
    cheats = Cheats(lambda model, run: model[0].weight.data.add_(1), Event.after_batch)
    run = small_run(cheats)
    cheats.model = run.state.model

    assert run.fit().lines == []
