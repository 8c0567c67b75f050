"""The process settings that decide bits: read, apply, restore.

This is the one file that may change them; everything else passes a value.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from surefast.errors import ArgumentError, DeterminismError

Determinism: TypeAlias = Literal["strict", "warn", "off"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a process must hold equal for equal bits."""

    determinism: Determinism = "strict"
    """``strict`` refuses operations that have no deterministic kernel, ``warn`` goes on, ``off`` is off."""

    threads: int = 1
    """Threads of one operation; other numbers sum in another order."""

    tf32: bool = False
    """Whether convolutions and matrix products may round their inputs to TF32."""

    def __post_init__(self) -> None:
        if self.determinism not in {"strict", "warn", "off"}:
            raise ArgumentError(
                f"determinism={self.determinism!r} is not known", do='use "strict", "warn" or "off"'
            )
        if self.threads < 1:
            raise ArgumentError(f"threads={self.threads}: a process has at least one", do="use 1 or more")

    def apply(self) -> None:
        """Make the process hold these settings."""
        strict = self.determinism != "off"
        if strict and torch.cuda.is_available() and "CUBLAS_WORKSPACE_CONFIG" not in os.environ:
            if torch.cuda.is_initialized():
                raise DeterminismError(
                    "CUBLAS_WORKSPACE_CONFIG is not set and CUDA has already started",
                    do="set CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment, or build the Learner before "
                    'the first use of the card, or pass determinism="off"',
                )
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        torch.use_deterministic_algorithms(strict, warn_only=self.determinism == "warn")
        # Filling memory costs time and hides nothing here: results never depend on uninitialised memory.
        _memory().fill_uninitialized_memory = False
        torch.backends.cudnn.benchmark = False
        _write_rounding(
            _Rounding("high", ("tf32",) * 6) if self.tf32 else _Rounding("highest", ("ieee",) * 6)
        )


@contextlib.contextmanager
def applied(settings: Settings) -> Iterator[None]:
    """Hold ``settings`` for a block, then put back what was there."""
    before = read_flags()
    settings.apply()
    try:
        yield
    finally:
        write_flags(before)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run a block with one torch thread, then put the number back; on the main thread only.

    A user's item transform sums in another order with more threads, so that it would give other bits in a
    data process (one thread) than here.
    """
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def data_folder() -> Path:
    """Where archives and data sets are kept: ``SUREFAST_HOME``, or ``~/.surefast``."""
    return Path(os.environ.get("SUREFAST_HOME") or Path.home() / ".surefast")


@dataclass(frozen=True)
class _Rounding:
    """To what float32 inputs may be rounded before a product, on cards and CPUs."""

    matmul: str | None
    """torch's older setting; None where it contradicts the newer ones, and reading it would raise."""

    places: tuple[str, ...]
    """The newer settings, in the order of ``_rounding_places``."""


@dataclass(frozen=True)
class Flags:
    """The settings as torch holds them, to compare and to put back."""

    threads: int
    deterministic: bool
    warn_only: bool
    fill: bool
    benchmark: bool
    rounding: _Rounding


def read_flags() -> Flags:
    """The settings that hold in the process now."""
    return Flags(
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        _memory().fill_uninitialized_memory,
        torch.backends.cudnn.benchmark,
        _read_rounding(),
    )


def write_flags(flags: Flags) -> None:
    """Make the process hold what ``read_flags`` gave."""
    if torch.get_num_threads() != flags.threads:
        torch.set_num_threads(flags.threads)
    torch.use_deterministic_algorithms(flags.deterministic, warn_only=flags.warn_only)
    _memory().fill_uninitialized_memory = flags.fill
    torch.backends.cudnn.benchmark = flags.benchmark
    if _read_rounding() != flags.rounding:
        _write_rounding(flags.rounding)


def read_variables(names: Iterable[str]) -> dict[str, str]:
    """The environment variables among ``names`` that are set; they are read here and nowhere else."""
    return {name: os.environ[name] for name in names if name in os.environ}


def _rounding_places() -> tuple[Any, ...]:
    backends: Any = torch.backends  # its type hints lack some of them
    return (
        backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn,
        backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn,
    )  # fmt: skip


def _read_rounding() -> _Rounding:
    try:
        matmul: str | None = torch.get_float32_matmul_precision()
    except RuntimeError:  # set through the newer names only
        matmul = None
    return _Rounding(matmul, tuple(place.fp32_precision for place in _rounding_places()))


def _write_rounding(rounding: _Rounding) -> None:
    # Both kinds of settings are kept in agreement: torch raises in whoever reads one that contradicts.
    if rounding.matmul is not None:
        torch.set_float32_matmul_precision(rounding.matmul)
    conv, rnn = rounding.places[1:3]
    if conv == rnn:
        torch.backends.cudnn.allow_tf32 = conv == "tf32"
    for place, value in zip(_rounding_places(), rounding.places, strict=True):
        if place.fp32_precision != value:
            place.fp32_precision = value


def _memory() -> Any:
    # Its one attribute is a property that torch adds at run time, which no type checker sees.
    return torch.utils.deterministic
