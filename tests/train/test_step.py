"""The step: all of it or nothing, whatever fails in it, with any mixture of policies."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader, TensorDataset

from surefast.callbacks.contract import Actor, Observer
from surefast.data.batch import Batch
from surefast.data.dataloaders import DataLoaders
from surefast.errors import DataError, DeterminismError, NonFiniteError, TaskError
from surefast.learner import Learner
from surefast.recipe.digest import digest
from surefast.task.loss import CrossEntropyLossFlat
from surefast.train.accumulate import GradientAccumulation
from surefast.train.average import EMA
from surefast.train.clip import GradientClip
from surefast.train.compiled import ChannelsLast, Compile
from surefast.train.fitting import Training
from surefast.train.policies import Policies
from surefast.train.precision import LossScale, MixedPrecision

POLICIES = {
    "accumulate": lambda: GradientAccumulation(2),
    "bf16": lambda: MixedPrecision("bf16"),
    "fp16": lambda: MixedPrecision("fp16"),
    "ema": lambda: EMA(0.9),
    "clip": lambda: GradientClip(0.1),
    "channels_last": ChannelsLast,
}
PAIRS = [pair for pair in itertools.combinations(POLICIES, 2) if pair != ("bf16", "fp16")]


def net() -> nn.Module:
    """Convolution, batch norm and dropout on 8x8 pictures."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(144, 3)
    )


def data(n: int = 44, bs: int = 8) -> DataLoaders:
    """Random pictures; the last batch is short."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(60, 3, 8, 8, generator=generator)
    y = torch.randint(0, 3, (60,), generator=generator)
    return DataLoaders(
        DataLoader(TensorDataset(x[:n], y[:n]), bs, shuffle=True),
        DataLoader(TensorDataset(x[44:], y[44:]), 8),
    )


def learner(model=net, dls: DataLoaders | None = None, **settings) -> Learner:
    """A Learner on those pictures."""
    return Learner(dls or data(), model, **{"loss_func": CrossEntropyLossFlat(), **settings})


def weights(learn: Learner) -> str:
    """The hash of all weights and buffers."""
    return digest(learn.model, repr)


@pytest.mark.parametrize("grains", [1, 3])
@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_any_two_policies_train_together_and_repeat(pair, grains):
    """Every pair, whole batches and grains: finite, and twice the same bits."""
    found = set()
    for _ in range(2):
        learn = learner(grains=grains, cbs=[POLICIES[name]() for name in pair])
        learn.fit_one_cycle(1, 1e-2)
        assert all(torch.isfinite(p).all() for p in learn.model.parameters())
        found.add((weights(learn), learn.validate()["valid_loss"]))
    assert len(found) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.timeout(600)
def test_compiled_training_repeats():
    """Twice the same bits, though the second has been seen in two shapes; without dropout as eager."""
    hashes = []
    for _ in range(2):
        learn = learner(cbs=[Compile()])
        learn.fit(1, 1e-2)
        hashes.append(weights(learn))
    assert hashes[0] == hashes[1]

    def sure():
        model = net()
        model[4] = nn.Identity()
        return model

    losses = []
    for cbs in ([Compile(), GradientClip(1.0), EMA(0.9)], [GradientClip(1.0), EMA(0.9)]):
        learn = learner(sure, cbs=cbs, grains=2)
        learn.fit(1, 1e-2)
        losses.append(learn.recorder.losses[-1])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


class BreakAt(Actor):
    """Raises at one event of step 2."""

    def __init__(self, event: str) -> None:
        super().__init__()
        self.at = event

    def after_pred(self, run):
        self._break("after_pred", run)

    def after_backward(self, run):
        self._break("after_backward", run)

    def before_step(self, run):
        self._break("before_step", run)

    def after_step(self, run):
        self._break("after_step", run)

    def _break(self, event, run):
        if event == self.at and run.step == 2:
            raise ZeroDivisionError(event)


@pytest.mark.parametrize("event", ["after_pred", "after_backward", "before_step", "after_step"])
@pytest.mark.parametrize("grains", [1, 2])
def test_an_error_anywhere_in_a_step_leaves_no_gradient_and_no_half_step(event, grains):
    """Weights and buffers are those before the step, or after the optimizer those after it."""
    states = []

    class Keep(Observer):
        def before_batch(self, run):
            states.append({name: value.clone() for name, value in learn.model.state_dict().items()})

    learn = learner(grains=grains)
    with pytest.raises(ZeroDivisionError):
        learn.fit(1, cbs=[BreakAt(event), Keep()])
    assert all(p.grad is None for p in learn.model.parameters())
    same = [torch.equal(value, states[-1][name]) for name, value in learn.model.state_dict().items()]
    assert not any(same) if event == "after_step" else all(same)


class OwnMean(nn.Module):
    """A buffer that the forward pass exchanges for another tensor, as users write it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(192, 3)
        self.register_buffer("mean", torch.zeros(192))

    def forward(self, x):
        x = x.flatten(1)
        if self.training:
            self.mean = self.mean * 0.9 + x.mean(0).detach() * 0.1
        return self.layer(x - self.mean)


