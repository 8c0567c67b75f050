"""Image models: the body of a known network without its classifier, and a new head on it.

A body comes from a function of torchvision, a name of timm, or a function of the user; it is split into
parameter groups for discriminative learning rates. This file must know nothing of data or training.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from surefast.errors import ArgumentError, TaskError, WeightsError, nearest
from surefast.recipe.call import Call, call_of, current_call, declared
from surefast.train.weights import FitReport, fit_state
from surefast.vision.head import apply_init, create_head
from surefast.vision.pretrained import (
    IMAGENET_STATS,
    Pretrained,
    Stats,
    from_file,
    from_timm,
    from_torchvision,
    require_timm,
    timm_stats,
    torchvision_stats,
)
from surefast.vision.xresnet import XResNet, xresnet18, xresnet34, xresnet50, xresnet101

Arch: TypeAlias = "Callable[..., nn.Module] | str"
"""A function that makes a model, or a name that timm knows."""

Cut: TypeAlias = "int | Callable[[nn.Module], nn.Module] | None"
"""Where a body ends: a number of children, a function that gives the body, or None for the known place."""

Weights: TypeAlias = "str | os.PathLike[str] | WeightsEnum | None"
"""A file, or one of torchvision's named weights."""

Splitter: TypeAlias = Callable[[nn.Module], "list[list[nn.Parameter]]"]
"""Divides the parameters of a model into groups, the ones nearest to the picture first."""

_CLASSIFIER: Final = ("avgpool", "global_pool", "fc", "classifier", "head", "heads", "flatten", "dropout")
"""Children that belong to a classifier: a body ends before the first of them."""

_SPLIT_AT: Final = {"resnet": 6, "densenet": 7, "vgg": 22, "alexnet": 6, "squeezenet": 5}
"""The child of the body (or of its ``features``) where a family is split again; fastai's places."""

_TORCHVISION_FAMILIES: Final = frozenset([
    *_SPLIT_AT, "mobilenetv2", "mobilenetv3", "efficientnet", "convnext", "regnet", "mnasnet",
    "shufflenetv2", "swin_transformer",
])  # fmt: skip
"""torchvision's files whose models are their children in a row; a test compares each with the original."""

_XRESNETS: Final = (xresnet18, xresnet34, xresnet50, xresnet101)

_PROBE_PX: Final = 96
"""Side of the picture that finds out what a body gives; Inception's kind needs 75 at least."""


@dataclass(frozen=True, kw_only=True)
class ModelMeta:
    """What is known of an architecture."""

    library: Literal["torchvision", "timm", "surefast", "own"]
    """Where it comes from; ``own`` is a function of the user."""

    name: str
    """Its name in that library."""

    cut: Cut = None
    """Where its body ends; None for the first child that belongs to a classifier."""

    split_at: int | None = None
    """The child of the body at which a second group of parameters begins; None for one group."""

    @property
    def splitter(self) -> Splitter:
        """The function that makes the groups of parameters."""
        return default_split if self.split_at is None else functools.partial(split_body, at=self.split_at)


