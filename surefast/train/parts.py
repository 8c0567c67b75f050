"""The parts a Learner is made of, from what a user gave: model, loss, groups, lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from surefast.data.dataloaders import DataLoaders
from surefast.errors import ArgumentError, TaskError
from surefast.keys.generator import seeded
from surefast.keys.key import make_key
from surefast.recipe.call import Call
from surefast.recipe.value import Value
from surefast.task.loss import Loss
from surefast.task.user_loss import UserLoss, as_loss


def make_model(model: nn.Module | Callable[[], nn.Module], seed: int) -> nn.Module:
    """The module itself, or what a function without arguments makes under the ``init`` key.

    Raises:
        ArgumentError: it is, or makes, something else.
    """
    if isinstance(model, nn.Module):
        return _whole(model)
    made: object = model
    if callable(model):
        with seeded(make_key(seed, "init")):
            made = model()
    if not isinstance(made, nn.Module):
        raise ArgumentError(
            f"model= is or makes a {type(made).__name__}",
            do="pass a torch.nn.Module, or a function without arguments that returns one",
        )
    return _whole(made)


def _whole(model: nn.Module) -> nn.Module:
    """The model, all of whose parameters have a shape: others cannot be recorded or trained."""
    lazy = next((name for name, p in model.named_parameters() if isinstance(p, UninitializedParameter)), None)
    if lazy is not None:
        raise ArgumentError(
            f"the parameter {lazy} of the model has no shape before the model has seen a batch",
            do="run one batch through it first: model(*dls.one_batch()[: dls.n_inp]); or name the sizes",
        )
    return model


def check_loss_trains(loss: nn.Module, groups: list[list[nn.Parameter]]) -> None:
    """Refuse a loss with parameters of its own that no group of the optimizer holds.

    Raises:
        ArgumentError: they would never train, in silence.
    """
    held = {id(p) for group in groups for p in group}
    left = [name for name, p in loss.named_parameters() if p.requires_grad and id(p) not in held]
    if left:
        raise ArgumentError(
            f"the loss has parameters that would never train: {left[0].removeprefix('func.')}",
            do="make them part of the model or of a group of splitter=, or set requires_grad=False",
        )


def checked_epochs(name: str, value: object, least: int = 1) -> None:
    """Refuse what is no number of epochs.

    Raises:
        ArgumentError: names the argument.
    """
    if not _is_whole(value) or value < least:
        trains = "trains nothing" if value == 0 else "is no number of epochs"
        raise ArgumentError(f"{name}={value!r} {trains}", do=f"use a whole number, {least} or more")


def checked_seed(seed: int) -> int:
    """The seed, a whole number; any text would make keys too, but of a typo as well."""
    if not _is_whole(seed):
        raise ArgumentError(f"seed={seed!r} is no whole number", do="use an int such as 42")
    return int(seed)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def choose_device(device: str | torch.device | None, data: torch.device) -> torch.device:
    """The device asked for, or that of the data.

    Raises:
        ArgumentError: torch knows no such device, or it is not on this machine.
    """
    if device is None:
        return data
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ArgumentError(
            f"device={device!r} is not known", do='use "cpu", "cuda", "cuda:1" or "mps"'
        ) from error
    is_missing = (chosen.type == "cuda" and not torch.cuda.is_available()) or (
        chosen.type == "mps" and not torch.backends.mps.is_available()
    )
    if is_missing:
        raise ArgumentError(
            f"device={str(device)!r} is not on this machine, or this torch was built without it",
            do='use device="cpu", or install the driver and a torch built for it',
        )
    return chosen


def choose_loss(loss_func: Callable[..., Any] | None, dls: DataLoaders) -> Loss:
    """The user's loss, or the one that the target block brought.

    Raises:
        TaskError: there is neither.
    """
    if loss_func is not None:
        return as_loss(loss_func)
    if dls.task is None:
        raise TaskError(
            "there is no loss: the data has no target block that brings one", do="pass loss_func="
        )
    return dls.task.loss


def note_loss(call: Call, given: object, loss: Loss) -> None:
    """Record the loss that a loss of torch stands for: a recipe can make that one again."""
    if given is not None and given is not loss and not isinstance(loss, UserLoss):
        name = getattr(given, "__name__", type(given).__name__)
        call.values["loss_func"] = Value(loss, "user", f"what {name} means here")


def trainable_params(model: nn.Module) -> list[list[nn.Parameter]]:
    """One group of all parameters that train; what was frozen before stays frozen."""
    return [[p for p in model.parameters() if p.requires_grad]]


def listed(given: Any) -> list[Any]:
    """None, one thing or several as a list."""
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple)) else [given]