def test_a_buffer_that_is_exchanged_is_part_of_the_step():
    """It is put back after an error and after lr_find; of several grains the mean is kept."""
    means = []

    class Keep(Observer):
        def before_batch(self, run):
            means.append(learn.model.mean.clone())

    learn = learner(OwnMean)
    with pytest.raises(ZeroDivisionError):
        learn.fit(1, cbs=[BreakAt("before_step"), Keep()])
    assert torch.equal(learn.model.mean, means[-1])
    assert means[-1].abs().sum() > 0
    learn.lr_find(num_it=15, show_plot=False)
    assert torch.equal(learn.model.mean, means[-1])
    whole, cut = learner(OwnMean, data(n=40)), learner(OwnMean, data(n=40), grains=2)
    whole.fit(1, 0.0)
    cut.fit(1, 0.0)
    assert torch.allclose(whole.model.mean, cut.model.mean, atol=1e-6)


def test_a_buffer_that_changes_its_shape_is_told():
    """A step could not put it back."""

    class Growing(OwnMean):
        def forward(self, x):
            self.mean = torch.zeros(len(self.mean) + 1)
            return self.layer(x.flatten(1))

    with pytest.raises(DeterminismError, match="changed the shape of buffer 'mean'"):
        learner(Growing).fit(1)


@pytest.mark.parametrize(
    ("grains", "where", "remedy"),
    [(1, "the batch of 1 samples", "bs"), (8, "grain 0 of a batch of 8", "fewer grains")],
)
def test_one_sample_under_batch_norm_is_told(grains, where, remedy):
    """torch's message names neither the batch nor a way out."""

    def small():
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 3))

    with pytest.raises(DataError, match=where) as caught:
        learner(small, data(n=1 if grains == 1 else 8), grains=grains).fit(1)
    assert remedy in str(caught.value)


def test_a_loss_without_a_gradient_is_told():
    """A detached loss, or a model frozen after the Learner was made."""
    with pytest.raises(TaskError, match="does not depend on any parameter that trains"):
        learner(loss_func=lambda pred, y: F.cross_entropy(pred, y).detach()).fit(1)


class BadGradient(nn.Module):
    """A finite output with a gradient of NaN: the root at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(192, 3)

    def forward(self, x):
        return self.layer(x.flatten(1)) + (self.layer.weight * 0).sum().abs().sqrt()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_gradients_that_are_never_finite_are_told(precision):
    """Also with loss scaling, which would otherwise skip every step of the run in silence."""
    learn = learner(BadGradient, precision=precision)
    with pytest.raises(NonFiniteError, match="NaN or Inf in the gradients"):
        learn.fit(10)


def test_an_overflow_is_skipped_and_the_scale_halved():
    """Until then, float16 skips the step and goes on."""
    scale = LossScale(4.0, growth_interval=2)
    scale.update(finite=False)
    assert (scale.scale, scale.exhausted) == (2.0, False)
    scale.update(finite=True)
    scale.update(finite=True)
    assert scale.scale == 4.0
    for _ in range(20):
        scale.update(finite=False)
    assert scale.exhausted


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_loss_is_a_float32_number(precision):
    """Whatever a user's function gives: sums over grains and the loss scale need its range."""
    seen = set()

    class See(Observer):
        def after_loss(self, run):
            seen.add((run.pred.dtype.itemsize, run.loss.dtype))

    def half(pred, y):
        return -pred.log_softmax(1).gather(1, y[:, None]).mean()

    learner(loss_func=half, precision=precision, cbs=[See()]).fit(1)
    assert seen == {(2, torch.float32)}


