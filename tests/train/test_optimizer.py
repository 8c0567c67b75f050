"""Optimizers are torch's, with every parameter in one group, decay where it is meant, and one kernel."""

from __future__ import annotations

import copy
import functools
import importlib

import pytest
import torch
import torchvision
from torch import nn

from surefast.errors import ArgumentError, UnknownNameError
from surefast.recipe.call import call_of
from surefast.train.optimizer import (
    SGD,
    Adam,
    AdamW,
    freeze_to,
    frozen_norms_eval,
    is_norm,
    make_optimizer,
    momentum_kind,
    norm_and_bias_params,
    optimizer_facts,
    set_lr,
    set_momentum,
    spread_lrs,
    usable_curves,
)


def net():
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    head = nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    return nn.Sequential(body, head)


def groups_of(model):
    return [list(part.parameters()) for part in model]


def trained(optimizer, model, steps=4):
    for i in range(steps):
        x = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(i))
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def made(opt_func=AdamW, model=None, groups=None, lr=1e-2, wd=None, wd_bn_bias=False):
    model = net() if model is None else model
    groups = groups_of(model) if groups is None else groups
    return make_optimizer(opt_func, groups, lr, wd, wd_bn_bias, model)


# Learning rates


@pytest.mark.parametrize(
    ("lr", "n", "expected"),
    [
        (1e-3, 3, [1e-3, 1e-3, 1e-3]),
        (slice(1e-5, 1e-3), 3, [1e-5, 1e-4, 1e-3]),
        (slice(1e-3), 3, [1e-4, 1e-4, 1e-3]),
        (slice(1e-3), 1, [1e-3]),
        (slice(1e-5, 1e-3), 1, [1e-3]),
        ([1e-3, 2e-3], 2, [1e-3, 2e-3]),
        (0, 1, [0.0]),
    ],
)
def test_spread_lrs(lr, n, expected):
    assert spread_lrs(lr, n) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("lr", "n", "text"),
    [
        ([1e-3, 2e-3], 3, "2 learning rates were given, and the model has 3 parameter groups"),
        ([1e-3, 2e-3], 1, "1 parameter group\n"),
        (-1e-3, 2, "cannot train"),
        (float("nan"), 2, "cannot train"),
        (slice(None), 2, "no end"),
        (slice(0, 1e-3), 2, "numbers above 0"),
    ],
)
def test_spread_lrs_refuses(lr, n, text):
    with pytest.raises(ArgumentError, match=text):
        spread_lrs(lr, n)


# Groups and decay


def test_norms_and_biases_do_not_decay():
    model = net()
    optimizer = made(model=model)
    by_param = {id(p): g for g in optimizer.param_groups for p in g["params"]}
    decays = {n: by_param[id(p)]["weight_decay"] for n, p in model.named_parameters()}
    assert {n for n, wd in decays.items() if wd} == {"0.0.weight", "1.1.weight", "1.3.weight"}
    assert set(decays.values()) == {0.0, 1e-2}
    assert [by_param[id(p)]["group"] for p in model.parameters()] == [0] * 4 + [1] * 6


def test_decay_can_be_given_and_extended():
    assert {g["weight_decay"] for g in made(wd=0.3).param_groups} == {0.3, 0.0}
    assert [g["weight_decay"] for g in made(wd=0.3, wd_bn_bias=True).param_groups] == [0.3, 0.3]
    assert {g["weight_decay"] for g in made(wd=0).param_groups} == {0}


def test_every_kind_of_norm_is_known():
    kinds = [
        nn.BatchNorm1d(2),
        nn.SyncBatchNorm(2),
        nn.InstanceNorm2d(2, affine=True),
        nn.GroupNorm(1, 2),
        nn.LayerNorm(2),
        nn.RMSNorm(2),
    ]
    assert all(is_norm(kind) for kind in kinds)

    class LlamaRMSNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

    class NormedHead(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 2))

    assert is_norm(LlamaRMSNorm())
    assert not is_norm(NormedHead())
    assert not is_norm(nn.Linear(2, 2))


def test_norms_of_timm_are_known():
    timm = importlib.import_module("timm")
    model = timm.create_model("test_vit2", pretrained=False)
    spared = {id(p) for p in norm_and_bias_params(model)}
    missed = [n for n, p in model.named_parameters() if "norm" in n and id(p) not in spared]
    assert not missed


