"""How much of the package one must open to follow one training step."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

import surefast
from surefast.data.dataloaders import DataLoaders
from surefast.learner import Learner

PACKAGE = str(Path(surefast.__file__).parent)


class Footprint:
    """A profile function that notes every call into the package between two forwards of the model."""

    def __init__(self) -> None:
        self.steps: list[list[tuple[str, str]]] = []
        self.depths: list[int] = []

    def __call__(self, frame, event, _arg):
        if event != "call":
            return
        file, name = frame.f_code.co_filename, frame.f_code.co_qualname
        if name == "Marked.forward":
            self.steps.append([])
        elif file.startswith(PACKAGE) and self.steps:
            self.steps[-1].append((file, name))
        elif name == "Tensor.backward":
            self.depths.append(self._depth(frame))

    @staticmethod
    def _depth(frame) -> int:
        depth = 0
        while frame is not None:
            depth += frame.f_code.co_filename.startswith(PACKAGE)
            frame = frame.f_back
        return depth


class Marked(nn.Module):
    """A tiny model whose forward can be recognised in a profile."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x):
        return self.layers(x)


def test_one_step_opens_few_files_and_functions():
    """With recorder and progress on: at most 5 frames above backward, 8 files, 30 functions, 100 calls."""
    x, y = torch.randn(64, 4), torch.randint(0, 2, (64,))
    data = [(x[i : i + 8], y[i : i + 8]) for i in range(0, 64, 8)]
    learn = Learner(DataLoaders(data, data), Marked(), loss_func=nn.CrossEntropyLoss())
    footprint = Footprint()
    before = sys.getprofile()
    sys.setprofile(footprint)
    try:
        learn.fit(1)
    finally:
        sys.setprofile(before)
    step = footprint.steps[3]  # a step in the middle of the epoch
    files, functions = {file for file, _ in step}, set(step)
    listing = "\n".join(f"{Path(file).relative_to(PACKAGE)}: {name}" for file, name in step)
    assert max(footprint.depths) <= 5, f"{max(footprint.depths)} frames above backward"
    assert len(files) <= 8, listing
    assert len(functions) <= 30, listing
    assert len(step) <= 100, listing
