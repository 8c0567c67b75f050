"""Observers read and cannot write; actors write what they declared, where that means something."""

import numpy as np
import pytest
import torch

from surefast.callbacks.contract import Actor, Observer
from surefast.callbacks.event import Event
from surefast.callbacks.state import Request
from surefast.callbacks.view import Moment, RunState, RunView
from surefast.errors import CallbackError


class Keeps(Observer):
    """Keeps the view, so that a test can ask it."""

    def after_loss(self, run):
        self.run = run
        self.read = {"loss": run.loss, "pred": run.pred, "lr": run.lr, "ids": run.batch_ids, "pct": run.pct}
        self.names = [name for name, _ in run.parameters()]
        self.graph = any(value.requires_grad for _, value in run.parameters())


def test_what_an_observer_reads_has_no_graph(small_run):
    keeps = Keeps()
    small_run(keeps).fit()

    assert not keeps.read["loss"].requires_grad
    assert not keeps.read["pred"].requires_grad
    assert keeps.read["lr"] == 0.1
    assert keeps.read["ids"].tolist() == list(range(8))
    assert keeps.names[0] == "0.weight"
    assert not keeps.graph
    with pytest.raises(ValueError, match="read-only"):
        keeps.read["ids"][0] = 3
    with pytest.raises(TypeError):
        keeps.run.metrics["valid_loss"] = 0.0


def test_an_observer_cannot_set_anything(small_run):
    run = small_run(keeps := Keeps()).fit()
    view = keeps.run

    with pytest.raises(CallbackError, match=r"observer Keeps set run.loss in after_loss") as caught:
        setattr(view, "loss", 1.0)  # noqa: B010  # as a helper would, unseen by the check of the class
    assert "class Keeps(Actor) with writes = {'loss'}" in caught.value.do
    with pytest.raises(CallbackError, match=r"self\.mine"):
        view.mine = 1
    with pytest.raises(CallbackError, match=r"observer Keeps set run.epoch"):
        del view.epoch
    assert "RunView(Keeps, epoch=2" in repr(view)
    assert run.state.loss is not None


class Writes(Actor):
    """Sets one field at one event, however that is declared."""

    def __init__(self, field, value, event):
        self.field, self.value, self.event = field, value, event

    def before_batch(self, run):
        self._write(run)

    def after_pred(self, run):
        self._write(run)

    def after_loss(self, run):
        self._write(run)

    def after_epoch(self, run):
        self._write(run)

    def _write(self, run):
        if run.event is self.event:
            setattr(run, self.field, self.value(run) if callable(self.value) else self.value)


class WritesAll(Writes):
    writes = {"xb", "yb", "pred", "loss", "lr", "mom", "metrics"}


def test_an_undeclared_write_names_callback_event_and_field(small_run):
    with pytest.raises(CallbackError, match="Writes wrote loss in after_loss without declaring it") as caught:
        small_run(Writes("loss", lambda run: run.loss * 2, Event.after_loss)).fit()

    assert caught.value.details == {"callback": "Writes", "event": "after_loss", "field": "loss"}
    assert caught.value.do == "declare it: writes = {'loss'}"
    assert "raised by actor Writes in after_loss" in caught.value.__notes__


def test_a_declared_write_at_the_wrong_event_is_refused(small_run):
    with pytest.raises(CallbackError, match="wrote pred in after_loss, where that changes nothing") as caught:
        small_run(WritesAll("pred", 0, Event.after_loss)).fit()

    assert caught.value.do == "write it in after_pred"


def test_a_field_nobody_writes_is_refused_with_the_nearest(small_run):
    with pytest.raises(CallbackError, match=r"set run.los, which no callback writes") as caught:
        small_run(WritesAll("los", 0, Event.after_loss)).fit()
    assert caught.value.do == "write run.loss"


