"""What the recipe and the run folder say is what happened: refused, broken, changed and averaged fits."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from surefast.callbacks.contract import Actor, Observer
from surefast.data.dataloaders import DataLoaders
from surefast.errors import ConflictError, ExplicitError, SurefastWarning
from surefast.learner import Learner
from surefast.recipe.digest import digest
from surefast.run.event_log import read_events
from surefast.train.average import EMA
from surefast.train.optimizer import SGD, AdamW
from surefast.train.weights import load_state


def learner(**settings) -> Learner:
    """A small Learner on ready batches."""
    generator = torch.Generator().manual_seed(5)
    batches = [
        (torch.randn(8, 4, generator=generator), torch.randint(0, 2, (8,), generator=generator))
        for _ in range(6)
    ]
    return Learner(DataLoaders(batches, batches), small, loss_func=nn.CrossEntropyLoss(), **settings)


def small() -> nn.Module:
    """A model of 22 numbers."""
    return nn.Sequential(nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 2))


class First(Actor):
    """Writes the loss."""

    writes = {"loss"}

    def after_loss(self, run):
        run.loss = run.loss * 1.0


class Second(First):
    """Writes the loss too."""


def test_a_refused_fit_is_not_in_the_recipe():
    """A conflict is found before the fit is noted; the next one is the first."""
    learn = learner()
    with pytest.raises(ConflictError, match=r"First.*Second|Second.*First"):
        learn.fit(5, cbs=[First(), Second()])
    learn.fit(1)
    assert [learn.recipe.fit_call(i).values["n_epoch"].value for i in range(len(learn.recipe.fits))] == [1]


def test_a_fit_that_was_broken_off_says_after_how_many_steps():
    """So another run of its recipe shows that it did more."""

    class Fall(Actor):
        def before_batch(self, run):
            if run.step == 2:
                raise KeyboardInterrupt

    learn = learner()
    with pytest.raises(KeyboardInterrupt):
        learn.fit(10, cbs=Fall())
    steps = learn.recipe.flat()["facts.fit0_steps"]
    assert (steps.value, steps.why) == (2, "broken off")
    learn.fit(1)
    assert learn.recipe.flat()["facts.fit1_steps"].value == 6
    ends = [line["end"] for line in read_events(learn.run.path / "events.jsonl") if line["kind"] == "fit_end"]
    assert ends == ["broken off", "finished"]


def test_what_is_changed_on_the_learner_is_in_the_recipe():
    """Another seed, other data and loaded weights between two fits change the recipe, not only the bits."""
    plain, changed = learner(), learner()
    for learn in (plain, changed):
        learn.fit(1)
        path = learn.save("one")
    assert plain.recipe.hash == changed.recipe.hash
    changed.seed = 7
    changed.dls = learner().dls
    changed.load(path)
    for learn in (plain, changed):
        learn.fit(1)
    flat = changed.recipe.flat()
    assert flat["fit[1].learner_seed"].value == 7
    assert "fit[1].loaded" in flat
    assert any(name.startswith("fit[1].learner_dls") for name in flat)
    assert plain.recipe.hash != changed.recipe.hash


def test_the_average_is_what_is_saved():
    """Weights in the run folder, from save() and in the log are those that were validated."""
    learn = learner(cbs=EMA(0.9))
    learn.fit(2, 1e-1)
    averaged = digest(learn.average.module, repr)
    again = learner().load(learn.run.path / "model.safetensors")
    assert digest(again.model, repr) == averaged != digest(learn.model, repr)
    assert set(load_state(learn.save("avg"))) == set(learn.model.state_dict())
    assert again.validate() == learn.validate()


def test_an_observer_that_keeps_failing_is_told_at_the_end():
    """Training goes on, and a warning names it."""

    class Broken(Observer):
        def after_batch(self, run):
            raise ZeroDivisionError("a bug")

    with pytest.warns(SurefastWarning, match="Broken"):
        learner().fit(1, cbs=Broken())


def test_momentum_is_known_without_a_schedule():
    """An actor may read it in any fit."""
    seen = []

    class Look(Observer):
        def after_batch(self, run):
            seen.append(list(run.moms))

    learner().fit(1, cbs=Look())
    assert seen[0] == [0.9]


def test_a_fit_refused_for_its_defaults_is_not_in_the_recipe():
    """The list that was accepted for one fit lacks the defaults of another kind; only the first stays."""
    with pytest.raises(ExplicitError):
        learner(defaults="explicit").fit(1)
    learn = learner(defaults="defaults.toml")
    learn.fit(1)
    with pytest.raises(ExplicitError, match="pct_start"):
        learn.fit_one_cycle(1)
    assert len(learn.recipe.fits) == 1


@pytest.mark.parametrize("opt_func", [AdamW, partial(SGD, mom=0.9)])
def test_the_schedule_of_momentum_reaches_the_optimizer(opt_func):
    """What the recorder says of each step is what the step was made with."""
    seen = []

    class Look(Observer):
        def before_step(self, run):
            group = learn.opt.param_groups[0]
            seen.append(group["betas"][0] if "betas" in group else group["momentum"])

    learn = learner(opt_func=opt_func)
    learn.fit_one_cycle(2, 1e-2, cbs=Look())
    assert seen == [mom for mom, *_ in learn.recorder.moms]
    assert min(seen) == pytest.approx(0.85)
    assert seen[0] == pytest.approx(0.95)
