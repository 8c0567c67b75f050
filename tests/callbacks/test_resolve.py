"""Order follows what is declared; what cannot hold together is refused with names and ways out."""

import itertools

import pytest

from surefast.callbacks.contract import Actor, Observer
from surefast.callbacks.event import Event
from surefast.callbacks.resolve import explain, resolve
from surefast.errors import CallbackError, ConflictError


class Looks(Observer):
    def after_loss(self, run):
        return run.loss, run.step


class Scales(Actor):
    writes = {"loss"}

    def after_loss(self, run):
        run.loss = run.loss * 2


class Penalises(Actor):
    writes = {"loss", "lr"}

    def after_loss(self, run):
        run.loss = run.loss + 1


class PenalisesAfter(Penalises):
    after = (Scales,)


class Elsewhere(Actor):
    writes = {"loss"}

    def before_batch(self, run):
        pass


def names(plan, event=Event.after_loss):
    return [callback.name for callback in plan.events[event]]


def test_observers_run_after_actors_and_insertion_breaks_ties():
    assert names(resolve([Looks(), Looks(name="second"), Scales()])) == ["Scales", "Looks", "second"]


def test_two_writers_without_an_order_are_refused():
    with pytest.raises(ConflictError, match="Scales and Penalises both write loss in after_loss") as caught:
        resolve([Scales(), Looks(), Penalises()])

    assert caught.value.details == {"callbacks": "Scales, Penalises", "field": "loss", "event": "after_loss"}
    assert "Penalises.after = (Scales,)" in caught.value.do
    assert "Scales.after = (Penalises,)" in caught.value.do
    assert "leave one of the two out" in caught.value.do


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_declared_order_holds_however_they_are_given(order):
    callbacks = [Scales(), PenalisesAfter(), Looks()]

    assert names(resolve([callbacks[position] for position in order])) == [
        "Scales",
        "PenalisesAfter",
        "Looks",
    ]


def test_an_order_can_be_declared_on_an_object_by_name():
    first, second = Scales(name="first"), Scales(name="second")
    with pytest.raises(ConflictError, match="first and second both write loss") as caught:
        resolve([first, second])
    assert "second.after = ('first',)" in caught.value.do

    second.before = ("first",)

    assert names(resolve([first, second])) == ["second", "first"]


def test_an_order_through_a_third_counts():
    middle = Elsewhere()
    middle.after, middle.before = (Scales,), (Penalises,)

    assert names(resolve([Penalises(), middle, Scales()])) == ["Scales", "Penalises"]


def test_writers_of_one_field_at_different_events_do_not_clash():
    assert len(resolve([Scales(), Elsewhere()]).order) == 2


def test_a_circle_is_refused_with_its_names():
    first, second, third = Scales(name="a"), Scales(name="b"), Scales(name="c")
    first.after, second.after, third.after = ("c",), ("a",), ("b",)

    with pytest.raises(ConflictError, match="form a circle: ") as caught:
        resolve([first, second, third])

    assert caught.value.what.endswith((
        "a before b before c before a",
        "b before c before a before b",
        "c before a before b before c",
    ))


def test_an_actor_cannot_wait_for_an_observer():
    scales = Scales()
    scales.after = (Looks,)

    with pytest.raises(ConflictError, match="actor Scales is to run after observer Looks"):
        resolve([scales, Looks()])


def test_two_of_one_name_and_one_given_twice_are_refused():
    scales = Scales()
    with pytest.raises(ConflictError, match="two callbacks are called Looks") as caught:
        resolve([Looks(), Looks()])
    assert 'Looks(name="second")' in caught.value.do
    with pytest.raises(ConflictError, match="the same Scales is given twice"):
        resolve([scales, scales])


def test_what_is_no_callback_is_named():
    with pytest.raises(CallbackError, match="cbs holds the class Scales, not a callback") as caught:
        resolve([Scales])
    assert caught.value.do == "call it: Scales()"
    with pytest.raises(CallbackError, match="cbs holds a str, which is no callback"):
        resolve(["Scales"])


def test_a_misspelt_order_is_refused_and_an_absent_one_is_not():
    scales = Scales()
    scales.after = ("Penalisse",)
    with pytest.raises(CallbackError, match="Scales.after names 'Penalisse'".replace(".", r"\.")) as caught:
        resolve([scales])
    assert caught.value.do == "write 'Penalises'"

    scales.after = ("Penalises", PenalisesAfter)
    assert names(resolve([scales])) == ["Scales"]

    scales.after = Penalises
    with pytest.raises(CallbackError, match="Penalises, not a tuple") as caught:
        resolve([scales])
    assert caught.value.do == "after = (Penalises,)"


def test_the_explanation_shows_event_order_reads_and_writes():
    table = explain(resolve([Looks(), Scales()]))

    assert table.rows == (
        ("after_loss", "1", "Scales", "actor", "loss", "loss"),
        ("after_loss", "2", "Looks", "observer", "loss, step", "-"),
    )
    assert str(table).splitlines()[1] == "after_loss  1      Scales    actor     loss        loss"
    assert "<td>after_loss</td>" in table._repr_html_()
    assert table.__rich__().row_count == 2
