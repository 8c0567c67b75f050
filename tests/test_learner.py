"""The Learner: what a user does with it, and what stays whole when something goes wrong."""

from __future__ import annotations

import json
import os
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from surefast.callbacks.contract import Actor, Observer
from surefast.data.dataloaders import DataLoaders
from surefast.errors import (
    ArgumentError,
    CallbackError,
    ConflictError,
    ExplicitError,
    NonFiniteError,
    RunFolderError,
    TaskError,
    UnknownNameError,
)
from surefast.learner import Learner
from surefast.recipe.digest import digest
from surefast.run.event_log import read_events
from surefast.task.metric import accuracy, error_rate
from surefast.train.accumulate import GradientAccumulation
from surefast.train.average import EMA
from surefast.train.clip import GradientClip
from surefast.train.compiled import ChannelsLast
from surefast.train.optimizer import SGD
from surefast.train.precision import MixedPrecision


def net() -> nn.Module:
    """Batch norm and dropout, so that order and state matter."""
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))


def data(*, bad: int | None = None) -> DataLoaders:
    """Three classes that a line can tell apart; ``bad`` poisons one sample."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(200, 8, generator=generator)
    y = x[:, :3].argmax(1)
    if bad is not None:
        x[bad, 0] = float("nan")
    train = DataLoader(TensorDataset(x[:160], y[:160]), 16, shuffle=True)
    return DataLoaders(train, DataLoader(TensorDataset(x[160:], y[160:]), 16))


def learner(dls: DataLoaders | None = None, **settings) -> Learner:
    """A Learner on that data."""
    settings = {"loss_func": nn.CrossEntropyLoss(), "metrics": [accuracy, error_rate]} | settings
    return Learner(dls or data(), net, **settings)


def weights(learn: Learner) -> str:
    """The hash of all weights and buffers."""
    return digest(learn.model, repr)


def test_the_same_recipe_gives_the_same_bits_and_another_seed_others():
    """Twice the same: equal weights and equal recipe; another seed: neither."""
    hashes = []
    for seed in (42, 42, 43):
        learn = learner(seed=seed)
        learn.fit_one_cycle(2, 1e-2)
        hashes.append((weights(learn), learn.recipe.hash))
    assert hashes[0] == hashes[1]
    assert hashes[0][0] != hashes[2][0]
    assert hashes[0][1] != hashes[2][1]


@pytest.mark.parametrize("look", ["lr_find", "validate", "get_preds", "one_batch", "noise", "summary"])
def test_looking_changes_nothing(look):
    """What is done before a fit leaves its weights alone, and global generators too."""
    plain = learner()
    plain.fit(1, 1e-2)
    learn = learner()
    state = torch.get_rng_state()
    match look:
        case "lr_find":
            learn.lr_find(num_it=30, show_plot=False)
        case "validate":
            learn.validate()
        case "get_preds":
            learn.get_preds()
        case "one_batch":
            learn.dls.one_batch()
        case "summary":
            assert "Linear" in learn.summary()
        case "noise":
            torch.rand(1)
            np.random.rand()
    if look != "noise":
        assert torch.equal(state, torch.get_rng_state())
    learn.fit(1, 1e-2)
    assert weights(learn) == weights(plain)


def test_training_leaves_global_generators_and_flags_alone():
    """After a fit, the process is as it was before."""
    before = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    learner(threads=2).fit(1)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (torch.are_deterministic_algorithms_enabled(), torch.get_num_threads())


def test_it_learns_and_says_so():
    """Accuracy rises well above chance; validate, predictions and the history agree."""
    learn = learner()
    learn.fit_one_cycle(12, 2e-2)
    row = learn.validate()
    assert row["accuracy"] > 0.8
    assert row["accuracy"] == pytest.approx(1 - row["error_rate"])
    last = learn.recorder.rows[-1]
    assert {name: last[name] for name in row} == row
    preds, targets, decoded, losses = learn.get_preds(with_decoded=True, with_loss=True)
    assert (decoded == targets).float().mean().item() == pytest.approx(row["accuracy"])
    assert losses.mean().item() == pytest.approx(row["valid_loss"], rel=1e-5)
    assert preds.sum(1).tolist() == pytest.approx([1.0] * 40, rel=1e-5)


def test_the_run_folder_tells_the_run():
    """Recipe, events, history and weights are there; the log has a line for each step and epoch."""
    learn = learner()
    learn.fit(2)
    folder = learn.run.path
    kinds = [line["kind"] for line in read_events(folder / "events.jsonl")]
    assert kinds.count("step") == 20
    assert kinds.count("epoch") == 2
    assert (folder / "history.csv").read_text().splitlines()[0].startswith("epoch,step,train_loss,valid_loss")
    assert "fit_one_cycle" not in (folder / "recipe.toml").read_text()
    again = learner()
    again.load(folder / "model.safetensors")
    assert weights(again) == weights(learn)
    lines = (folder / "events.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["weights"] == weights(learn)


def test_nan_is_caught_before_the_optimizer_step():
    """The error names step, cause and sample; weights are those before the step; the learner works on."""
    learn = learner(data(bad=37))
    learn.opt = None
    steps = []

    class Watch(Observer):
        def before_step(self, run):
            steps.append(run.step)

    with pytest.raises(NonFiniteError, match=r"step \d+ \(epoch 0, batch \d+\)") as caught:
        learn.fit(1, cbs=Watch())
    assert "the inputs of the batch hold NaN" in str(caught.value)
    assert all(torch.isfinite(p).all() for p in learn.model.parameters())
    assert all(torch.isfinite(b).all() for b in learn.model.buffers())
    assert all(p.grad is None for p in learn.model.parameters())
    learn.dls = data()
    learn.fit(1)
    assert learn.validate()["valid_loss"] > 0


def test_a_huge_learning_rate_is_told():
    """Without a bad sample, the remedy is the learning rate."""
    with pytest.raises(NonFiniteError, match="lower the learning rate"):
        learner(opt_func=partial(SGD, mom=0.9)).fit(20, lr=1e30)


def test_after_any_exception_the_learner_works():
    """Out of memory, Ctrl-C and a user's bug: teardown runs last in first out, and a fit works again."""
    log = []

    class Break(Actor):
        def __init__(self, error):
            super().__init__()
            self.error = error

        def after_loss(self, run):
            if run.step == 3:
                raise self.error

        def after_fit(self, run):
            log.append("actor")

    for error in (torch.OutOfMemoryError("planted"), KeyboardInterrupt(), ZeroDivisionError("a bug")):
        learn = learner()
        with pytest.raises(type(error)):
            learn.fit(1, cbs=Break(error))
        assert log.pop() == "actor"
        assert all(p.grad is None for p in learn.model.parameters())
        learn.fit(1)
        assert learn.validate()["valid_loss"] > 0