def test_all_biases_are_found():
    model = nn.ModuleList([nn.LSTM(2, 2), nn.MultiheadAttention(2, 1)])
    spared = {id(p) for p in norm_and_bias_params(model)}
    assert all((id(p) in spared) == ("bias" in name) for name, p in model.named_parameters())


def test_groups_may_carry_names_and_tied_weights():
    model = net()
    model[1][3].weight = model[1][3].weight
    named = [list(part.named_parameters()) for part in model]
    named[1].append(named[1][0])
    optimizer = made(model=model, groups=named, lr=slice(1e-4, 1e-2))
    assert sum(len(g["params"]) for g in optimizer.param_groups) == 10
    assert {g["group"]: g["lr"] for g in optimizer.param_groups} == {0: 1e-4, 1: 1e-2}


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        (lambda m: [list(m.parameters()), []], "parameter group 1 of 2 is empty"),
        (
            lambda m: [list(m[0].parameters()), list(m.parameters())],
            r"0\.0\.weight is in parameter groups 0 and 1",
        ),
        (lambda m: [list(m[1].parameters())], r"4 parameters of the model are in no group.*0\.0\.weight"),
    ],
)
def test_groups_that_lose_parameters_are_refused(groups, text):
    model = net()
    with pytest.raises(ArgumentError, match=text):
        made(model=model, groups=groups(model))


def test_frozen_parameters_may_be_left_out():
    model = net()
    model[0].requires_grad_(False)
    assert len(made(model=model, groups=groups_of(model)[1:]).param_groups) == 2


@pytest.mark.parametrize(
    ("opt_func", "wd", "text"),
    [
        (torch.optim.LBFGS, None, "several times a step"),
        (torch.optim.Rprop, 0.1, "Rprop knows no weight decay"),
        (lambda groups, lr: 3, None, "opt_func made a int"),
    ],
)
def test_optimizers_that_cannot_work(opt_func, wd, text):
    with pytest.raises(ArgumentError, match=text):
        made(opt_func, wd=wd)


# Kernels and equality with torch


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (AdamW, torch.optim.AdamW),
        (torch.optim.AdamW, torch.optim.AdamW),
        (functools.partial(SGD, mom=0.9), functools.partial(torch.optim.SGD, momentum=0.9)),
        (Adam, functools.partial(torch.optim.AdamW, betas=(0.9, 0.99), eps=1e-5, weight_decay=0.01)),
        (
            functools.partial(Adam, decouple_wd=False),
            functools.partial(torch.optim.Adam, betas=(0.9, 0.99), eps=1e-5, weight_decay=0.01),
        ),
        (torch.optim.RMSprop, torch.optim.RMSprop),
    ],
)
def test_same_bits_as_torchs_loop(ours, theirs):
    first = net()
    second = copy.deepcopy(first)
    optimizer = made(ours, model=first, wd_bn_bias=True)
    reference = theirs(second.parameters(), lr=1e-2, foreach=False)
    assert torch.equal(trained(optimizer, first), trained(reference, second))


def test_another_decay_gives_other_bits():
    """The twin: the comparison above can fail."""
    first = net()
    second = copy.deepcopy(first)
    a, b = made(model=first, wd_bn_bias=True), made(model=second)
    assert not torch.equal(trained(a, first), trained(b, second))


def test_kernels_are_said_out_loud_unless_chosen():
    for opt_func in (AdamW, Adam, SGD, torch.optim.AdamW, torch.optim.NAdam):
        assert made(opt_func).defaults["foreach"] is False
        assert made(opt_func, model=net().to("meta")).defaults["foreach"] is True
    assert made(functools.partial(torch.optim.AdamW, foreach=True)).defaults["foreach"] is True
    assert made(torch.optim.AdamW).defaults["fused"] is False


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD])
def test_foreach_and_loop_give_the_same_bits(kind):
    first = net()
    second = copy.deepcopy(first)
    optimizer = made(functools.partial(kind, foreach=True), model=first, wd_bn_bias=True)
    reference = kind(second.parameters(), lr=1e-2, foreach=False)
    assert torch.equal(trained(optimizer, first), trained(reference, second))


