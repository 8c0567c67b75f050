"""Learners for images: a known network with a new head, and the data prepared for it.

This file must not know how a network is cut or trained; it puts together what others make.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import Tensor, nn

from surefast.data.dataloaders import DataLoaders
from surefast.errors import ArgumentError, SurefastWarning, TaskError
from surefast.keys.generator import seeded
from surefast.keys.key import DEFAULT_SEED, make_key
from surefast.keys.settings import Determinism
from surefast.learner import Learner
from surefast.recipe.call import RECORD, call_of, current_call, declared
from surefast.train.optimizer import AdamW
from surefast.train.parts import choose_loss, note_loss
from surefast.train.precision import PrecisionName
from surefast.vision.augment import Normalize
from surefast.vision.models import Arch, Cut, Splitter, Weights, create_vision_model, facts_of, model_meta

_FACTS: Final = ("num_features", "weights_from", "weights_sha256", "weights_ignored")
"""What the model found out about itself that belongs into the recipe."""


@declared(neutral={"run_dir", "path", "model_dir", "weights"}, skip={"defaults"})
def vision_learner(
    dls: DataLoaders,
    arch: Arch,
    normalize: bool = True,
    n_out: int | None = None,
    pretrained: bool = True,
    weights: Weights = None,
    loss_func: Callable[..., Any] | None = None,
    opt_func: Callable[..., torch.optim.Optimizer] = AdamW,
    lr: float = 1e-3,
    splitter: Splitter | None = None,
    cbs: Any = None,
    metrics: Any = None,
    path: str | Path | None = None,
    model_dir: str | Path = "models",
    wd: float | None = None,
    wd_bn_bias: bool = False,
    train_bn: bool = True,
    moms: tuple[float, float, float] = (0.95, 0.85, 0.95),
    cut: Cut = None,
    init: Callable[[Tensor], Any] | None = nn.init.kaiming_normal_,
    custom_head: nn.Module | None = None,
    concat_pool: bool = True,
    pool: bool = True,
    lin_ftrs: Sequence[int] | None = None,
    ps: float | Sequence[float] = 0.5,
    first_bn: bool = True,
    bn_final: bool = False,
    lin_first: bool = False,
    y_range: tuple[float, float] | None = None,
    n_in: int | None = None,
    *,
    seed: int = DEFAULT_SEED,
    precision: PrecisionName = "fp32",
    grains: int = 1,
    determinism: Determinism = "strict",
    threads: int | None = None,
    defaults: str | Path = "shown",
    run_dir: str | Path | None = None,
    device: str | torch.device | None = None,
) -> Learner:
    """A Learner for images: a body that ``arch`` names, and a new head for the task of ``dls``.

    With pretrained weights the body is frozen, so that ``fit`` trains the head alone until ``unfreeze``,
    and the pictures are normalised as the weights expect. ``dls`` is not changed: the Learner has its own.

    Args:
        dls: the data.
        arch: a function of torchvision such as ``resnet34``, a name that timm knows, ``xresnet34``, or a
            function of your own that makes a model.
        normalize: whether to normalise as the weights expect, where the data does not do it yet.
        n_out: numbers that the model gives; by default what the task of the data needs.
        pretrained: whether to start from weights.
        weights: a file of weights, or one of torchvision's; by default those that the library names.
        loss_func: see ``Learner``; by default the task's.
        opt_func: see ``Learner``.
        lr: see ``Learner``.
        splitter: divides the parameters into groups; by default as ``model_meta(arch)`` says.
        cbs: see ``Learner``.
        metrics: see ``Learner``.
        path: see ``Learner``.
        model_dir: see ``Learner``.
        wd: see ``Learner``.
        wd_bn_bias: see ``Learner``.
        train_bn: see ``Learner``. Small networks can lose by training their norms on little data.
        moms: see ``Learner``.
        cut: see ``create_body``.
        init: see ``create_vision_model``.
        custom_head: see ``create_vision_model``.
        concat_pool: see ``create_head``.
        pool: see ``create_head``.
        lin_ftrs: see ``create_head``.
        ps: see ``create_head``.
        first_bn: see ``create_head``.
        bn_final: see ``create_head``.
        lin_first: see ``create_head``.
        y_range: see ``create_head``.
        n_in: channels of the pictures; by default those of the first batch.
        seed: see ``Learner``.
        precision: see ``Learner``.
        grains: see ``Learner``.
        determinism: see ``Learner``.
        threads: see ``Learner``.
        defaults: see ``Learner``.
        run_dir: see ``Learner``.
        device: see ``Learner``.

    Raises:
        ArgumentError: the architecture is unknown, or cannot be cut.
        TaskError: the head does not give what the task needs.
        WeightsError: the weights are not on this machine, unsafe, or of another model.

    >>> learn = vision_learner(dls, resnet34, metrics=error_rate)  # doctest: +SKIP
    """
    call = current_call()
    outputs = _outputs(dls, n_out)
    channels = n_in if n_in is not None else _channels(dls)
    call.settle("n_out", outputs, "what the task of the data needs")
    call.settle("n_in", channels, "channels of the first batch")
    if loss_func is not None:
        loss = choose_loss(loss_func, dls)
        note_loss(call, loss_func, loss)
        loss_func = loss
    with seeded(make_key(seed, "init")):
        model = create_vision_model(
            arch, outputs, pretrained, weights, cut, n_in=channels, init=init, custom_head=custom_head,
            concat_pool=concat_pool, pool=pool, lin_ftrs=lin_ftrs, ps=ps, first_bn=first_bn,
            bn_final=bn_final, lin_first=lin_first, y_range=y_range,
        )  # fmt: skip
    facts = facts_of(model).values
    call.values.update({name: facts[name] for name in _FACTS if name in facts})
    if normalize and pretrained:
        dls = _normalized(dls, (facts["mean"].value, facts["std"].value), channels)
    meta = model_meta(arch)
    if splitter is None:
        call.infer("groups", len(meta.splitter(model)), f"parameter groups of {meta.name}, head included")
    learn = Learner(
        dls, _Prepared(model), loss_func=loss_func, opt_func=opt_func, lr=lr,
        splitter=splitter or meta.splitter, cbs=cbs, metrics=metrics, path=path, model_dir=model_dir, wd=wd,
        wd_bn_bias=wd_bn_bias, train_bn=train_bn, moms=moms, seed=seed, precision=precision, grains=grains,
        determinism=determinism, threads=threads, defaults=defaults, run_dir=run_dir, device=device,
    )  # fmt: skip
    # Noted where it is an argument, so that the same training on another machine is given it.
    call.settle("threads", learn.settings.threads, "what this process has")
    if pretrained:
        learn.freeze()
    return learn


cnn_learner = vision_learner
"""fastai's older name for the same function; the recipe says ``vision_learner``."""


