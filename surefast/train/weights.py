"""State dicts as files: read without running anything in them, written as safetensors.

A foreign file is checked before torch sees it: what kind of file it is by its first bytes, what its header
promises against its size. This is the one file that may call ``torch.load``, with ``weights_only=True``.
It must know nothing of where a model's weights can be downloaded.
"""

from __future__ import annotations

import contextlib
import os
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from surefast.errors import WeightsError, nearest
from surefast.recipe.call import declared

_WRAPPERS: Final = ("state_dict", "model", "model_state_dict")
"""Under which key training scripts put the state dict; fastai's and torchvision's use ``model``."""

_ALIAS: Final = "alias:"
"""Metadata key before the name of a tensor that is another one under a second name."""

_MOST_NAMES: Final = 8
"""Names of one kind that an error lists before it counts the rest."""


@declared()
def load_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a state dict from a safetensors, .pth or .pt file; nothing in it is executed.

    Args:
        path: the file. Its first bytes, not its ending, say what it is. A state dict inside a checkpoint
            (under ``state_dict``, ``model`` or ``model_state_dict``) is found, and the ``module.`` of
            DistributedDataParallel is taken off the names.

    Returns:
        Tensors on the CPU by name.

    Raises:
        WeightsError: the file is missing, damaged, no weights, or would run code when loaded.
    """
    file = Path(path)
    kind = _kind_of(file)
    state = _read_safetensors(file) if kind == "safetensors" else _read_torch(file, kind)
    if state and all(name.startswith("module.") for name in state):
        return {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


@declared()
def save_state(module: nn.Module | Mapping[str, Tensor], path: str | os.PathLike[str]) -> Path:
    """Write a model's parameters and buffers as safetensors; a file is there whole or not at all.

    A tensor that stands under two names (tied weights) is written once; the file says which names are one.

    Args:
        module: the model, or its state dict.
        path: the file to write; its folder is made.

    Raises:
        WeightsError: the file cannot be written.
    """
    state = module.state_dict() if isinstance(module, nn.Module) else dict(module)
    kept, aliases = _without_aliases(state)
    file = Path(path)
    half = file.with_name(f"{file.name}.half")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(kept, half, metadata={"format": "pt"} | {_ALIAS + name: of for name, of in aliases.items()})
        with half.open("rb+") as written:
            os.fsync(written.fileno())
        half.replace(file)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            half.unlink()
        raise WeightsError(
            "the weights could not be written", do="choose a folder with room that you may write to",
            file=file, cause=error,
        ) from error  # fmt: skip
    return file


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """What became of the names of a state dict."""

    loaded: int
    """How many tensors were copied into the module."""

    ignored: tuple[str, ...]
    """Names of the file that the caller asked to leave out, such as the original's classifier."""

    missing: tuple[str, ...]
    """Names of the module that kept their values, as the file has nothing for them."""

    unexpected: tuple[str, ...]
    """Names of the file that the module does not have."""


@declared(skip={"module", "state"})
def fit_state(
    module: nn.Module, state: Mapping[str, Tensor], *, strict: bool = True, ignore: Iterable[str] = ()
) -> FitReport:
    """Copy a state dict into a module, or say in one error everything that does not fit.

    Args:
        module: the model that takes the values, in place.
        state: tensors by name.
        strict: whether a missing or unexpected name is an error; a wrong shape always is.
        ignore: submodules such as ``classifier`` whose tensors are left as they are in the module.

    Raises:
        WeightsError: names or shapes do not fit; the module is unchanged then.
    """
    roots = tuple(ignore)
    own = module.state_dict()
    wanted = {name: tensor for name, tensor in own.items() if not _is_under(name, roots)}
    given = {name: tensor for name, tensor in state.items() if not _is_under(name, roots)}
    shared = [name for name in wanted if name in given]
    missing = [name for name in wanted if name not in given]
    unexpected = [name for name in given if name not in wanted]
    misshapen = [name for name in shared if wanted[name].shape != given[name].shape]
    if misshapen or (strict and (missing or unexpected)):
        raise _misfit(wanted, given, missing, unexpected, misshapen)
    with torch.no_grad():
        for name in shared:
            wanted[name].copy_(given[name])
    return FitReport(
        loaded=len(shared),
        ignored=tuple(name for name in state if name not in given),
        missing=tuple(missing),
        unexpected=tuple(unexpected),
    )


