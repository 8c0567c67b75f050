"""What a step costs over the same step written by hand: tiny MLP, and a ResNet18.

    python -m benchmarks.loop_overhead [--rounds 7] [--steps 2000]

Both train on the same prepared batches with the same model, loss and optimizer, one thread, in turn
(A B A B), in one process. What is counted is CPU time, which other programs disturb less than the clock.
surefast runs as a user gets it: recorder, event log, run folder, witnesses and strict determinism on; only
the drawing of progress is off, as it is off where there is no terminal.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from surefast.data.dataloaders import DataLoaders
from surefast.learner import Learner
from surefast.task.loss import CrossEntropyLossFlat

Batches = list[tuple[torch.Tensor, torch.Tensor]]


def mlp() -> nn.Module:
    """The tiny model: 32 -> 64 -> 10."""
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))


def resnet() -> nn.Module:
    """ResNet18 for ten classes."""
    import torchvision  # only this case needs it

    return torchvision.models.resnet18(num_classes=10)


def batches(shape: tuple[int, ...], number: int) -> Batches:
    """Prepared batches in memory, the same for both."""
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(shape, generator=generator), torch.randint(0, 10, shape[:1], generator=generator))
        for _ in range(number)
    ]


def by_hand(
    make: Callable[[], nn.Module], data: list[tuple[torch.Tensor, torch.Tensor]], epochs: int
) -> float:
    """CPU seconds of a hand-written loop: no weight decay on norms and biases, the loss read for a log."""
    model = make().train()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    opt = torch.optim.AdamW([{"params": decayed}, {"params": plain, "weight_decay": 0.0}], lr=1e-3)
    losses = []
    start = time.process_time()
    for _ in range(epochs):
        for xb, yb in data:
            loss = F.cross_entropy(model(xb), yb)
            loss.backward()
            opt.step()
            opt.zero_grad()
            losses.append(loss.item())
    return time.process_time() - start


def by_surefast(
    make: Callable[[], nn.Module], data: list[tuple[torch.Tensor, torch.Tensor]], epochs: int
) -> float:
    """CPU seconds of the same training through a Learner, without building it."""
    learn = Learner(DataLoaders(data, None), make, loss_func=CrossEntropyLossFlat())
    with learn.no_bar():
        learn.fit(1, lr=1e-3)  # opens the run folder
        start = time.process_time()
        learn.fit(epochs, lr=1e-3)
    return time.process_time() - start


def compare(name: str, make: Callable[[], nn.Module], shape: tuple[int, ...], steps: int, rounds: int) -> str:
    """One row: medians of both and of the ratio, round by round."""
    number = min(steps, 100)
    data, epochs = batches(shape, number), steps // number
    hand, ours = [], []
    for turn in range(rounds + 1):
        a, b = by_hand(make, data, epochs), by_surefast(make, data, epochs)
        if turn:  # the first round warms up
            hand.append(a / steps * 1e6)
            ours.append(b / steps * 1e6)
    ratios = sorted(b / a for a, b in zip(hand, ours, strict=True))
    extra = statistics.median(b - a for a, b in zip(hand, ours, strict=True))
    return (
        f"| {name} | {statistics.median(hand):,.0f} | {statistics.median(ours):,.0f} | {extra:+,.0f} | "
        f"{statistics.median(ratios):.3f} | {ratios[0]:.3f} to {ratios[-1]:.3f} |"
    )


def main() -> None:
    """Print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        print("| step | by hand, us | surefast, us | difference, us | ratio (median) | ratios |")
        print("|---|---|---|---|---|---|")
        print(compare("MLP 32-64-10, batch 32", mlp, (32, 32), args.steps, args.rounds), flush=True)
        print(compare("ResNet18, batch 16 of 64x64", resnet, (16, 3, 64, 64), 20, args.rounds), flush=True)


if __name__ == "__main__":
    main()
