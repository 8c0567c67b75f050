"""A Learner gives the same bits as the same training written by hand in PyTorch."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from surefast.data.dataloaders import DataLoaders
from surefast.keys.generator import seed_model, seeded
from surefast.keys.key import DEFAULT_SEED, make_key
from surefast.learner import Learner
from surefast.train.accumulate import GradientAccumulation
from surefast.train.clip import GradientClip

CPU = torch.device("cpu")


def net() -> nn.Module:
    """A model with everything that could drift: batch norm, dropout, biases."""
    return nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 5))


@pytest.fixture
def dls() -> DataLoaders:
    """250 samples in batches of 32; the last batch is short and dropped."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(250, 20, generator=generator), torch.randint(0, 5, (250,), generator=generator)
    train = DataLoader(TensorDataset(x[:200], y[:200]), 32, shuffle=True, drop_last=True)
    return DataLoaders(train, DataLoader(TensorDataset(x[200:], y[200:]), 32))


def test_fit_equals_a_hand_written_loop(dls):
    """Three epochs of AdamW with clipping: every weight and buffer has the same bits."""
    learn = Learner(dls, net, loss_func=nn.CrossEntropyLoss(), cbs=[GradientClip(0.5)])
    learn.fit(3, lr=1e-2)

    with seeded(make_key(DEFAULT_SEED, "init")):
        model = net()
    norms = {p for m in model if isinstance(m, nn.BatchNorm1d) for p in m.parameters()}
    plain = [p for n, p in model.named_parameters() if n.endswith("bias") or p in norms]
    decayed = [p for p in model.parameters() if all(p is not q for q in plain)]
    opt = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 1e-2}, {"params": plain, "weight_decay": 0.0}], lr=1e-2
    )
    step = 0
    for epoch in range(3):
        for batch in dls.train.batches(DEFAULT_SEED, epoch):
            (xb,), (yb,) = batch.x, batch.y
            seed_model(make_key(DEFAULT_SEED, "model", step, 0), CPU)  # dropout of this step
            loss = F.cross_entropy(model(xb), yb)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            opt.step()
            opt.zero_grad()
            step += 1
    ours, theirs = learn.model.state_dict(), model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    with seeded(make_key(DEFAULT_SEED, "init")):
        untrained = net().state_dict()
    assert any(not torch.equal(ours[name], untrained[name]) for name in theirs), "nothing was trained"


def test_one_cycle_rates_are_cosines_up_and_down(dls):
    """The rate of every step is on fastai's two cosines: a quarter up, the rest down."""
    learn = Learner(dls, net, loss_func=nn.CrossEntropyLoss())
    learn.fit_one_cycle(2, 1e-2)
    total = 2 * len(dls.train)
    for i, (lr,) in enumerate(learn.recorder.lrs):
        pct = i / total
        up = pct < 0.25
        low, high, x = (4e-4, 1e-2, pct / 0.25) if up else (1e-2, 1e-7, (pct - 0.25) / 0.75)
        assert lr == pytest.approx(low + (1 + math.cos(math.pi * (1 - x))) * (high - low) / 2)


@pytest.mark.parametrize(("grains", "accumulate"), [(4, 1), (1, 3), (2, 3)])
def test_grains_and_accumulation_equal_the_full_batch(dls, grains, accumulate):
    """In float64, gradients of any cut are those of the whole batch to 1e-12, ragged windows included."""
    torch.set_default_dtype(torch.float64)
    try:
        weights = {}
        for cut in (False, True):
            x, y = dls.train.dataset.tensors
            bs = 32 if cut else 32 * accumulate
            data = DataLoaders([(x[i : i + bs].double(), y[i : i + bs]) for i in range(0, 200, bs)])
            model = nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 5))
            with torch.no_grad():
                for i, p in enumerate(model.parameters()):
                    p.copy_(torch.linspace(-1, 1, p.numel()).sin().reshape(p.shape) * (i + 1) / 5)
            learn = Learner(
                data,
                model,
                loss_func=nn.CrossEntropyLoss(),
                opt_func=torch.optim.SGD,
                grains=grains if cut else 1,
                cbs=[GradientAccumulation(accumulate)] if cut else [],
            )
            learn.fit(2, lr=0.1)
            weights[cut] = torch.cat([p.detach().flatten() for p in model.parameters()])
    finally:
        torch.set_default_dtype(torch.float32)
    error = ((weights[True] - weights[False]).norm() / weights[False].norm()).item()
    assert error <= 1e-12
    assert learn.recorder.losses
