"""What a run stands on: versions, threads, flags and the machine. Cheap: nothing is imported for it."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch

from surefast.recipe.value import Value

PACKAGES: Final = ("surefast", "torch", "torchvision", "numpy", "pillow", "timm", "simplejpeg")
"""Packages whose version can change bits; one that is not installed is left out."""

DECIDING_VARIABLES: Final = (
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "OPENBLAS_CORETYPE",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
"""Environment variables that choose kernels; those that are set belong into the recipe."""


def environment(
    device: torch.device | None = None, variables: Mapping[str, str] | None = None
) -> dict[str, Value]:
    """Everything around a run that can change its bits, and the machine's names for people.

    Args:
        device: where the model is trained; the CPU where None.
        variables: environment variables that are set, as ``keys.settings.read_variables`` gives them for
            ``DECIDING_VARIABLES``.
    """
    kind = device.type if device is not None else "cpu"
    found: dict[str, Value] = {"python": _fact(platform.python_version())}
    for name in PACKAGES:
        version = _version(name)
        if version:
            found[name] = _fact(version)
    found |= {
        "platform": _fact(f"{platform.system()}-{platform.machine()}"),
        "device": _fact(kind),
        "threads": _fact(torch.get_num_threads()),
        "cpu_capability": _fact(torch.backends.cpu.get_cpu_capability()),
        "blas": _fact(_blas()),
        "determinism": _fact(_determinism()),
        "cpu": _fact(_cpu_name(), neutral=True),
    }
    if kind == "cuda":
        found |= _card(device)
    for name, value in (variables or {}).items():
        found[name] = _fact(value)
    return found


def _fact(value: Any, *, neutral: bool = False) -> Value:
    return Value(value, "inferred", "", neutral)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _blas() -> str:
    parts = []
    if torch.backends.mkl.is_available():
        parts.append("mkl")
    if torch.backends.mkldnn.is_available():
        parts.append("onednn")
    return "+".join(parts) or "other"


def _determinism() -> str:
    if not torch.are_deterministic_algorithms_enabled():
        return "off"
    return "warn" if torch.is_deterministic_algorithms_warn_only_enabled() else "strict"


def _cpu_name() -> str:
    """The processor's name; the first lines of the list suffice, which is long on large machines."""
    other = platform.processor() or platform.machine()
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            names = [
                line.partition(":")[2].strip() for line in islice(file, 12) if line.startswith("model name")
            ]
    except OSError:
        return other
    return names[0] if names else other


def _card(device: torch.device | None) -> dict[str, Value]:
    major, minor = torch.cuda.get_device_capability(device)
    return {
        "card": _fact(torch.cuda.get_device_name(device)),
        "card_capability": _fact(f"{major}.{minor}"),
        "cuda": _fact(str(torch.version.cuda)),
        "cudnn": _fact(torch.backends.cudnn.version() or 0),
        "tf32": _fact(torch.backends.cuda.matmul.allow_tf32),
    }
