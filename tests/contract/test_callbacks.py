"""All callbacks of the library: observers change nothing, every pair lives together or is refused by name."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from surefast.callbacks.contract import Actor, Callback, Observer
from surefast.data.dataloaders import DataLoaders
from surefast.errors import ConflictError
from surefast.learner import Learner
from surefast.recipe.digest import digest
from tests.contract.families import public

MEMBERS = [cls for cls in public(Callback) if cls not in {Observer, Actor}]


def make(cls: type[Callback]) -> Callback:
    """One of a kind, under a name of its own: a fit has its own Recorder and Progress."""
    callback = cls()
    callback.name = f"Second{cls.__name__}"
    return callback


def trained(*callbacks: Callback) -> str:
    """The hash of weights after a short fit with these callbacks."""
    generator = torch.Generator().manual_seed(3)
    batches = [
        (torch.randn(8, 4, generator=generator), torch.randint(0, 2, (8,), generator=generator))
        for _ in range(5)
    ]
    learn = Learner(
        DataLoaders(batches, batches),
        lambda: nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 2)),
        loss_func=nn.CrossEntropyLoss(),
    )
    with learn.no_bar():
        learn.fit(3, 1e-2, cbs=list(callbacks))
    return digest(learn.model, repr)


@pytest.mark.parametrize("cls", [cls for cls in MEMBERS if issubclass(cls, Observer)])
def test_an_observer_does_not_change_the_weights(cls):
    """With it or without it: the same bits."""
    assert trained(make(cls)) == trained()


@pytest.mark.parametrize("cls", MEMBERS)
def test_a_callback_repeats(cls):
    """Twice the same fit with it gives the same bits."""
    assert trained(make(cls)) == trained(make(cls))


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(MEMBERS, 2)))
def test_a_pair_lives_together_or_is_refused_by_name(first, second):
    """Any two run in any order of handing over with the same result, or the error names both."""
    refusal = ""
    try:
        forward = trained(make(first), make(second))
    except ConflictError as error:
        refusal = str(error)
    if refusal:
        assert f"Second{first.__name__}" in refusal
        assert f"Second{second.__name__}" in refusal
    else:
        assert forward == trained(make(second), make(first))
