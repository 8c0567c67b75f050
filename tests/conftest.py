"""Tests are stricter than life: warnings are errors, one thread, generators poisoned, no windows."""

from __future__ import annotations

import os
import random

os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def _strict_process(tmp_path, monkeypatch):
    """Run in an empty folder, with one thread and with global generators no test may rely on."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    noise = int.from_bytes(os.urandom(4), "little")
    torch.manual_seed(noise)
    np.random.seed(noise)
    random.seed(noise)