def test_predictions_fire_no_training_event():
    """validate, get_preds and lr_find are silent."""
    heard = []

    class Ear(Observer):
        def before_fit(self, run):
            heard.append("before_fit")

        def after_batch(self, run):
            heard.append("after_batch")

    learn = learner(cbs=Ear())
    learn.validate()
    learn.get_preds()
    learn.lr_find(num_it=20, show_plot=False)
    assert heard == []
    learn.fit(1)
    assert heard[0] == "before_fit"


def test_freezing_trains_what_is_left():
    """Only the last group moves, norm layers of frozen groups too unless train_bn is off."""

    def split(model):
        return [list(model[:2].parameters()), list(model[2:].parameters())]

    for train_bn in (True, False):
        learn = learner(splitter=split, train_bn=train_bn)
        before = {k: v.clone() for k, v in learn.model.state_dict().items()}
        learn.freeze()
        learn.fit(1, 1e-2)
        after = learn.model.state_dict()
        moved = {k for k in after if not torch.equal(after[k], before[k])}
        assert "0.weight" not in moved
        assert "4.weight" in moved
        assert ("1.weight" in moved) is train_bn
        assert ("1.running_mean" in moved) is train_bn
        learn.unfreeze()
        learn.fit(1, slice(1e-3, 1e-2))
        assert learn.recorder.lrs[-1] == [1e-3, pytest.approx(1e-2)]
        assert not torch.equal(learn.model.state_dict()["0.weight"], before["0.weight"])


@pytest.mark.parametrize(
    "policy",
    [GradientClip(0.1), GradientAccumulation(3), EMA(0.9), MixedPrecision("bf16"), MixedPrecision("fp16")],
)
def test_policies_train_and_repeat(policy):
    """Each policy changes the arithmetic, and twice the same gives the same bits."""
    plain = learner()
    plain.fit(2, 1e-2)
    hashes = set()
    for _ in range(2):
        learn = learner(cbs=[policy])
        learn.fit(2, 1e-2)
        hashes.add((weights(learn), json.dumps(learn.validate())))
    assert len(hashes) == 1
    assert hashes != {(weights(plain), json.dumps(plain.validate()))}


