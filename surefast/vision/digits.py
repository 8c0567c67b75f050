"""The network of the demo: small enough for two cores, good enough for handwritten digits."""

from __future__ import annotations

from torch import nn


def digit_net() -> nn.Sequential:
    """A small convolutional network: (B, 3, 28, 28) to 10 scores."""
    layers: list[nn.Module] = []
    width = 3
    for wider in (16, 32, 64):
        for inputs in (width, wider):
            conv = nn.Conv2d(inputs, wider, 3, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(wider), nn.ReLU()]
        layers.append(nn.AvgPool2d(2))  # 28 -> 14 -> 7 -> 3 pixels a side
        width = wider
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 3 * 3, 10))
