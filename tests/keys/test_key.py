"""Keys: every draw from what it is for, and from nothing else."""

from __future__ import annotations

import contextlib
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from surefast.keys.generator import permutation, preserved, seed_model, seeded, torch_generator
from surefast.keys.key import Draws, make_key, sub_key, uniform

KEYS = st.integers(0, 2**64 - 1)


def test_seeds_and_positions_do_not_run_into_each_other():
    """100 seeds, 3 domains, 100 positions: no key twice."""
    keys = {make_key(s, d, p) for s in range(100) for d in ("item", "batch", "user:mine") for p in range(100)}
    assert len(keys) == 30_000
    assert make_key(1, "item", 12) != make_key(1, "item", 1, 2)


@given(st.lists(KEYS, min_size=1, max_size=9), st.integers(0, 3))
def test_uniform_draws_do_not_depend_on_the_batch(keys, stream):
    """A batch cut anywhere gives each sample the same draws, and so does one draw at a time."""
    array = np.array(keys, dtype=np.uint64)
    whole = uniform(array, 5, stream)
    assert ((whole >= 0) & (whole < 1)).all()
    for place, key in enumerate(keys):
        assert (uniform(array[place : place + 1], 5, stream)[0] == whole[place]).all()
        assert [Draws(key, stream)[j] for j in range(5)] == whole[place].tolist()


def test_uniform_draws_are_uniform():
    """Mean and spread of 200,000 draws of neighbouring keys, within four standard errors."""
    draws = uniform(np.arange(1000, dtype=np.uint64), 200)
    assert abs(draws.mean() - 0.5) < 4 * (1 / 12 / draws.size) ** 0.5
    assert np.histogram(draws, 20, (0, 1))[0] == pytest.approx(draws.size / 20, rel=0.06)
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.13


@given(KEYS, st.integers(0, 60))
def test_permutation_is_an_order_of_all(key, length):
    """Each once; the same key gives the same."""
    order = permutation(key, length)
    assert sorted(order.tolist()) == list(range(length))
    assert torch.equal(order, permutation(key, length))


def test_sub_keys_differ_by_name():
    """One transform's draws are not another's."""
    key = make_key(42, "item", 0, 7)
    assert len({sub_key(key, name) for name in ("flip", "crop", "")} | {key}) == 4


def test_foreign_code_is_seeded_and_the_generators_given_back():
    """torch, numpy and random: the same in the block each time, as before after it, also after an error."""

    def draw():
        return torch.rand(1).item(), float(np.random.rand()), random.random()

    found = []
    state = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    for _ in range(2):
        with contextlib.suppress(ZeroDivisionError), seeded(5):
            found.append(draw())
            raise ZeroDivisionError
    assert found[0] == found[1]
    with seeded(6):
        assert draw() != found[0]
    assert torch.equal(state[0], torch.get_rng_state())
    assert (state[1] == np.random.get_state()[1]).all()
    assert state[2] == random.getstate()


def test_the_model_s_generator_is_seeded_by_key():
    """Dropout of the same step and grain draws the same; after the fit the generator is as before."""
    before = torch.get_rng_state()
    with preserved(torch.device("cpu")):
        masks = []
        for key in (9, 9, 11):
            seed_model(key, torch.device("cpu"))
            masks.append(torch.nn.functional.dropout(torch.ones(50)))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert torch.equal(before, torch.get_rng_state())
    assert (
        torch.rand(3, generator=torch_generator(4)).tolist()
        == torch.rand(3, generator=torch_generator(4)).tolist()
    )