def test_average_is_what_is_evaluated():
    """With EMA, validation uses the average, and the raw weights stay what they are."""
    learn = learner(cbs=[EMA(0.95)])
    learn.fit(3, 1e-2)
    averaged = learn.validate()["valid_loss"]
    learn.average = None
    assert learn.validate()["valid_loss"] != averaged


def test_policies_that_contradict_are_refused():
    """Two of a kind, or precision= against MixedPrecision(), name both."""
    with pytest.raises(ConflictError, match="two policies decide the clip"):
        learner(cbs=[GradientClip(1.0), GradientClip(2.0)])
    with pytest.raises(ConflictError, match=r"precision='fp16' and MixedPrecision\(\) disagree"):
        learner(precision="fp16", cbs=[MixedPrecision("bf16")])
    with pytest.raises(CallbackError, match=r"make one: cbs=\[ChannelsLast\(\)\]"):
        learner(cbs=[ChannelsLast])


def test_wrong_arguments_are_told():
    """Unknown names get the nearest known one; impossible values a remedy."""
    with pytest.raises(UnknownNameError, match="write 'metrics'"):
        Learner(data(), net, metric=accuracy)
    with pytest.raises(UnknownNameError, match="write 'n_epoch'"):
        learner().fit(n_epochs=1)
    with pytest.raises(ArgumentError, match="n_epoch=0 trains nothing"):
        learner().fit(0)
    with pytest.raises(TaskError, match="pass loss_func="):
        Learner(data(), net)
    with pytest.raises(ArgumentError, match="use 1 or more"):
        learner(grains=0)
    with pytest.raises(ArgumentError, match="precision"):
        learner(precision="fp8")
    with pytest.raises(ArgumentError, match="determinism"):
        learner(determinism="maybe")


def test_a_head_that_does_not_fit_is_told():
    """Too few outputs for the classes: the error names sizes before the first update."""
    learn = Learner(data(), lambda: nn.Linear(8, 2), loss_func=nn.CrossEntropyLoss())
    with pytest.raises(TaskError, match="2"):
        learn.fit(1)


def test_explicit_defaults_refuse_and_accept():
    """The refusal writes defaults.toml; accepting it, every value counts as the user's."""
    with pytest.raises(ExplicitError, match=r"defaults\.toml"):
        learner(defaults="explicit").fit(1)
    assert os.path.exists("defaults.toml")
    learn = learner(defaults="defaults.toml")
    learn.fit(1)
    assert not learn.recipe.defaults()


def test_a_run_folder_that_cannot_be_made_is_found_before_training():
    """A file in its place: nothing is trained."""
    with open("taken", "w") as file:
        file.write("x")
    learn = learner(run_dir="taken/runs")
    before = weights(learn)
    with pytest.raises(RunFolderError, match="taken"):
        learn.fit(1)
    assert weights(learn) == before


def test_fit_sgdr_and_flat_cos():
    """Seven epochs of three cycles; the flat rate stays flat for three quarters."""
    learn = learner()
    learn.fit_sgdr(3, 1, 1e-2)
    assert len(learn.recorder.rows) == 7
    learn = learner()
    learn.fit_flat_cos(2, 1e-2)
    rates = [lr for (lr,) in learn.recorder.lrs]
    assert rates[:15] == [1e-2] * 15
    assert rates[-1] < 2e-3


def test_fine_tune_is_two_fits():
    """The recipe has both, with what was frozen and the rates fastai would use."""
    learn = learner(splitter=lambda m: [list(m[:2].parameters()), list(m[2:].parameters())])
    learn.fine_tune(2, base_lr=1e-2)
    flat = learn.recipe.flat()
    assert (flat["fit[0].frozen"].value, flat["fit[1].frozen"].value) == (1, 0)
    assert flat["fit[0].pct_start"].value == 0.99
    assert [row["epoch"] for row in learn.recorder.rows] == [0, 1, 2]
    assert max(lr[-1] for lr in learn.recorder.lrs[10:]) == pytest.approx(5e-3, rel=1e-2)


def test_stop_and_skip_are_recorded():
    """Who asked and why is in the event log."""

    class Quitter(Actor):
        def before_batch(self, run):
            if run.step == 1:
                run.skip_batch("looks odd")
            if run.step == 4:
                run.stop("enough")

    learn = learner()
    learn.fit(5, cbs=Quitter())
    requests = [e for e in read_events(learn.run.path / "events.jsonl") if e["kind"] == "callback_request"]
    assert [(e["callback"], e["why"]) for e in requests] == [("Quitter", "looks odd"), ("Quitter", "enough")]
    assert len(learn.recorder.rows) == 1