def default_split(model: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of (body, head) in two groups."""
    body, *rest = model.children()
    return [list(body.parameters()), [p for part in rest for p in part.parameters()]]


def split_body(model: nn.Module, at: int) -> list[list[nn.Parameter]]:
    """The parameters of (body, head) in three groups; the second begins with child ``at`` of the body."""
    body, *_ = model.children()
    layers = list(body.children())
    if len(layers) <= 2 and isinstance(layers[0], nn.Sequential):  # ``features`` holds the layers
        layers = [*layers[0].children(), *layers[1:]]
    parts = layers[:at], layers[at:]
    return [*([p for layer in part for p in layer.parameters()] for part in parts), default_split(model)[1]]


@declared(skip={"arch"})
def model_meta(arch: Arch) -> ModelMeta:
    """What is known of an architecture: where it is cut and how its parameters are grouped.

    Raises:
        ArgumentError: it is neither a function nor a name, or a function of torchvision that has no body
            in a row.
    """
    if isinstance(arch, str):
        return ModelMeta(library="timm", name=arch)
    if isinstance(arch, nn.Module) or not callable(arch):
        raise ArgumentError(
            f"arch is a {type(arch).__name__}, where a function that makes a model or a name was expected",
            do="pass resnet18 without brackets, a name such as 'resnet18', or a model to Learner(dls, model)",
        )
    name = getattr(arch, "__name__", type(arch).__name__)
    if arch in _XRESNETS:
        return ModelMeta(library="surefast", name=name, cut=-4, split_at=3)
    package, _, family = getattr(arch, "__module__", "").rpartition(".")
    if package != "torchvision.models":
        return ModelMeta(library="own", name=name)
    if family not in _TORCHVISION_FAMILIES:
        raise ArgumentError(
            f"torchvision's {name} does more than run its children in a row, so it has no body to cut off",
            do="take timm's by name, such as 'vit_small_patch16_224', or pass a model to Learner(dls, model)",
        )
    return ModelMeta(library="torchvision", name=name, split_at=_SPLIT_AT.get(family))


class TimmBody(nn.Module):
    """The features of a timm model.

    Args:
        model: the model, without its classifier.
        layout: ``nchw`` or ``nhwc`` for how it arranges its map of features, which is (B, C, H, W) here
            in either case; ``pooled`` for a model that pools in its own way and gives (B, C).
    """

    def __init__(self, model: nn.Module, layout: Literal["nchw", "nhwc", "pooled"]) -> None:
        super().__init__()
        self.model = model
        self.layout = layout

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), or (B, C) where the model pools in its own way."""
        if self.layout == "pooled":
            pooled: Tensor = self.model(x)
            return pooled
        features: Tensor = self.model.forward_features(x)  # type: ignore[operator]  # timm's contract
        return features.permute(0, 3, 1, 2) if self.layout == "nhwc" else features


@declared(neutral={"weights"})
def create_body(
    arch: Arch, n_in: int = 3, pretrained: bool = True, cut: Cut = None, weights: Weights = None
) -> nn.Module:
    """The network of ``arch`` without its classifier: (B, ``n_in``, H, W) to (B, C, h, w).

    What it found out (source and hash of the weights, number of features, statistics for Normalize) stands
    in the record of the call: ``call_of(body).values``.

    Args:
        arch: a function of torchvision, a name of timm, or an own function without arguments.
        n_in: channels of the pictures. With other than 3 the first convolution is changed: its weights are
            summed for 1, the first two taken times 1.5 for 2, and new channels start at zero.
        pretrained: whether to start from weights; from ``weights`` or those that the library names.
        cut: number of children that make the body, or a function of the model; the known place where None.
        weights: a file (safetensors, .pth), or one of torchvision's named weights.

    Raises:
        ArgumentError: the architecture is unknown, or cannot be cut.
        WeightsError: the weights are not on this machine, unsafe, or of another model.
    """
    if weights is not None and not pretrained:
        raise ArgumentError(
            f"weights={str(weights)!r} and pretrained=False contradict each other",
            do="leave out one of the two",
        )
    meta = model_meta(arch)
    built = _build(arch, meta)
    if pretrained:
        _load(built, arch, meta, weights)
    _adapt_input(built.model, n_in, pretrained=pretrained)
    body = _cut_timm(built.model) if meta.library == "timm" and cut is None else _cut(built.model, meta, cut)
    shape = _probe(body, n_in, built.probe_px).shape
    call = current_call()
    call.infer("num_features", shape[1], "seen on a test picture")
    call.infer("pooled", len(shape) == 2, "seen on a test picture")
    for name, value, why in built.facts:
        # Where a file lies cannot change bits; what was in it, the hash, can.
        call.infer(name, value, why, neutral=name == "weights_from")
    return body


@declared(neutral={"weights"})
def create_vision_model(  # noqa: PLR0913 - fastai's argument list
    arch: Arch,
    n_out: int,
    pretrained: bool = True,
    weights: Weights = None,
    cut: Cut = None,
    *,
    n_in: int = 3,
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
) -> nn.Sequential:
    """A body of ``arch`` and a new head on it: (B, ``n_in``, H, W) to (B, ``n_out``).

    They are ``model[0]`` and ``model[1]``.

    Args:
        arch: see ``create_body``.
        n_out: numbers out.
        pretrained: see ``create_body``.
        weights: see ``create_body``.
        cut: see ``create_body``.
        n_in: channels of the pictures.
        init: draws the weights of the head; None leaves torch's own.
        custom_head: a head of your own for the features of the body; what is below has no meaning then.
        concat_pool: see ``create_head``.
        pool: see ``create_head``; False by itself where the body pools in its own way.
        lin_ftrs: see ``create_head``.
        ps: see ``create_head``.
        first_bn: see ``create_head``.
        bn_final: see ``create_head``.
        lin_first: see ``create_head``.
        y_range: see ``create_head``.

    Raises:
        TaskError: the head does not give ``n_out`` numbers, or does not take what the body gives.
    """
    body = create_body(arch, n_in, pretrained, cut, weights)
    facts = facts_of(body)
    nf = int(facts.values["num_features"].value)
    head = custom_head
    if head is None:
        pooled = bool(facts.values["pooled"].value)
        head = create_head(
            nf, n_out, lin_ftrs, ps, pool and not pooled, concat_pool=concat_pool, first_bn=first_bn,
            bn_final=bn_final, lin_first=lin_first, y_range=y_range,
        )  # fmt: skip
    if init is not None:
        apply_init(head, init)
    model = nn.Sequential(body, head)
    if custom_head is not None:
        _check_head(head, nf, n_out, pooled=bool(facts.values["pooled"].value))
    for name, value in facts.values.items():
        if value.origin == "inferred" and name not in current_call().values:
            current_call().values[name] = value
    return model


def facts_of(made: object) -> Call:
    """The record of what made a body or a model."""
    call = call_of(made)
    assert call is not None, "made by create_body or create_vision_model"
    return call


@declared(skip={"body"})
def num_features_model(body: nn.Module, n_in: int = 3) -> int:
    """How many features a body gives for a picture of ``n_in`` channels, found by trying."""
    return _probe(body, n_in, _PROBE_PX).shape[1]


# --------------------------------------------------------------------------------------------- building


@dataclass
class _Built:
    """A whole model, and what was learned while it was made."""

    model: nn.Module
    stats: Stats
    probe_px: int
    facts: list[tuple[str, object, str]]


def _build(arch: Arch, meta: ModelMeta) -> _Built:
    if isinstance(arch, str):
        timm = require_timm()
        if not timm.is_model(arch.split(".")[0]):
            close = nearest(arch, timm.list_models())
            raise ArgumentError(
                f"timm knows no model {arch!r}",
                do=f"did you mean {close!r}?" if close else "timm.list_models('*net*') lists them",
            )
        model = timm.create_model(arch, pretrained=False, num_classes=0)
        settings = model.pretrained_cfg
        fixed = settings.get("fixed_input_size") or settings.get("pool_size") is None
        side = settings.get("input_size", (3, 224, 224))[-1] if fixed else _PROBE_PX
        return _Built(model, timm_stats(model), side, [])
    model = arch(weights=None) if meta.library == "torchvision" else arch()
    if not isinstance(model, nn.Module):
        raise ArgumentError(
            f"{meta.name}() gave a {type(model).__name__}, where a model was expected",
            do="pass a function that makes an nn.Module",
        )
    return _Built(model, IMAGENET_STATS, _PROBE_PX, [])


def _load(built: _Built, arch: Arch, meta: ModelMeta, weights: Weights) -> None:
    """Put pretrained weights into a whole model, all but its classifier."""
    found, stats = _find(built, arch, meta, weights)
    report = _fit(built.model, found, meta)
    origin = "the file given" if meta.library == "own" or _is_file(weights) else f"named by {meta.library}"
    built.facts += [
        ("weights_from", found.source, origin),
        ("weights_sha256", found.digest, "of the file that was read"),
        ("weights_ignored", report.ignored, "the original's classifier, which the new head replaces"),
        ("mean", stats[0], f"what the weights of {meta.name} expect"),
        ("std", stats[1], f"what the weights of {meta.name} expect"),
    ]


def _find(built: _Built, arch: Arch, meta: ModelMeta, weights: Weights) -> tuple[Pretrained, Stats]:
    if _is_file(weights):
        stats = torchvision_stats(arch) if meta.library == "torchvision" else built.stats  # type: ignore[arg-type]
        return from_file(weights), stats  # type: ignore[arg-type]  # _is_file says so
    if meta.library == "torchvision":
        return from_torchvision(arch, weights)  # type: ignore[arg-type]  # a function, says meta
    if weights is not None:
        raise ArgumentError(
            f"weights={weights} are torchvision's, but {meta.name} is not",
            do="pass a file, or torchvision's function",
        )
    if meta.library == "timm":
        return from_timm(meta.name), built.stats
    raise WeightsError(
        f"there are no known pretrained weights for {meta.name}",
        do="pass pretrained=False to train from scratch, or weights=FILE",
    )


def _is_file(weights: Weights) -> bool:
    """Whether a file is meant, rather than one of torchvision's names such as ``IMAGENET1K_V1``."""
    if weights is None or isinstance(weights, WeightsEnum):
        return False
    return not isinstance(weights, str) or not weights.isupper() or Path(weights).exists()


def _fit(model: nn.Module, found: Pretrained, meta: ModelMeta) -> FitReport:
    """Copy the weights; a classifier in them is left out, and the model's own is not asked for."""
    if meta.library == "timm":
        named = model.pretrained_cfg.get("classifier") or ()  # type: ignore[union-attr, operator]
        ignore = {named} if isinstance(named, str) else set(named)
    else:
        ignore = {name for name, _ in model.named_children() if name in _CLASSIFIER}
    own = {name for name, _ in model.named_modules()}
    ignore |= {root for root in ("fc", "classifier", "head.fc") if root not in own}
    if isinstance(model, XResNet):
        ignore.add(str(len(model) - 1))
    return fit_state(model, found.state, ignore=sorted(ignore))


def _adapt_input(model: nn.Module, n_in: int, *, pretrained: bool) -> None:
    """Make the first convolution take ``n_in`` channels (fastai's rule; its class and padding stay)."""
    first = next((layer for layer in model.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is not None and first.in_channels == n_in:
        return
    if first is None or first.in_channels != 3 or first.groups != 1 or n_in < 1:
        raise ArgumentError(
            f"a model for pictures of {n_in} channels was asked for, but this one cannot be changed to that",
            do="pass n_in=3 and pictures of 3 channels, or a model of your own to Learner(dls, model)",
            found="no convolution" if first is None else f"{first} as the first convolution",
        )
    old = first.weight.detach()
    first.in_channels = n_in
    first.weight = nn.Parameter(old.new_zeros(old.shape[0], n_in, *old.shape[2:]))
    if not pretrained:
        first.reset_parameters()
    elif n_in == 1:
        first.weight.data = old.sum(dim=1, keepdim=True)
    elif n_in == 2:
        first.weight.data = old[:, :2] * 1.5
    else:
        first.weight.data[:, :3] = old


def _cut(model: nn.Module, meta: ModelMeta, cut: Cut) -> nn.Module:
    place = meta.cut if cut is None else cut
    if callable(place):
        return place(model)
    children = list(model.named_children())
    if place is None:
        place = next((i for i, (name, _) in enumerate(children) if name in _CLASSIFIER), None)
    if place is None or not children[:place]:
        raise ArgumentError(
            f"it is not known where the body of {meta.name} ends; its children are: "
            + (", ".join(name for name, _ in children) or "none"),
            do="pass cut= the number of children that make the body, or a function that gives the body",
        )
    layers = [layer for _, layer in children[:place]]
    if meta.library == "torchvision" and meta.name.startswith("densenet"):
        layers.append(nn.ReLU(inplace=True))  # a function call in torchvision's forward
    return nn.Sequential(*layers)


def _cut_timm(model: nn.Module) -> TimmBody:
    """The features of a timm model, with the parts that only its classifier used taken out."""
    settings = model.pretrained_cfg
    if settings.get("pool_size") is None:  # type: ignore[union-attr, operator]
        return TimmBody(model, "pooled")
    nhwc = getattr(model, "output_fmt", "NCHW") == "NHWC"
    body = TimmBody(model, "nhwc" if nhwc else "nchw")
    _drop_unused(body)
    return body


def _drop_unused(body: TimmBody) -> None:
    """Replace top-level parts that ``forward_features`` does not run: they would never get a gradient."""
    ran: set[str] = set()
    parts = dict(body.model.named_children())
    hooks = [
        module.register_forward_pre_hook(lambda _module, _args, name=name: ran.add(name))
        for name, part in parts.items()
        for module in part.modules()
    ]
    side = int(body.model.pretrained_cfg["input_size"][-1])  # type: ignore[index]
    first = next(layer for layer in body.modules() if isinstance(layer, nn.Conv2d))
    before = _probe(body, first.in_channels, side)
    for hook in hooks:
        hook.remove()
    unused = [
        name for name, part in parts.items() if name not in ran and any(True for _ in part.parameters())
    ]
    for name in unused:
        setattr(body.model, name, nn.Identity())
    assert torch.equal(before, _probe(body, first.in_channels, side)), f"{unused} were used after all"


def _probe(body: nn.Module, n_in: int, side: int) -> Tensor:
    """What a body gives for one grey wedge; statistics and training flags stay as they are."""
    training = {module: module.training for module in body.modules()}
    body.eval()
    try:
        with torch.no_grad():
            out = body(torch.linspace(-1, 1, side).expand(1, n_in, side, side))
    except (RuntimeError, ValueError, TypeError) as error:
        raise ArgumentError(
            f"the body cannot be run on a picture ({n_in}, {side}, {side})",
            do="pass cut= a number of children that can run in a row, or a function that gives the body",
            cause=error,
        ) from error
    finally:
        for module, flag in training.items():
            module.training = flag
    if not isinstance(out, Tensor) or out.ndim not in {2, 4}:
        found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ArgumentError(
            f"the body gives {found}, where a tensor (B, C, H, W) or (B, C) was expected",
            do="pass cut= a function that gives a body with such an output, or another arch",
        )
    return out


def _check_head(head: nn.Module, nf: int, n_out: int, *, pooled: bool) -> None:
    """A head of the user must take what the body gives and give what the task asks."""
    training = {module: module.training for module in head.modules()}
    head.eval()
    empty = torch.zeros(2, nf) if pooled else torch.zeros(2, nf, 3, 3)
    try:
        with torch.no_grad():
            out = head(empty)
    except (RuntimeError, ValueError) as error:
        raise TaskError(
            f"custom_head cannot take the features of the body, {tuple(empty.shape[1:])} for each picture",
            do=f"make its first layer take {nf} features (and pool the map)"
            if not pooled
            else f"take {nf} numbers",
            cause=error,
        ) from error
    finally:
        for module, flag in training.items():
            module.training = flag
    if not isinstance(out, Tensor) or out.shape[-1] != n_out:
        found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise TaskError(
            f"custom_head gives {found} for 2 pictures, but the task needs (2, {n_out})",
            do=f"make its last layer give {n_out} numbers",
        )
