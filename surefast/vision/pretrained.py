"""Pretrained weights: from a file of the user, from a cache, or from the network, never unpickled.

torchvision's and timm's own loaders would unpickle what they download; here the file is fetched, and read
by ``train/weights.py`` alone. Where it is already in one of their caches, it is taken from there.
"""

from __future__ import annotations

import hashlib
import os
import re
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from surefast.errors import ArgumentError, MissingExtraError, WeightsError, nearest
from surefast.train.weights import load_state

Stats = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, of pixels between 0 and 1."""

IMAGENET_STATS: Final[Stats] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Of the ImageNet training set; what most weights were trained with."""

_HASH_IN_NAME: Final = re.compile(r"-([a-f0-9]{8,})\.")


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Weights that were found, and what a recipe must know of them."""

    state: dict[str, Tensor]
    """The tensors under the names of the original model."""

    source: str
    """What they are called: a file, ``ResNet18_Weights.IMAGENET1K_V1``, ``timm/resnet18.a1_in1k``."""

    digest: str
    """SHA-256 of the file, so that a name that changed its meaning is noticed."""


def from_file(file: str | os.PathLike[str]) -> Pretrained:
    """The weights in a file of the user."""
    state = load_state(file)
    return Pretrained(state=state, source=str(file), digest=_digest(Path(file)))


def from_torchvision(arch: Callable[..., Any], weights: object = None) -> tuple[Pretrained, Stats]:
    """The weights that torchvision names for one of its functions, and the statistics they expect.

    Args:
        arch: the function, such as ``torchvision.models.resnet18``.
        weights: a member of its weights enum or the name of one; the default one where None.
    """
    entry = _torchvision_entry(arch, weights)
    name = f"{type(entry).__name__}.{entry.name}"
    file = _cached_url(entry.url, f"{arch.__name__} ({name})")
    found = Pretrained(state=load_state(file), source=name, digest=_digest(file))
    return found, _torchvision_entry_stats(entry)


def from_timm(name: str) -> Pretrained:
    """The weights that timm names for a model, from Hugging Face's cache or the network.

    Args:
        name: a model of timm, with a tag or without: ``resnet18.a1_in1k``.
    """
    timm = require_timm()
    settings = timm.get_pretrained_cfg(name)
    if settings is None or not (settings.hf_hub_id or settings.url):
        raise WeightsError(
            f"timm has no pretrained weights for {name!r}",
            do="pass pretrained=False or weights=FILE, or one of: "
            + (", ".join(_tagged(name)) or "another model"),
        )
    what = f"{name} (timm)"
    if not settings.hf_hub_id:
        file = _cached_url(settings.url, what)
        return Pretrained(state=load_state(file), source=settings.url, digest=_digest(file))
    repository = str(settings.hf_hub_id)
    file = _hub_cached(repository) or _cached_url(
        _hub_url(repository), what, file_name=f"{repository.replace('/', '--')}.safetensors"
    )
    return Pretrained(state=load_state(file), source=repository, digest=_digest(file))


def torchvision_stats(arch: Callable[..., Any]) -> Stats:
    """The statistics that torchvision's default weights of a function expect."""
    return _torchvision_entry_stats(_torchvision_entry(arch, None))


def timm_stats(model: Any) -> Stats:
    """The statistics in the settings of a timm model."""
    settings = model.pretrained_cfg
    mean, std = settings.get("mean"), settings.get("std")
    if not mean or not std:
        return IMAGENET_STATS
    return tuple(map(float, mean)), tuple(map(float, std))


def require_timm() -> Any:
    """The timm library, or the error that says how to install it."""
    try:
        import timm  # heavy: only where a timm model is asked for
    except ImportError as error:
        raise MissingExtraError(
            "timm is not installed, and a model was asked for by name",
            do="pip install 'surefast[vision]', or pass a function of torchvision.models",
        ) from error
    return timm


def _torchvision_entry(arch: Callable[..., Any], weights: object) -> Any:
    from torchvision.models import WeightsEnum, get_model_weights  # see vision/models.py

    known = get_model_weights(arch)
    if weights is None:
        weights = "DEFAULT"
    if isinstance(weights, WeightsEnum):
        if weights not in set(known):
            raise ArgumentError(
                f"{weights} are not weights of {arch.__name__}",
                do=f"use one of: {', '.join(map(str, known))}",
            )
        return weights
    names = [entry.name for entry in known]
    if weights == "DEFAULT":
        return known.DEFAULT
    if weights not in names:
        close = nearest(str(weights), names)
        raise WeightsError(
            f"{arch.__name__} has no weights {weights!r}, and there is no such file",
            do=f"did you mean {close!r}?" if close else f"pass a file or one of: {', '.join(names)}",
        )
    return known[str(weights)]


def _torchvision_entry_stats(entry: Any) -> Stats:
    preset = entry.transforms()
    return tuple(map(float, preset.mean)), tuple(map(float, preset.std))


def _tagged(name: str) -> list[str]:
    timm = require_timm()
    found: list[str] = timm.list_models(f"{name.split('.')[0]}*", pretrained=True)
    return found[:5]


def _hub_cached(repository: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache  # comes with timm

    found = try_to_load_from_cache(repository, "model.safetensors")
    return Path(found) if isinstance(found, str) else None


def _hub_url(repository: str) -> str:
    from huggingface_hub import hf_hub_url  # comes with timm

    return hf_hub_url(repository, "model.safetensors")


def _cached_url(url: str, what: str, file_name: str | None = None) -> Path:
    """The file behind an address: from torch's cache folder, or downloaded to it."""
    name = file_name or Path(urllib.parse.urlparse(url).path).name
    file = Path(torch.hub.get_dir()) / "checkpoints" / name
    if file.is_file():
        return file
    found = _HASH_IN_NAME.search(name)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), found and found.group(1), progress=False)
    except (OSError, RuntimeError) as error:  # no network, a proxy's refusal, a full disk, a wrong hash
        raise WeightsError(
            f"the pretrained weights of {what} are not on this machine and could not be downloaded",
            do=f"download {url} elsewhere and place it as {file}; or pass weights=FILE with a file of "
            "weights that you have, or pretrained=False to train from scratch",
            cause=error,
        ) from error
    return file


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
