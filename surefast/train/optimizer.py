"""torch's optimizers with nothing implied: groups, weight decay, freezing, and which kernel runs.

Parameters come in discriminative groups, each with its own learning rate; every group is split once more
into parameters that decay and those that do not (norms and biases). The kernels are asked for by name:
``foreach`` on an accelerator and the loop on a CPU, where it is faster; the two give the same bits. Fused
kernels give others, and are used only when asked for.
"""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from surefast.errors import ArgumentError
from surefast.recipe.call import declared

OptimizerMaker: TypeAlias = Callable[..., torch.optim.Optimizer]
"""A ``torch.optim`` class, a ``functools.partial`` of one, or a function of parameter groups and ``lr=``."""

Params: TypeAlias = Iterable[Any]
"""What torch takes: parameters, or dicts of them."""

_NORMS: Final = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def kernels_for(params: Iterable[torch.Tensor]) -> dict[str, bool]:
    """The kernels of an optimizer over these parameters, by torch's argument names."""
    return {"foreach": any(p.device.type != "cpu" for p in params), "fused": False}


def _listed(params: Params) -> tuple[list[Any], list[torch.Tensor]]:
    """What torch takes, which may be read only once, and all parameters in it."""
    given: list[Any] = []
    flat: list[torch.Tensor] = []
    for entry in params:
        inner = entry["params"] if isinstance(entry, dict) else [entry]
        part = [inner] if isinstance(inner, torch.Tensor) else list(inner)
        given.append({**entry, "params": part} if isinstance(entry, dict) else entry)
        flat += [p[1] if isinstance(p, tuple) else p for p in part]
    return given, flat


@declared(skip={"params"})
def AdamW(  # noqa: N802  torch's name
    params: Params,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    *,
    amsgrad: bool = False,
) -> torch.optim.AdamW:
    """``torch.optim.AdamW`` with torch's own numbers: the default of a Learner.

    Loshchilov and Hutter: Decoupled Weight Decay Regularization, arXiv 1711.05101.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas: decay of the means of gradient and squared gradient; the first one is the momentum.
        eps: added to the root below the fraction.
        weight_decay: share of a weight that is taken away, times the learning rate.
        amsgrad: whether the largest squared mean so far is used.
    """
    given, flat = _listed(params)
    return torch.optim.AdamW(given, lr, betas, eps, weight_decay, amsgrad=amsgrad, **kernels_for(flat))


@declared(skip={"params"})
def Adam(  # noqa: N802  fastai's name
    params: Params,
    lr: float = 1e-3,
    mom: float = 0.9,
    sqr_mom: float = 0.99,
    eps: float = 1e-5,
    *,
    wd: float = 0.01,
    decouple_wd: bool = True,
) -> torch.optim.Optimizer:
    """Adam with fastai's numbers: squared momentum .99, eps 1e-5, weight decay .01 and decoupled.

    torch's own Adam has .999, 1e-8 and no decay; use ``torch.optim.Adam`` for that.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        mom: decay of the mean gradient.
        sqr_mom: decay of the mean squared gradient.
        eps: added to the root below the fraction.
        wd: weight decay.
        decouple_wd: True takes it from the weight (AdamW), False adds it to the gradient.
    """
    kind = torch.optim.AdamW if decouple_wd else torch.optim.Adam
    given, flat = _listed(params)
    return kind(given, lr, (mom, sqr_mom), eps, wd, **kernels_for(flat))


@declared(skip={"params"})
def SGD(  # noqa: N802  fastai's name
    params: Params, lr: float = 1e-3, mom: float = 0.0, wd: float = 0.0
) -> torch.optim.SGD:
    """``torch.optim.SGD``: no momentum unless ``mom`` is given, weight decay added to the gradient.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        mom: momentum; with 0 a schedule of momentum does nothing, and says so.
        wd: weight decay (torch's, coupled; fastai's is decoupled).
    """
    given, flat = _listed(params)
    return torch.optim.SGD(given, lr, mom, weight_decay=wd, **kernels_for(flat))


# Groups -------------------------------------------------------------------------------------------------