@final
class _Prepared:
    """A model that was made under the run's ``init`` key, as a function that gives it.

    To the Learner a module stands for weights from anywhere, which must be stored with the run; these can be
    made again from the recipe.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        setattr(self, RECORD, call_of(model))  # the recipe describes it as what made the model

    def __call__(self) -> nn.Module:
        return self._model


def _outputs(dls: DataLoaders, n_out: int | None) -> int:
    """How many numbers the model must give: what the task says, checked against what the user says."""
    if dls.task is None:
        if n_out is None:
            raise TaskError(
                "it is not known how many numbers the model must give: the data has no target block",
                do="pass n_out=, the number of classes (or of values to predict)",
            )
        return n_out
    if n_out is not None and n_out != dls.task.n_out:
        vocab = f": {', '.join(dls.task.vocab[:5])}" if dls.task.vocab else ""
        raise TaskError(
            f"n_out={n_out}, but the task of the data needs {dls.task.n_out} ({dls.task.kind}{vocab})",
            do="leave out n_out, or change the target block",
        )
    return dls.task.n_out


def _channels(dls: DataLoaders) -> int:
    x = dls.one_batch()[0]
    if not isinstance(x, Tensor) or x.ndim != 4:
        found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ArgumentError(
            f"the first input of a batch is {found}, where pictures (B, C, H, W) were expected",
            do="use an ImageBlock first, or Learner(dls, model) with a model for such data",
        )
    return int(x.shape[1])


def _normalized(
    dls: DataLoaders, stats: tuple[tuple[float, ...], tuple[float, ...]], channels: int
) -> DataLoaders:
    """The same data, normalised as the weights expect; with the reason where it stays as it is."""
    call = current_call()
    given = next((t for t in dls.train.batch_tfms if isinstance(t, Normalize)), None)
    if given is not None:
        if (given.mean, given.std) != stats:
            warnings.warn(
                f"the data is normalised with mean={given.mean}, std={given.std}, but the pretrained weights "
                f"expect mean={stats[0]}, std={stats[1]}; leave out Normalize to have that done",
                SurefastWarning,
                stacklevel=4,
            )
        call.infer("normalized_by", "the data", "its batch transforms have a Normalize already")
        return dls
    if len(stats[0]) != channels:
        why = f"the weights expect {len(stats[0])} channels and the pictures have {channels}"
        call.infer("normalized_by", "nothing", why)
        return dls
    call.infer("normalized_by", "vision_learner", "pretrained weights need pictures as they were trained on")
    call.infer("mean", stats[0], "what the pretrained weights expect")
    call.infer("std", stats[1], "what the pretrained weights expect")
    return dls.with_batch_tfms([Normalize.from_stats(*stats)])