class Reads(TorchFunctionMode):
    """Counts what makes the host wait for a card."""

    WAITS = frozenset({"item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "nonzero"})

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in self.WAITS:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("clip", [None, GradientClip(0.1)])
def test_one_number_is_read_in_a_step_on_a_card(clip):
    """The step is told it runs on an accelerator: one read, after the last backward."""
    learn = learner()
    train = learn.dls.train
    training = Training(
        model=learn.model, groups=learn.groups, frozen=0, loss=learn.loss_func, metrics=[],
        policies=Policies(clip=clip), device=torch.device("mps"), seed=1, grains=1, train_bn=True,
        average=None,
    )  # fmt: skip
    run = training.state(torch.optim.SGD([{"params": learn.model.parameters(), "group": 0}]), train, None, 1)
    step = training.step(run, train, {}, lambda _: None)
    batch: Batch = next(iter(train.batches(1, 0)))
    step.update(run, batch)  # the first one checks the targets
    with Reads() as reads:
        step.update(run, batch)
    assert reads.found == ["tolist"]


def test_five_hundred_steps_hold_no_more_tensors_than_twenty():
    """Nothing keeps a batch, a graph or an output."""
    import gc

    counts = []

    class Count(Observer):
        def before_batch(self, run):
            if run.step in {20, 520}:
                gc.collect()
                counts.append(sum(type(o) is torch.Tensor for o in gc.get_objects()))

    x, y = torch.randn(40, 4), torch.randint(0, 2, (40,))
    dls = DataLoaders([(x[i : i + 4], y[i : i + 4]) for i in range(0, 40, 4)])
    learn = learner(lambda: nn.Linear(4, 2), dls, grains=2, cbs=[Count(), EMA(0.9), GradientClip(1.0)])
    with learn.no_bar():
        learn.fit(53)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("grains", [1, 2])
def test_a_batch_in_which_no_target_counts_trains_nothing(grains):
    """Every target is ignored in one batch: its loss is 0, and the others train as before."""
    x, y = torch.randn(24, 4), torch.randint(0, 2, (24,))
    y[8:16] = -100
    batches = [(x[i : i + 8], y[i : i + 8]) for i in range(0, 24, 8)]
    loss = CrossEntropyLossFlat(ignore_index=-100)
    learn = learner(lambda: nn.Linear(4, 2), DataLoaders(batches, batches), loss_func=loss, grains=grains)
    learn.fit(1, 1e-2)
    assert learn.recorder.losses[1] == 0
    assert learn.recorder.losses[0] > 0


def test_the_training_loss_weighs_what_counted():
    """The row of an epoch is the mean over targets, not over batches or samples."""
    x, y = torch.randn(16, 4), torch.randint(0, 2, (16,))
    y[:7] = -100  # one target counts in the first batch, eight in the second
    batches = [(x[:8], y[:8]), (x[8:], y[8:])]
    learn = learner(
        lambda: nn.Linear(4, 2),
        DataLoaders(batches, batches),
        loss_func=CrossEntropyLossFlat(ignore_index=-100),
    )
    learn.fit(1, 0.0)
    first, second = learn.recorder.losses
    row = learn.recorder.rows[0]
    assert row["train_loss"] == pytest.approx((first + 8 * second) / 9, rel=1e-6)
    assert row["train_loss"] == pytest.approx(row["valid_loss"], rel=1e-6)


def test_channels_last_arranges_weights_and_keeps_their_values():
    """Convolution weights are in NHWC order after the fit, and a file of them is read by any model."""
    learn = learner(cbs=[ChannelsLast()])
    before = learn.model[0].weight.clone()
    learn.fit(1, 0.0)
    weight = learn.model[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    assert torch.equal(weight, before)
    again = learner().load(learn.save("nhwc"))
    assert torch.equal(again.model[0].weight, before)
    assert again.validate() == learner().load(learn.run.model_path).validate()