def test_makers_take_what_torch_takes():
    model = net()
    assert len(AdamW(model.parameters()).param_groups) == 1
    assert len(SGD([{"params": part.parameters()} for part in model], 0.1).param_groups) == 2
    assert len(Adam(model.named_parameters()).param_groups[0]["params"]) == 10
    assert len(SGD([{"params": model[1][1].weight}]).param_groups) == 1


def test_facts_hold_what_is_in_force():
    facts = optimizer_facts(made(lr=slice(1e-3), wd=0.1))
    assert facts["class"] == "torch.optim.adamw.AdamW"
    assert (facts["betas"], facts["eps"]) == ((0.9, 0.999), 1e-8)
    assert (facts["foreach"], facts["fused"]) == (False, False)
    assert facts["groups"][0] == {"group": 0, "params": 108, "lr": 1e-4, "weight_decay": 0.1}
    assert facts["groups"][-1] == {"group": 1, "params": 8 + 16 + 2, "lr": 1e-3, "weight_decay": 0.0}


def test_makers_record_and_answer_for_their_arguments():
    optimizer = made(functools.partial(Adam, sqr_mom=0.95))
    record = call_of(optimizer)
    assert record.made.name == "Adam"
    assert record.made.values["sqr_mom"].value == 0.95
    assert record.made.values["eps"].origin == "default"
    with pytest.raises(UnknownNameError, match="write 'sqr_mom'"):
        Adam(net().parameters(), sqrmom=0.9)


# Freezing


def test_freeze_to_keeps_norms_training():
    model = net()
    assert freeze_to(model, groups_of(model), -1, train_bn=True) == 1
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["0.0.weight", "0.0.bias"]
    assert freeze_to(model, groups_of(model), 1, train_bn=False) == 1
    assert all(not p.requires_grad for p in model[0].parameters())
    assert freeze_to(model, groups_of(model), 0, train_bn=False) == 0
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("n", [2, 5, -3])
def test_freezing_everything_is_refused(n):
    with pytest.raises(ArgumentError, match="from -2 to 1"):
        freeze_to(net(), groups_of(net()), n, train_bn=True)


def test_running_statistics_of_frozen_groups_are_found():
    model = net()
    model[0].append(nn.Sequential(nn.BatchNorm2d(4, affine=False)))
    model[1].append(nn.BatchNorm1d(2))
    groups = groups_of(model)
    assert frozen_norms_eval(model, groups, 1) == [model[0][1], model[0][3][0]]
    assert frozen_norms_eval(model, groups, 0) == []
    assert len(frozen_norms_eval(model, groups, 2)) == 3


def test_frozen_statistics_of_a_real_network():
    model = torchvision.models.resnet18()
    head = list(model.fc.parameters())
    body = [p for p in model.parameters() if all(p is not q for q in head)]
    assert len(frozen_norms_eval(model, [body, head], 1)) == 20


# Schedules


def test_set_lr_and_momentum_per_group():
    optimizer = made()
    set_lr(optimizer, [1.0, 2.0])
    set_momentum(optimizer, [0.5, 0.6])
    assert {(g["group"], g["lr"], g["betas"]) for g in optimizer.param_groups} == {
        (0, 1.0, (0.5, 0.999)),
        (1, 2.0, (0.6, 0.999)),
    }
    optimizer = made(functools.partial(SGD, mom=0.9))
    set_momentum(optimizer, [0.0, 0.0])
    set_momentum(optimizer, [0.5, 0.6])
    assert {g["momentum"] for g in optimizer.param_groups} == {0.5, 0.6}


def test_no_momentum_is_no_secret():
    plain, curves = made(SGD), {"lr": min, "mom": max}
    assert momentum_kind(plain) is None
    with pytest.warns(UserWarning, match="SGD was made without momentum"):
        assert usable_curves(plain, curves) == {"lr": min}
    with pytest.raises(ArgumentError, match=r"SGD has no momentum(.|\n)*mom=0.9"):
        set_momentum(plain, [0.9, 0.9])
    assert usable_curves(plain, {"lr": min}) == {"lr": min}
    for opt_func in (AdamW, functools.partial(SGD, mom=0.9)):
        assert usable_curves(made(opt_func), curves) == curves