def spread_lrs(lr: float | slice | Sequence[float], n_groups: int) -> list[float]:
    """One learning rate for each parameter group.

    Args:
        lr: a number for all; ``slice(a, b)`` from a for the first group to b for the last in equal
            factors; ``slice(b)`` is b for the last group and b / 10 for the others; or a sequence.
        n_groups: number of discriminative groups.

    Raises:
        ArgumentError: for a sequence of another length, or a rate that is negative or not finite.

    >>> spread_lrs(slice(1e-3), 3)
    [0.0001, 0.0001, 0.001]
    """
    try:
        if isinstance(lr, slice):
            rates = _spread_slice(lr, n_groups)
        elif isinstance(lr, (int, float)):
            rates = [float(lr)] * n_groups
        else:
            rates = [float(rate) for rate in lr]  # of a text, its letters: told below
    except ArgumentError:
        raise
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"the learning rate {lr!r} is no number",
            do="pass a number such as 1e-3, slice(lowest, highest), or one number for each group",
        ) from error
    if len(rates) != n_groups:
        raise ArgumentError(
            f"{len(rates)} learning rates were given, and the model has {n_groups} parameter "
            f"group{'s' if n_groups > 1 else ''}",
            do="pass one rate for each group, a single number, or slice(lowest, highest)",
            found=rates,
        )
    if not all(rate >= 0 and math.isfinite(rate) for rate in rates):
        raise ArgumentError(
            f"the learning rate {lr!r} cannot train", do="pass a number of 0 or more, such as 1e-3"
        )
    return rates


def _spread_slice(lr: slice, n_groups: int) -> list[float]:
    if lr.stop is None or lr.step is not None:
        raise ArgumentError(
            f"lr={lr!r} has no end or a step", do="pass slice(lowest, highest) or slice(highest)"
        )
    last = float(lr.stop)
    if lr.start is None:
        return [last / 10] * (n_groups - 1) + [last]
    if not (lr.start > 0 and last > 0):
        raise ArgumentError(
            f"lr={lr!r} must go between numbers above 0", do="pass for example slice(1e-5, 1e-3)"
        )
    if n_groups == 1:
        return [last]
    factor = (last / lr.start) ** (1 / (n_groups - 1))
    return [lr.start * factor**i for i in range(n_groups - 1)] + [last]


@declared(skip={"groups", "model"})
def make_optimizer(  # noqa: PLR0917  the settings of a Learner, in its order
    opt_func: OptimizerMaker,
    groups: Sequence[Sequence[nn.Parameter | tuple[str, nn.Parameter]]],
    lr: float | slice | Sequence[float],
    wd: float | None,
    wd_bn_bias: bool,
    model: nn.Module,
) -> torch.optim.Optimizer:
    """An optimizer over parameter groups, each split into what decays and what does not.

    Every group of the optimizer carries ``group``, the number of its discriminative group.

    Args:
        opt_func: a ``torch.optim`` class, a partial of one, or a function of groups and ``lr=``.
        groups: parameters from input to output, plain or with their names.
        lr: see ``spread_lrs``.
        wd: weight decay; None for the optimizer's own.
        wd_bn_bias: whether norm layers and biases decay too.
        model: tells norm layers from others, and names parameters in errors.

    Raises:
        ArgumentError: for parameters in no group or in two, an empty group, or an optimizer without decay.
    """
    plain = [[p[1] if isinstance(p, tuple) else p for p in group] for group in groups]
    _check_groups(plain, model)
    rates = spread_lrs(lr, len(plain))
    spared = set() if wd_bn_bias else {id(p) for p in norm_and_bias_params(model)}
    dicts: list[dict[str, Any]] = []
    for index, group in enumerate(plain):
        unique = list({id(p): p for p in group}.values())  # tied weights stand twice
        for free in (False, True):
            part = [p for p in unique if (id(p) in spared) == free]
            if part:
                dicts.append({"params": part, "lr": rates[index], "group": index, "no_decay": free})
    optimizer = _made(opt_func, dicts, rates[-1])
    if wd is not None and "weight_decay" not in optimizer.defaults:
        raise ArgumentError(
            f"wd={wd} was given, and {type(optimizer).__name__} knows no weight decay",
            do="leave wd out, or use another optimizer",
        )
    for settings in optimizer.param_groups:
        if "weight_decay" in settings:
            own = settings["weight_decay"] if wd is None else wd
            settings["weight_decay"] = 0.0 if settings["no_decay"] else own
    return optimizer


