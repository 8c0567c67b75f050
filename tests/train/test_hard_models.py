"""Models, losses and data that are not as the textbook has them; and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from surefast.callbacks.contract import Actor, Observer
from surefast.data.dataloaders import DataLoaders
from surefast.errors import ArgumentError, TaskError
from surefast.learner import Learner
from surefast.recipe.digest import digest
from surefast.task.metric import accuracy
from surefast.train.precision import MixedPrecision


def data(*, targets: int = 1, valid: bool = True) -> DataLoaders:
    """120 rows of three classes, and as many targets as asked for."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(120, 8, generator=generator)
    ys = [x[:, :3].argmax(1), x[:, 4]][:targets]
    train = DataLoader(TensorDataset(x[:80], *(y[:80] for y in ys)), 16, shuffle=True)
    rest = DataLoader(TensorDataset(x[80:], *(y[80:] for y in ys)), 16)
    return DataLoaders(train, *([rest] if valid else []), n_inp=1)


def learner(model=lambda: nn.Linear(8, 3), dls: DataLoaders | None = None, **settings) -> Learner:
    """A Learner on that data."""
    return Learner(dls or data(), model, **{"loss_func": nn.CrossEntropyLoss(), **settings})


class Pair(NamedTuple):
    """What a model of this file gives."""

    scores: Tensor
    hidden: Tensor