@pytest.mark.parametrize(
    ("field", "value", "event", "message"),
    [
        ("xb", torch.zeros(8, 4), Event.before_batch, r"run.xb is a tuple of tensors, not a Tensor"),
        ("loss", 3.0, Event.after_loss, "run.loss is a tensor with one number"),
        ("lr", [0.1, 0.2], Event.before_batch, "run.lr got 2 values for 1 parameter groups"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(small_run, field, value, event, message):
    with pytest.raises(CallbackError, match=message):
        small_run(WritesAll(field, value, event)).fit()


def test_declared_writes_reach_training(small_run):
    plain = small_run().fit().weights
    doubled = small_run(WritesAll("loss", lambda run: run.loss * 2, Event.after_loss)).fit().weights
    same = small_run(WritesAll("loss", lambda run: run.loss * 1, Event.after_loss)).fit().weights

    assert not all(map(torch.equal, plain, doubled))
    assert all(map(torch.equal, plain, same))


class Schedules(Actor):
    writes = {"lr", "mom"}

    def before_batch(self, run):
        run.lr, run.mom = 0.5, [0.3]
        self.read = run.lr, run.mom


def test_learning_rate_and_momentum_reach_the_optimizer_and_the_state(small_run):
    state = small_run(schedules := Schedules()).fit().state
    (group,) = state.optimizer.param_groups

    assert (group["lr"], group["momentum"]) == (0.5, 0.3) == schedules.read
    assert (state.lrs, state.moms) == ([0.5], [0.3])

    state.optimizer = torch.optim.AdamW(state.model.parameters(), betas=(0.9, 0.99))
    Schedules.before_batch(schedules, _actor_view(state))
    assert state.optimizer.param_groups[0]["betas"] == (0.3, 0.99)


def test_momentum_of_an_optimizer_without_any_is_refused(small_run):
    state = small_run().state
    state.optimizer = torch.optim.Adagrad(state.model.parameters())

    with pytest.raises(CallbackError, match=r"run.mom was set, but Adagrad has no momentum"):
        Schedules().before_batch(_actor_view(state))


def test_split_groups_of_an_optimizer_follow_the_group_of_the_model(small_run):
    state = small_run().state
    state.lrs = [0.1, 0.2]
    parts = [list(module.parameters()) for module in (state.model[0], state.model[1], state.model[3])]
    groups = [{"params": part, "group": number} for part, number in zip(parts, (0, 0, 1), strict=True)]
    state.optimizer = torch.optim.SGD(groups, 0.1, momentum=0.9)

    _actor_view(state).lr = [0.3, 0.4]

    assert [group["lr"] for group in state.optimizer.param_groups] == [0.3, 0.3, 0.4]


def _actor_view(state):
    moment = Moment()
    moment.event = Event.before_batch
    return RunState("Test", state, moment, writes=frozenset({"lr", "mom"}), report=lambda kind, fields: None)


class Asks(Actor):
    def __init__(self, action, event, why="enough"):
        self.action, self.event, self.why = action, event, why

    def before_batch(self, run):
        self._ask(run)

    def before_step(self, run):
        self._ask(run)

    def after_batch(self, run):
        self._ask(run)

    def after_epoch(self, run):
        self._ask(run)

    def after_fit(self, run):
        self._ask(run)

    def _ask(self, run):
        if run.event is self.event and run.step == 2:
            getattr(run, self.action)(self.why)


def test_a_stop_is_recorded_with_who_and_why(small_run):
    run = small_run(Asks("stop", Event.after_batch)).fit()

    assert run.state.stop == Request("Asks", "enough", Event.after_batch, 2)
    assert run.state.epoch == 1
    line = {"action": "stop", "callback": "Asks", "why": "enough", "event": "after_batch", "step": 2}
    assert run.lines == [("callback_request", line)]


@pytest.mark.parametrize(
    ("action", "event"), [("skip_batch", Event.before_batch), ("skip_step", Event.before_step)]
)
def test_a_skip_leaves_one_update_out(small_run, action, event):
    run = small_run(Asks(action, event)).fit()

    assert run.fired.count(Event.after_step) == 5
    assert [line["action"] for line in run.kinds("callback_request")] == [action]


def test_a_request_where_it_means_nothing_is_refused(small_run):
    with pytest.raises(
        CallbackError, match=r"called run.skip_batch\(\) in before_step, where it has no meaning"
    ):
        small_run(Asks("skip_batch", Event.before_step)).fit()


def test_a_request_needs_a_reason(small_run):
    with pytest.raises(CallbackError, match=r"called run.stop\(' '\) without a reason"):
        small_run(Asks("stop", Event.after_batch, why=" ")).fit()


class Draws(Actor):
    def __init__(self):
        self.keys = []

    def before_batch(self, run):
        self.keys.append((run.key(), run.key("second")))


def test_keys_depend_on_seed_callback_and_step_only(small_run):
    small_run(first := Draws()).fit()
    small_run(again := Draws()).fit()
    other = Draws()
    other.name = "other"
    small_run(other).fit()

    assert first.keys == again.keys
    assert len({key for pair in first.keys for key in pair}) == 12
    assert not set(first.keys) & set(other.keys)


class Clips(Actor):
    writes = {"gradients"}

    def after_backward(self, run):
        for _, gradient in run.gradients():
            gradient.zero_()


class ClipsQuietly(Actor):
    def after_backward(self, run):
        for _, gradient in run.gradients():
            gradient.zero_()


def test_gradients_are_changed_in_place_where_declared(small_run):
    run = small_run(Clips())
    before = run.weights
    after = run.fit().weights

    assert torch.equal(before[0], after[0])
    with pytest.raises(
        CallbackError, match="ClipsQuietly wrote gradients in after_backward without declaring"
    ):
        small_run(ClipsQuietly()).fit()


def test_a_view_is_made_once_and_holds_the_state(small_run):
    keeps = Keeps()
    run = small_run(keeps)
    run.fit()

    assert type(keeps.run) is RunView
    assert keeps.run.step == run.state.step == 6
    assert issubclass(RunState, RunView)
    run.state.batch_ids = None
    assert keeps.run.batch_ids is None
    run.state.batch_ids = np.arange(3)
    assert keeps.run.batch_ids.tolist() == [0, 1, 2]
