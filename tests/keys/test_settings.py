"""The settings of the process: held for a block, and given back as they were."""

from __future__ import annotations

import contextlib
import os

import pytest
import torch

from surefast.errors import ArgumentError
from surefast.keys.settings import Settings, applied, one_thread, read_flags, read_variables, write_flags


def _older(name: str) -> None:
    torch.set_float32_matmul_precision(name)


def _newer(place: object, value: str) -> None:
    place.fp32_precision = value


def _tf32(place: object, value: bool) -> None:
    place.allow_tf32 = value


WAYS = {
    "untouched": lambda: None,
    "older, medium": lambda: _older("medium"),
    "older, high": lambda: _older("high"),
    "everything": lambda: _newer(torch.backends, "tf32"),
    "products on a card": lambda: _newer(torch.backends.cuda.matmul, "tf32"),
    "convolutions only": lambda: _newer(torch.backends.cudnn.conv, "ieee"),
    "products on a CPU": lambda: _newer(torch.backends.mkldnn.matmul, "bf16"),
    "flag, products": lambda: _tf32(torch.backends.cuda.matmul, True),
    "flag, convolutions": lambda: _tf32(torch.backends.cudnn, False),
}


@pytest.fixture(autouse=True)
def as_before():
    """Give the process back."""
    before = read_flags()
    everything = torch.backends.fp32_precision
    yield
    torch.backends.fp32_precision = everything
    write_flags(before)


@pytest.mark.parametrize("way", WAYS)
def test_rounding_set_in_any_way_is_held_and_given_back(way):
    """torch raises in whoever reads a setting that contradicts the other kind: nobody may meet that."""
    WAYS[way]()
    before = read_flags()
    with applied(Settings()):
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cuda.matmul.allow_tf32
        assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
    assert read_flags() == before
    if way == "older, medium":
        assert torch.get_float32_matmul_precision() == "medium"


def test_tf32_can_be_asked_for():
    """Then all places hold it."""
    with applied(Settings(tf32=True)):
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(
    ("determinism", "strict", "warns"), [("strict", 1, 0), ("warn", 1, 1), ("off", 0, 0)]
)
def test_determinism_is_held_for_a_block(determinism, strict, warns):
    """Also when the block raises."""
    before = read_flags()
    with contextlib.suppress(ZeroDivisionError), applied(Settings(determinism=determinism)):
        assert torch.are_deterministic_algorithms_enabled() == bool(strict)
        assert torch.is_deterministic_algorithms_warn_only_enabled() == bool(warns)
        raise ZeroDivisionError
    assert read_flags() == before


def test_threads_are_given_back():
    """One thread for a block."""
    before = torch.get_num_threads()
    with applied(Settings(threads=before + 1)):
        assert torch.get_num_threads() == before + 1
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_impossible_settings_are_told():
    """With what is possible."""
    with pytest.raises(ArgumentError, match='use "strict", "warn" or "off"'):
        Settings(determinism="maybe")
    with pytest.raises(ArgumentError, match="use 1 or more"):
        Settings(threads=0)


def test_variables_that_are_not_set_are_left_out(monkeypatch):
    """Only names asked for."""
    monkeypatch.setenv("SUREFAST_ONE", "1")
    assert "SUREFAST_TWO" not in os.environ
    assert read_variables(["SUREFAST_ONE", "SUREFAST_TWO"]) == {"SUREFAST_ONE": "1"}
