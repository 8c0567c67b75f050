"""A table of a model's layers: output shape, parameters, and whether they train."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from surefast.train.predict import eval_mode


def summarise(model: nn.Module, xb: tuple[Any, ...]) -> str:
    """Run one batch through a model and describe every layer that has no layers inside.

    Args:
        model: any module.
        xb: the inputs of one batch.
    """
    rows: list[tuple[str, str, str, str]] = []
    hooks = [
        module.register_forward_hook(_recorder(name, rows))
        for name, module in model.named_modules()
        if not list(module.children())
    ]
    try:
        with eval_mode(model), torch.no_grad():
            model(*xb)
    finally:
        for hook in hooks:
            hook.remove()
    total = sum(p.numel() for p in model.parameters())
    training = sum(p.numel() for p in model.parameters() if p.requires_grad)
    table = _table([("layer", "output", "parameters", "trains"), *rows])
    return f"{table}\n\n{total:,} parameters, {training:,} of them train"


def _recorder(name: str, rows: list[tuple[str, str, str, str]]) -> Callable[..., None]:
    def record(module: nn.Module, _: Any, output: Any) -> None:
        own = list(module.parameters(recurse=False))
        shape = str(tuple(output.shape)) if isinstance(output, torch.Tensor) else type(output).__name__
        trains = "" if not own else "yes" if any(p.requires_grad for p in own) else "no"
        label = f"{name} ({type(module).__name__})"
        rows.append((label, shape, f"{sum(p.numel() for p in own):,}", trains))

    return record


def _table(rows: list[tuple[str, str, str, str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
