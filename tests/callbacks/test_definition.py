"""What can never work is an error where the class is defined, with the hook as it should be."""

import pytest

from surefast.callbacks.contract import Actor, Callback, Observer
from surefast.callbacks.definition import FOREIGN_HOOKS
from surefast.callbacks.event import EVENT_NAMES
from surefast.errors import CallbackError, UnknownNameError


class CancelFitException(Exception):
    """Stands for fastai's, which is found by its name."""


class CancelBatchException(Exception):
    """Stands for fastai's, which is found by its name."""


def noop(self, run):
    pass


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("after_batchs", "after_batch"),
        ("befor_fit", "before_fit"),
        ("afterbatch", "after_batch"),
        ("on_epoch_end", "after_epoch"),
        ("on_train_batch_end", "after_batch"),
        ("on_train_end", "after_fit"),
        ("begin_fit", "before_fit"),
        ("after_cancel_batch", "after_batch"),
        ("on_validation_epoch_end", "after_validate"),
    ],
)
def test_a_misspelt_or_foreign_hook_names_the_event(wrong, right):
    with pytest.raises(CallbackError, match=rf"Wrong.{wrong} is no event, so it would never run") as caught:
        type("Wrong", (Observer,), {wrong: noop})

    assert f"def {right}(self, run)" in caught.value.do


def test_foreign_hooks_point_to_real_events():
    assert set(FOREIGN_HOOKS.values()) <= EVENT_NAMES


def test_prefixes_of_events_are_kept():
    with pytest.raises(CallbackError, match="on_zzz is no event") as caught:
        type("Odd", (Observer,), {"on_zzz": noop})

    assert "kept for events" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["batch_loss", "fit", "validate", "fit_later", "plot_epoch", "_after_batchs"]
)
def test_a_users_own_methods_are_left_alone(name):
    assert type("Fine", (Observer,), {name: noop}).__name__ == "Fine"


def test_a_hook_without_run_prints_the_rewritten_hook():
    with pytest.raises(CallbackError, match=r"after_batch\(self\) does not take the run") as caught:

        class Old(Observer):
            def after_batch(self):
                if self.iter % 10 == 0:
                    self.seen.append(self.learn.smooth_loss)

    assert "def after_batch(self, run):\n" in caught.value.do
    assert "if run.batch % 10 == 0:" in caught.value.do
    assert "self.seen.append(run.loss_value)" in caught.value.do


def test_a_hook_with_more_than_run_is_refused():
    with pytest.raises(CallbackError, match="does not take the run"):

        class Keras(Observer):
            def after_batch(self, batch, logs):
                pass


def test_use_of_self_learn_is_found_in_helpers_and_closures():
    with pytest.raises(CallbackError, match=r"helper uses self.learn; a callback has no learner") as caught:

        class Hidden(Observer):
            def helper(self):
                return [name for name in dir(self.learn.model)]

    assert "run.model" in caught.value.do


def test_a_learn_attribute_of_something_else_is_fine():
    class Fine(Observer):
        def after_batch(self, run):
            self.other.learn = 1

    assert Fine.__name__ == "Fine"


def test_fastais_cancel_exceptions_become_requests():
    with pytest.raises(CallbackError, match="raises CancelFitException; here one asks") as caught:

        class Cancels(Actor):
            def after_batch(self, run):
                if run.loss_value > 3:
                    raise CancelFitException()

    assert 'if run.loss_value > 3:\n              run.stop("why")' in caught.value.do

    with pytest.raises(CallbackError, match=r"run.skip_batch\(why\)"):

        class Skips(Actor):
            def before_batch(self, run):
                raise CancelBatchException


def test_a_bare_callback_must_say_what_it_is():
    with pytest.raises(CallbackError, match="does not say whether it watches or changes training") as caught:
        type("Bare", (Callback,), {"after_batch": noop})

    assert "class Bare(Observer) if it only looks" in caught.value.do


def test_nobody_is_both():
    with pytest.raises(CallbackError, match="Both is both Observer and Actor"):
        type("Both", (Observer, Actor), {})


def test_a_plain_mixin_of_callback_may_be_either():
    class Shared(Callback):
        def helper(self):
            return 1

    assert type("Looks", (Shared, Observer), {"after_batch": noop})().kind == "observer"
    with pytest.raises(CallbackError, match="Shared is neither Observer nor Actor"):
        Shared().kind  # noqa: B018


def test_an_unknown_field_of_run_is_named_with_the_nearest():
    with pytest.raises(CallbackError, match=r"reads run.lss, which is not there") as caught:

        class Typo(Observer):
            def after_batch(self, run):
                print(run.lss)

    assert caught.value.do == "write run.loss"

    with pytest.raises(CallbackError, match=r"write run.pct"):

        class Fastai(Observer):
            def after_batch(self, run):
                print(run.pct_train)


def test_an_observer_may_not_set_or_use_what_is_an_actors():
    with pytest.raises(CallbackError, match=r"observer Sets sets run.loss in after_loss") as caught:

        class Sets(Observer):
            def after_loss(self, run):
                run.loss = run.loss * 2

    assert "class Sets(Actor) with writes = {'loss'}" in caught.value.do

    with pytest.raises(CallbackError, match=r"reads run.stop, which is not there") as caught:

        class Stops(Observer):
            def after_batch(self, run):
                run.stop("enough")

    assert "class Stops(Actor)" in caught.value.do


def test_writes_are_names_that_can_be_written():
    with pytest.raises(CallbackError, match="writes 'los', which no callback can write") as caught:
        type("Typo", (Actor,), {"writes": {"los"}})
    assert caught.value.do == "write 'loss'"

    with pytest.raises(CallbackError, match="not a set of names") as caught:
        type("Text", (Actor,), {"writes": "loss"})
    assert caught.value.do == "writes = {'loss'}"

    with pytest.raises(CallbackError, match="declares writes, but it is no Actor"):
        type("Watcher", (Observer,), {"writes": {"loss"}})


@pytest.mark.parametrize("name", ["order", "run_after", "run_before"])
def test_fastais_order_is_refused_rather_than_ignored(name):
    with pytest.raises(CallbackError, match=f"{name} is fastai's and orders nothing here"):
        type("Ordered", (Observer,), {name: 10})


def test_a_hook_that_would_run_nothing_is_refused():
    with pytest.raises(CallbackError, match="generator or async"):

        class Yields(Observer):
            def after_batch(self, run):
                yield run.loss


def test_arguments_of_a_users_callback_are_checked():
    class Every(Observer):
        def __init__(self, every=10):
            self.every = every

    with pytest.raises(UnknownNameError, match="has no argument 'evry'"):
        Every(evry=3)


def test_a_name_is_a_word():
    class Named(Observer):
        pass

    assert Named().name == "Named"
    assert Named(name="first").name == "first"
    assert repr(Named(name="first")) == "Named(name='first')"
    with pytest.raises(CallbackError, match="a callback's name is a word, not ''"):
        Named(name="")


def test_a_hook_whose_source_is_gone_is_still_shown():
    space = {"Observer": Observer}
    with pytest.raises(CallbackError, match=r"def after_batch\(self, run\):\n          \.\.\."):
        exec("class Typed(Observer):\n    def after_batch(self):\n        pass", space)
