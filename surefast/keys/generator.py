"""From a key to generators: torch's own for built-in code, all global ones for foreign code."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def torch_generator(key: int) -> torch.Generator:
    """A torch generator on the CPU that draws from ``key``; built-in code gets it passed in."""
    return torch.Generator().manual_seed(_torch_seed(key))


def permutation(key: int, length: int) -> torch.Tensor:
    """The order of ``length`` things under ``key``: int64 of shape (length,)."""
    return torch.randperm(length, generator=torch_generator(key))


def seed_model(key: int, device: torch.device) -> None:
    """Seed the generators that dropout and its kind draw from, in about a microsecond.

    ``torch.manual_seed`` would do the same at a hundred times the price on a CUDA build: it formats a
    stack trace for its lazy initialisation.
    """
    torch.default_generator.manual_seed(_torch_seed(key))
    if device.type == "cuda":
        index = device.index if device.index is not None else torch.cuda.current_device()
        torch.cuda.default_generators[index].manual_seed(_torch_seed(key))


@contextlib.contextmanager
def seeded(key: int) -> Iterator[None]:
    """Seed torch, numpy and ``random`` by ``key`` for a block of foreign code, then restore them.

    For code that draws from global generators and cannot be handed one: user transforms, the
    initialisation of a model. Not for threads: the generators are the process's.
    """
    before = torch.default_generator.get_state(), np.random.get_state(), random.getstate()
    seed_all(key)
    try:
        yield
    finally:
        torch.default_generator.set_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])


@contextlib.contextmanager
def preserved(device: torch.device) -> Iterator[None]:
    """Give torch's generators back as they were after a block that seeds them by key."""
    cpu = torch.default_generator.get_state()
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    finally:
        torch.default_generator.set_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, device)


def seed_all(key: int) -> None:
    """Seed the three global generators by ``key``; for a process that surefast owns."""
    torch.default_generator.manual_seed(_torch_seed(key))
    np.random.seed(key & 0xFFFFFFFF)
    random.seed(key)


def _torch_seed(key: int) -> int:
    # manual_seed takes a signed 64-bit number in some builds; 63 bits are enough for all.
    return key >> 1
