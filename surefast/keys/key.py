"""Keys: 64-bit numbers from which every random draw is made.

A key is the first 8 bytes of BLAKE2b over the text ``seed/domain/position/...``; it depends on nothing
else. So there is no stream whose position matters, and resuming, retrying or looking at a batch needs no
random state to be restored. Seeds are hashed, never added: seed 0 at epoch 1 is not seed 1 at epoch 0.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import numpy.typing as npt

DEFAULT_SEED: Final = 42
"""The seed where nobody chose one; the recipe shows it with origin ``default``."""

DOMAINS: Final = frozenset({"init", "shuffle", "item", "batch", "model", "split"})
"""What a key may be for; ``user:<name>`` is open to user code."""

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)


def make_key(seed: int, domain: str, *position: int) -> int:
    """The key of (seed, domain, position), an integer in [0, 2**64).

    Args:
        seed: the run's seed.
        domain: one of ``DOMAINS`` or ``user:<name>``.
        position: epoch, index, step, grain: whatever says which draw this is.

    >>> make_key(42, "item", 0, 7) == make_key(42, "item", 0, 7)
    True
    >>> make_key(0, "item", 1) == make_key(1, "item", 0)
    False
    """
    text = f"{seed}/{domain}/" + "/".join(map(str, position))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def sub_key(key: int, name: str) -> int:
    """A key for one use of ``key``, such as one transform of a sample."""
    digest = hashlib.blake2b(name.encode(), digest_size=8, key=key.to_bytes(8, "little"))
    return int.from_bytes(digest.digest(), "little")


def uniform(keys: npt.NDArray[np.uint64], count: int, stream: int = 0) -> npt.NDArray[np.float64]:
    """Uniform draws in [0, 1) from keys, all at once: (B,) keys to (B, count) draws.

    Draw j of a sample depends on its key, ``stream`` and j alone, so a batch may be cut or reordered.
    SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).

    Args:
        keys: one key a sample, shape (B,).
        count: draws a sample.
        stream: separates several users of the same keys, such as the transforms of one batch.
    """
    with np.errstate(over="ignore"):
        start = _mix(keys + np.uint64(stream) * _GOLDEN)
        state = start[:, None] + np.arange(1, count + 1, dtype=np.uint64)[None] * _GOLDEN
        bits = _mix(state)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


class Draws:
    """The draws of one key, each made when it is asked for; what ``uniform`` gives for that key.

    For one sample at a time: a call of numpy costs more than the few numbers that a transform needs.

    >>> Draws(7)[3] == float(uniform(np.array([7], dtype=np.uint64), 4)[0, 3])
    True

    Args:
        key: the key.
        stream: as for ``uniform``.
    """

    __slots__ = ("_start",)

    def __init__(self, key: int, stream: int = 0) -> None:
        self._start = _mix_one(key + stream * int(_GOLDEN))

    def __getitem__(self, position: int) -> float:
        """Draw ``position``, counted from 0, in [0, 1)."""
        return (_mix_one(self._start + (position + 1) * int(_GOLDEN)) >> 11) * 2.0**-53


def _mix_one(z: int) -> int:
    z &= 0xFFFFFFFFFFFFFFFF
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return z ^ (z >> 31)


def _mix(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))
