"""What models give: a tensor, or tuples, lists and dicts of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from surefast.errors import TaskError


def mapped(function: Callable[[Tensor], Any], output: Any) -> Any:
    """The same structure with a function applied to each tensor; what is no tensor stays."""
    if isinstance(output, Tensor):
        return function(output)
    if isinstance(output, Mapping):
        # Also for the ordered dicts with attributes that libraries of models return.
        return {key: mapped(function, value) for key, value in output.items()}
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*(mapped(function, value) for value in output))
    if isinstance(output, (tuple, list)):
        return type(output)(mapped(function, value) for value in output)
    return output


def joined(batches: Sequence[Any]) -> Any:
    """The structures of several batches as one, each tensor joined along the samples."""
    first = batches[0]
    if isinstance(first, Tensor):
        return torch.cat([b if b.ndim else b[None] for b in batches])
    if isinstance(first, Mapping):
        return {key: joined([b[key] for b in batches]) for key in first}
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(joined(list(parts)) for parts in zip(*batches, strict=True)))
    if isinstance(first, (tuple, list)):
        return type(first)(joined(list(parts)) for parts in zip(*batches, strict=True))
    return list(batches)


def one_tensor(name: str, output: Any) -> None:
    """Refuse outputs that are several tensors, for a loss or metric that takes one.

    Raises:
        TaskError: with what the model gave.
    """
    if isinstance(output, Tensor):
        return
    inside = f" with {', '.join(map(str, list(output)[:6]))}" if isinstance(output, Mapping) else ""
    raise TaskError(
        f"{name} takes one tensor of outputs, and the model gives a {type(output).__name__}{inside}",
        do="pass loss_func= and metrics= as functions that pick what they need, such as "
        "lambda pred, y: F.cross_entropy(pred[0], y)",
    )