def _is_under(name: str, roots: tuple[str, ...]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def _misfit(
    wanted: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    missing: list[str],
    unexpected: list[str],
    misshapen: list[str],
) -> WeightsError:
    details: dict[str, str] = {}
    if missing:
        details["missing"] = _listed(missing, unexpected)
    if unexpected:
        details["unexpected"] = _listed(unexpected, missing)
    if misshapen:
        shapes = [f"{n} is {tuple(given[n].shape)}, not {tuple(wanted[n].shape)}" for n in misshapen]
        details["shapes"] = _listed(shapes, ())
    counts = f"{len(missing)} missing, {len(unexpected)} unexpected, {len(misshapen)} of another shape"
    return WeightsError(
        f"the weights do not fit the model ({len(wanted)} tensors against the file's {len(given)}): {counts}",
        do="take the weights of this very architecture (and library), or the architecture they were made for",
        **details,
    )


def _listed(names: list[str], others: Iterable[str]) -> str:
    pool = list(others)
    shown = []
    for name in names[:_MOST_NAMES]:
        close = nearest(name, pool) if pool else None
        shown.append(f"{name} (nearest: {close})" if close else name)
    rest = len(names) - len(shown)
    return "; ".join(shown) + (f"; and {rest} more" if rest else "")


# ---------------------------------------------------------------------------------------------- reading


def _kind_of(file: Path) -> str:
    """``safetensors``, ``zip`` or ``pickle``, by the first bytes; everything else is refused."""
    if file.is_dir():
        inside = sorted(p.name for p in file.iterdir() if p.suffix in {".safetensors", ".pth", ".pt", ".bin"})
        raise WeightsError(
            "a folder was given, where a file of weights was expected",
            do=f"pass the file itself: {', '.join(inside)}" if inside else "pass a .safetensors or .pth file",
            file=file,
        )
    try:
        with file.open("rb") as opened:
            start = opened.read(512)
    except FileNotFoundError:
        raise _not_there(file) from None
    except OSError as error:
        raise WeightsError(
            "the file of weights cannot be opened", do="check its permissions", file=file, cause=error
        ) from error
    if start.startswith(b"PK\x03\x04"):
        return "zip"
    if start[:1] == b"\x80":
        return "pickle"
    if len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**32:
        return "safetensors"
    raise _no_weights(file, start)


def _not_there(file: Path) -> WeightsError:
    folder = file.parent
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    close = nearest(file.name, names)
    do = f"did you mean {folder / close}?" if close else "check the path"
    return WeightsError("there is no such file of weights", do=do, file=file)


def _no_weights(file: Path, start: bytes) -> WeightsError:
    text = start.lstrip().lower()
    if not start:
        cause, do = "the file is empty", "download or copy it again"
    elif text.startswith((b"<!doctype", b"<html", b"<?xml")):
        cause, do = "it is a web page: a download got an error page", "download the file itself again"
    elif text.startswith(b"version https://git-lfs"):
        cause, do = "it is a Git LFS pointer, not the file it points to", "run: git lfs pull"
    else:
        cause = f"neither safetensors nor a torch file; it starts with {start[:12]!r}"
        do = "pass a .safetensors file, or a .pth written by torch.save(model.state_dict(), ...)"
    return WeightsError("the file holds no weights", do=do, file=file, cause=cause)


def _damaged(file: Path, cause: object) -> WeightsError:
    return WeightsError(
        "the file of weights is damaged or cut short", do="download or copy it again", file=file, cause=cause
    )


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    # The library checks every offset against the file's size before it gives anything out.
    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            state: dict[str, Tensor] = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no dict
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError, RuntimeError, KeyError) as error:
        raise _damaged(file, error) from error
    for entry, of in metadata.items():
        if entry.startswith(_ALIAS) and of in state:
            state[entry.removeprefix(_ALIAS)] = state[of]
    return state