class Several(nn.Module):
    """Gives its scores inside of something."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.layer = kind, nn.Linear(8, 3)

    def forward(self, x):
        scores = self.layer(x)
        return {"tuple": (scores, x), "dict": {"scores": scores, "x": x}, "named": Pair(scores, x)}[self.kind]


KINDS = {"tuple": lambda p: p[0], "dict": lambda p: p["scores"], "named": lambda p: p.scores}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"grains": 2}, {"precision": "bf16"}], ids=str)
def test_a_model_may_give_tuples_and_dicts(kind, settings):
    """Loss and metric of the user pick what they need; it trains as the plain model does."""
    pick = KINDS[kind]

    def loss(p, y):
        return F.cross_entropy(pick(p), y)

    def right(p, y):
        return (pick(p).argmax(1) == y).float().mean()

    learn = learner(lambda: Several(kind), loss_func=loss, metrics=[right], **settings)
    learn.fit(2, 1e-2)
    preds, targets, losses = learn.get_preds(with_loss=True)
    assert pick(preds).shape == (40, 3)
    assert pick(preds).dtype == torch.float32
    assert type(preds).__name__ == {"tuple": "tuple", "dict": "dict", "named": "Pair"}[kind]
    row = learn.validate()
    assert row["right"] == pytest.approx((pick(preds).argmax(1) == targets).float().mean().item())
    assert losses.mean().item() == pytest.approx(row["valid_loss"], rel=1e-3)


@pytest.mark.parametrize("part", ["loss", "metric"])
def test_what_takes_one_tensor_says_so(part):
    """The class losses and metrics name what the model gives, and how to pick from it."""
    settings = {} if part == "loss" else {"loss_func": lambda p, y: F.cross_entropy(p["scores"], y)}
    learn = learner(lambda: Several("dict"), metrics=[accuracy], **settings)
    with pytest.raises(TaskError, match=r"takes one tensor.*gives a dict with scores, x"):
        learn.fit(1)


def test_several_targets_come_back():
    """get_preds gives them all."""
    learn = learner(dls=data(targets=2), loss_func=lambda p, y, z: F.cross_entropy(p, y) + z.mean() * 0)
    learn.fit(1)
    _, targets = learn.get_preds()
    assert [t.shape for t in targets] == [(40,), (40,)]


def test_data_without_targets_is_told_at_the_first_batch():
    """Not after an epoch, when validation asks for them; predictions work."""
    learn = learner(dls=data(targets=0), loss_func=lambda p: p.pow(2).mean())
    with pytest.raises(TaskError, match="got no target"):
        learn.fit(1)
    assert not learn.recorder.losses
    assert learn.get_preds()[1] is None


class Scaled(nn.Module):
    """A loss that learns a number."""

    def __init__(self) -> None:
        super().__init__()
        self.t = nn.Parameter(torch.tensor(1.0))

    def forward(self, p, y):
        return F.cross_entropy(p * self.t, y)


def test_a_loss_that_learns_must_be_in_a_group():
    """In none it would stay as it is in silence; in one it trains."""
    with pytest.raises(ArgumentError, match="the loss has parameters that would never train: t"):
        learner(loss_func=Scaled())
    loss = Scaled()
    learn = learner(loss_func=loss, splitter=lambda m: [list(m.parameters()), [loss.t]])
    learn.fit(1, 1e-2)
    assert loss.t.item() != 1
    assert loss.t.grad is None


def _frozen() -> nn.Module:
    return nn.Linear(8, 3).requires_grad_(False)


@pytest.mark.parametrize(
    ("model", "text"), [(nn.Identity, "the model has no parameters"), (_frozen, "the model is frozen")]
)
def test_nothing_to_train_is_told(model, text):
    """Validation works all the same."""
    learn = learner(model, loss_func=lambda p, y: p.mean())
    assert "valid_loss" in learn.validate()
    with pytest.raises(ArgumentError, match=text):
        learn.fit(1)
    learn = learner()
    learn.model.requires_grad_(False)
    with pytest.raises(ArgumentError, match=r"learn\.unfreeze\(\)"):
        learn.fit(1)


def test_parameters_without_a_shape_are_told():
    """Lazy layers."""
    with pytest.raises(ArgumentError, match=r"0\.weight of the model has no shape"):
        learner(lambda: nn.Sequential(nn.LazyLinear(3)))


def test_data_sets_that_are_not_there_are_told():
    """No validation data, or a number too high."""
    learn = learner(dls=data(valid=False))
    learn.fit(1)
    assert learn.validate(ds_idx=0)["valid_loss"] > 0
    with pytest.raises(ArgumentError, match=r"there is no validation data(.|\n)*ds_idx=0"):
        learn.get_preds()
    with pytest.raises(ArgumentError, match="there is no data set 3"):
        learn.validate(3)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: learner().fit("3"), "n_epoch='3' is no number of epochs"),
        (lambda: learner().fit(1.5), "n_epoch=1.5 is no number of epochs"),
        (lambda: learner().fine_tune(0), "epochs=0 trains nothing"),
        (lambda: learner().fine_tune(1, freeze_epochs=-1), "freeze_epochs=-1 is no number"),
        (lambda: learner().fit(1, lr="1e-3"), "the learning rate '1e-3' is no number"),
        (lambda: learner().fit(1, lr=[None]), r"the learning rate \[None\] is no number"),
        (lambda: learner(seed="a"), "seed='a' is no whole number"),
        (lambda: learner(threads=0), "a process has at least one"),
        (lambda: learner(device="gpu"), "device='gpu' is not known"),
        (lambda: learner().lr_find(start_lr=0), "start_lr=0 and end_lr=10.0 are no range"),
        (lambda: learner().lr_find(1, 0.1), "are no range"),
        (lambda: learner().lr_find(num_it=3), "num_it=3 steps leave too few points"),
    ],
)
def test_impossible_arguments_are_told_before_anything_is_trained(call, text):
    """With the argument's name."""
    with pytest.raises(ArgumentError, match=text):
        call()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a card")
def test_a_device_that_is_not_there_is_told():
    """Not by torch, at the first batch."""
    with pytest.raises(ArgumentError, match="device='cuda' is not on this machine"):
        learner(device="cuda")


def test_fine_tune_may_leave_out_its_first_part():
    """freeze_epochs=0 trains everything from the start."""
    learn = learner()
    learn.fine_tune(1, freeze_epochs=0)
    assert len(learn.recorder.rows) == 1
    assert learn.frozen == 0