def _made(opt_func: OptimizerMaker, dicts: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    base = opt_func.func if isinstance(opt_func, functools.partial) else opt_func
    if base is torch.optim.LBFGS:
        raise ArgumentError(
            "LBFGS calls the model several times a step, which a step here does not allow",
            do="use AdamW or SGD, or a hand-written loop",
        )
    params = [p for settings in dicts for p in settings["params"]]
    optimizer = opt_func(dicts, lr=lr, **_kernel_choice(opt_func, params))
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ArgumentError(
            f"opt_func made a {type(optimizer).__name__}, and a torch.optim.Optimizer was expected",
            do="pass a class of torch.optim, a partial of one, or a function that returns one",
        )
    return optimizer


def _kernel_choice(opt_func: OptimizerMaker, params: Iterable[torch.Tensor]) -> dict[str, bool]:
    """The kernels said out loud, where the class knows them and the user said nothing."""
    given = opt_func.keywords if isinstance(opt_func, functools.partial) else {}
    if "foreach" in given or "fused" in given:
        return {}
    known = inspect.signature(opt_func).parameters
    return {name: value for name, value in kernels_for(params).items() if name in known}


def _check_groups(groups: Sequence[Sequence[nn.Parameter]], model: nn.Module) -> None:
    names = {id(p): name for name, p in model.named_parameters()}
    seen: dict[int, int] = {}
    if not any(p.requires_grad for group in groups for p in group):
        why = "has no parameters" if not names else "is frozen"
        raise ArgumentError(
            f"there is nothing to train: the model {why}",
            do="give it layers with weights, or only validate and predict with it"
            if not names
            else "call learn.unfreeze(), or set requires_grad=True for what should train and "
            "make the Learner after that",
        )
    for index, group in enumerate(groups):
        if not group:
            raise ArgumentError(
                f"parameter group {index} of {len(groups)} is empty",
                do="let the splitter leave the group out",
            )
        for param in group:
            if seen.setdefault(id(param), index) != index:
                name = names.get(id(param), "a parameter")
                raise ArgumentError(
                    f"{name} is in parameter groups {seen[id(param)]} and {index}",
                    do="let the splitter put it into one; weights that are tied belong together",
                )
    missing = [names[id(p)] for p in model.parameters() if p.requires_grad and id(p) not in seen]
    if missing:
        raise ArgumentError(
            f"{len(missing)} parameters of the model are in no group and would never train: {missing[0]}",
            do="let the splitter return them, or set requires_grad=False where that is meant",
        )


# Norms and freezing -------------------------------------------------------------------------------------


def is_norm(module: nn.Module) -> bool:
    """Whether a layer normalises: torch's own, and by name those of others (``LlamaRMSNorm``)."""
    if isinstance(module, _NORMS):
        return True
    own = list(module.parameters(recurse=False))
    return "norm" in type(module).__name__.lower() and bool(own) and all(p.ndim <= 1 for p in own)


def norm_and_bias_params(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of norm layers, and all biases (also ``in_proj_bias``, ``bias_ih_l0``)."""
    found = []
    for module in model.modules():
        norm = is_norm(module)
        for name, param in module.named_parameters(recurse=False):
            if norm or name == "bias" or name.endswith("_bias") or name.startswith("bias_"):
                found.append(param)
    return found


def freeze_to(
    model: nn.Module,
    groups: Sequence[Sequence[nn.Parameter | tuple[str, nn.Parameter]]],
    n: int,
    train_bn: bool,
) -> int:
    """Let only groups from ``n`` on train.

    Args:
        model: tells which parameters belong to norm layers.
        groups: parameters from input to output.
        n: the first group that trains; negative counts from the end, 0 trains everything.
        train_bn: whether norm layers of frozen groups keep training.

    Returns:
        The number of frozen groups.

    Raises:
        ArgumentError: when nothing would train.
    """
    first = n if n >= 0 else len(groups) + n
    if not 0 <= first < len(groups):
        raise ArgumentError(
            f"freeze_to({n}) leaves nothing to train, or counts beyond the {len(groups)} parameter "
            f"group{'s' if len(groups) > 1 else ''}",
            do=f"pass a number from {-len(groups)} to {len(groups) - 1}",
        )
    kept = {id(p) for m in model.modules() if is_norm(m) for p in m.parameters(recurse=False)}
    for index, group in enumerate(groups):
        for entry in group:
            param = entry[1] if isinstance(entry, tuple) else entry
            param.requires_grad_(index >= first or (train_bn and id(param) in kept))
    return first


def frozen_norms_eval(
    model: nn.Module, groups: Sequence[Sequence[nn.Parameter | tuple[str, nn.Parameter]]], frozen: int
) -> list[nn.Module]:
    """The layers of frozen groups that keep running statistics: in eval mode when ``train_bn`` is False.

    Args:
        model: the model.
        groups: parameters from input to output.
        frozen: how many of the first groups are frozen.
    """
    held = {id(e[1] if isinstance(e, tuple) else e) for group in groups[:frozen] for e in group}
    modules = dict(model.named_modules())
    return [
        module
        for name, module in modules.items()
        if getattr(module, "running_mean", None) is not None and _all_held(name, modules, held)
    ]


def _all_held(name: str, modules: Mapping[str, nn.Module], held: set[int]) -> bool:
    # A layer without parameters (affine=False) goes with the nearest module around it that has some.
    while True:
        params = list(modules[name].parameters())
        if params or not name:
            return bool(params) and all(id(p) in held for p in params)
        name = name.rpartition(".")[0]


# Schedules ----------------------------------------------------------------------------------------------


def set_lr(optimizer: torch.optim.Optimizer, values: Sequence[float]) -> None:
    """Set the learning rates, one for each discriminative group."""
    for settings in optimizer.param_groups:
        settings["lr"] = values[settings["group"]]


def set_momentum(optimizer: torch.optim.Optimizer, values: Sequence[float]) -> None:
    """Set the momentum (``momentum``, or the first of ``betas``), one for each discriminative group.

    Raises:
        ArgumentError: when the optimizer has no momentum; see ``momentum_kind``.
    """
    kind = momentum_kind(optimizer)
    if kind == "betas":
        for settings in optimizer.param_groups:
            settings["betas"] = (values[settings["group"]], settings["betas"][1])
    elif kind == "momentum":
        for settings in optimizer.param_groups:
            settings["momentum"] = values[settings["group"]]
    else:
        raise ArgumentError(
            f"{type(optimizer).__name__} has no momentum that could follow a schedule",
            do="pass opt_func=partial(SGD, mom=0.9), or moms=None",
        )


def momentum_kind(optimizer: torch.optim.Optimizer) -> Literal["betas", "momentum"] | None:
    """Where an optimizer keeps its momentum; None where it has none, such as SGD with momentum 0."""
    defaults = optimizer.defaults  # as it was made; a schedule may pass through 0
    if "betas" in defaults:
        return "betas"
    return "momentum" if defaults.get("momentum") else None


def usable_curves(optimizer: torch.optim.Optimizer, curves: Mapping[str, Any]) -> dict[str, Any]:
    """The curves that an optimizer can follow: without ``mom``, and with a warning, where it has none.

    Torch's SGD would take a scheduled momentum although it was made without one, fastai's ignores it.
    """
    if "mom" not in curves or momentum_kind(optimizer) is not None:
        return dict(curves)
    warnings.warn(
        f"{type(optimizer).__name__} was made without momentum, so the schedule of momentum is not used; "
        "pass opt_func=partial(SGD, mom=0.9) to have both",
        stacklevel=2,
    )
    return {name: curve for name, curve in curves.items() if name != "mom"}


def optimizer_facts(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Every hyperparameter as it is in force, for the recipe: the class, its numbers, its kernels.

    Per group: ``groups`` lists number of parameters, learning rate and weight decay.
    """
    groups = [
        {
            "group": settings.get("group", 0),
            "params": sum(p.numel() for p in settings["params"]),
            "lr": settings["lr"],
            "weight_decay": settings.get("weight_decay", 0.0),
        }
        for settings in optimizer.param_groups
    ]
    kind = type(optimizer)
    shared = {k: v for k, v in optimizer.defaults.items() if k not in {"lr", "weight_decay"}}
    return {"class": f"{kind.__module__}.{kind.__qualname__}", **shared, "groups": groups}


def momenta(optimizer: torch.optim.Optimizer, n_groups: int) -> list[float]:
    """The momentum of each discriminative group as it is; empty for an optimizer that has none."""
    kind = momentum_kind(optimizer)
    if kind is None:
        return []
    first = {settings["group"]: settings for settings in reversed(optimizer.param_groups)}
    values = [first[i]["betas"][0] if kind == "betas" else first[i]["momentum"] for i in range(n_groups)]
    return [float(value) for value in values]