def _read_torch(file: Path, kind: str) -> dict[str, Tensor]:
    size = file.stat().st_size
    if kind == "zip":
        _check_archive(file, size)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch warns of here is refused or irrelevant
            content = torch.load(file, map_location="cpu", weights_only=True)  # noqa: TID251 - the one place
    except Exception as error:  # a hostile or cut pickle can raise anything
        raise _refused(file, error) from error
    return _checked_tensors(file, _state_in(file, content), size)


def _check_archive(file: Path, size: int) -> None:
    """Refuse an archive whose entries are larger than the file: torch.save never compresses."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise _damaged(file, error) from error
    if sum(entry.file_size for entry in entries) > size:
        raise WeightsError(
            "the archive claims to hold more bytes than it has; refused as unsafe",
            do="take the weights from a source you trust, as safetensors",
            file=file,
            found=f"{sum(entry.file_size for entry in entries):,} bytes unpacked, {size:,} in the file",
        )


def _refused(file: Path, error: Exception) -> WeightsError:
    text = str(error)
    if any(sign in text for sign in ("Weights only load failed", "Unsupported global", "TorchScript")):
        first = next((line for line in text.splitlines() if "GLOBAL" in line), text.splitlines()[0])
        return WeightsError(
            "the file is not only weights: loading it would run code, which is refused",
            do="where you trust it, in its own environment: torch.save(model.state_dict(), 'weights.pth')",
            file=file,
            cause=first.strip()[:200],
        )
    return _damaged(file, f"{type(error).__name__}: {text.splitlines()[0][:200] if text else ''}")


def _state_in(file: Path, content: object) -> Mapping[Any, Any]:
    """The state dict in what was loaded: itself, or under the key that training scripts use."""
    if isinstance(content, Mapping):
        for key in _WRAPPERS:
            inner = content.get(key)
            if isinstance(inner, Mapping) and any(isinstance(value, Tensor) for value in inner.values()):
                return inner
        if any(isinstance(value, Tensor) for value in content.values()):
            return content
    found = f"{type(content).__name__} with {', '.join(map(str, list(content)[:8]))}" if isinstance(
        content, Mapping) else type(content).__name__  # fmt: skip
    raise WeightsError(
        "no state dict was found in the file",
        do="save one: torch.save(model.state_dict(), 'weights.pth')",
        file=file,
        found=found,
        expected="a dict of tensors, or one under " + ", ".join(_WRAPPERS),
    )


def _checked_tensors(file: Path, state: Mapping[Any, Any], size: int) -> dict[str, Tensor]:
    checked: dict[str, Tensor] = {}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            continue  # counters and settings that some scripts keep beside the tensors
        # A stride of 0 makes terabytes of one stored number; copying such a tensor would fill the memory.
        if value.layout is torch.strided and value.numel() * value.element_size() > size:
            raise WeightsError(
                f"the tensor {name!r} is larger than the file that holds it; refused as unsafe",
                do="take the weights from a source you trust, as safetensors",
                file=file,
                found=f"{tuple(value.shape)} with strides {value.stride()}, file of {size:,} bytes",
            )
        if value.layout is not torch.strided:
            raise WeightsError(
                f"the tensor {name!r} is sparse ({value.layout})", do="save it dense", file=file
            )
        checked[str(name)] = value.detach()
    return checked


# ---------------------------------------------------------------------------------------------- writing


def _without_aliases(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors that own their bytes, and the second names of those that stand under two."""
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    names: dict[object, str] = {}
    storages: set[int] = set()
    for name, tensor in state.items():
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and place in names:
            aliases[name] = names[place]
            continue
        names[place] = name
        storage = tensor.untyped_storage()
        whole = tensor.is_contiguous() and storage.nbytes() == tensor.numel() * tensor.element_size()
        alone = whole and storage.data_ptr() not in storages
        storages.add(storage.data_ptr())
        kept[name] = (
            tensor.detach() if alone else tensor.detach().clone(memory_format=torch.contiguous_format)
        )
    return kept, aliases