def test_gradients_of_other_code_are_not_trained_on():
    """A backward by hand before a fit."""
    hashes = []
    for by_hand in (False, True):
        learn = learner()
        if by_hand:
            learn.model(torch.ones(2, 8)).sum().backward()
        learn.fit(1)
        hashes.append(digest(learn.model, repr))
    assert hashes[0] == hashes[1]


def test_a_broken_epoch_is_not_drawn_again():
    """The next fit sees its data in another order, as it would have without the error."""

    class Break(Actor):
        def before_backward(self, run):
            if run.step == 3:
                raise ZeroDivisionError

    class Keep(Observer):
        def before_batch(self, run):
            seen.append(run.xb[0][0, 0].item())

    seen: list[float] = []
    learn = learner(cbs=Keep())
    with pytest.raises(ZeroDivisionError):
        learn.fit(1, cbs=Break())
    first = seen[:]
    seen.clear()
    learn.fit(1)
    assert seen[:3] != first[:3]
    again = seen[:]
    seen.clear()
    learner(cbs=Keep()).fit(2)
    assert seen[5:] == again


def test_mixed_precision_says_once_what_it_is(capsys):
    """Printed and in the recipe, of the Learner or of the fit that has it; a choice is not printed."""
    learn = learner(cbs=[MixedPrecision()])
    learn.fit(1)
    learn.fit(1)
    assert capsys.readouterr().out.count("MixedPrecision() is bf16 on cpu") == 1
    assert learn.recipe.flat()["setup.precision"].value == "bf16"
    learn = learner()
    learn.fit(1, cbs=[MixedPrecision()])
    assert "MixedPrecision() is bf16 on cpu" in capsys.readouterr().out
    assert learn.recipe.flat()["fit[0].precision"].value == "bf16"
    learner(cbs=[MixedPrecision("bf16")])
    assert "is bf16 on" not in capsys.readouterr().out


SCRIPT = """
import os, signal, sys, torch
from torch import nn
from surefast.callbacks.contract import Observer
from surefast.data.dataloaders import DataLoaders
from surefast.learner import Learner

class Press(Observer):
    def {event}(self, run):
        if run.step >= 7:
            for _ in range({times}):
                os.kill(os.getpid(), signal.SIGINT)

x, y = torch.randn(64, 4), torch.randint(0, 2, (64,))
data = [(x[i : i + 8], y[i : i + 8]) for i in range(0, 64, 8)]
learn = Learner(DataLoaders(data, data), lambda: nn.Linear(4, 2), loss_func=nn.CrossEntropyLoss())
handler = signal.getsignal(signal.SIGINT)
try:
    learn.fit(100, cbs=[Press()])
except KeyboardInterrupt:
    steps = {{int(state["step"]) for state in learn.opt.state.values()}}
    clean = all(p.grad is None for p in learn.model.parameters())
    print("interrupted", steps, clean, signal.getsignal(signal.SIGINT) is handler)
learn.fit(1)
print("trained on to", learn.recorder.steps[-1], (learn.run.path / "model.safetensors").exists())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    ("event", "times", "steps"), [("after_pred", 1, 8), ("after_pred", 2, 7), ("before_validate", 1, 8)]
)
def test_ctrl_c_ends_after_the_step(tmp_path, event, times, steps):
    """A real signal: the step it came in is finished; a second press does not wait; the learner goes on."""
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(event=event, times=times)],
        cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert f"interrupted {{{steps}}} True True" in ran.stdout, ran.stdout + ran.stderr
    assert f"trained on to {steps + 7} True" in ran.stdout


@pytest.mark.parametrize(
    "loss", [nn.CrossEntropyLoss(label_smoothing=0.1), F.cross_entropy], ids=["module", "function"]
)
def test_a_loss_of_torch_stands_in_the_recipe_as_what_it_means(loss):
    """So that the recipe can make it again; it is still the user's choice."""
    value = learner(loss_func=loss).recipe.flat()["setup.loss_func.call"]
    assert value.value.endswith("CrossEntropyLossFlat")
    assert value.origin == "user"
