"""Digests of what a recipe cannot describe: modules, arrays, tables, other objects.

A digest tells two objects apart; it cannot make them again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xxhash

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{4,}")


def digest(thing: Any, describe: Callable[[Any], str]) -> str:
    """16 hexadecimal digits of xxh3 over what an object holds.

    Args:
        thing: any object.
        describe: gives a text for the attributes of an object nobody else knows.
    """
    hasher = xxhash.xxh3_64()
    if isinstance(thing, torch.nn.Module):
        _module(hasher, thing)
    elif isinstance(thing, torch.Tensor):
        _tensor(hasher, thing)
    elif isinstance(thing, np.ndarray):
        _array(hasher, thing)
    elif type(thing).__module__.partition(".")[0] == "pandas":
        _table(hasher, thing)
    else:
        hasher.update(describe(thing).encode("utf-8", "surrogatepass"))
    return hasher.hexdigest()


def plain_repr(thing: object) -> str:
    """``repr`` without memory addresses, which differ from process to process."""
    return _ADDRESS.sub("0x", repr(thing))


def _module(hasher: xxhash.xxh3_64, module: torch.nn.Module) -> None:
    hasher.update(plain_repr(module).encode())
    for name, value in module.state_dict().items():
        hasher.update(name.encode())
        if isinstance(value, torch.Tensor):
            _tensor(hasher, value)
        else:
            hasher.update(plain_repr(value).encode())


def _tensor(hasher: xxhash.xxh3_64, tensor: torch.Tensor) -> None:
    hasher.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    if tensor.is_meta or tensor.layout is not torch.strided:
        hasher.update(plain_repr(tensor).encode())
        return
    values = tensor.detach().cpu().contiguous()
    if values.numel():
        hasher.update(values.reshape(-1).view(torch.uint8).numpy().data)


def _array(hasher: xxhash.xxh3_64, array: np.ndarray[Any, Any]) -> None:
    hasher.update(f"{array.dtype}{array.shape}".encode())
    if array.dtype.hasobject:
        hasher.update(plain_repr(array.tolist()).encode("utf-8", "surrogatepass"))
    else:
        hasher.update(np.ascontiguousarray(array).tobytes())


def _table(hasher: xxhash.xxh3_64, table: Any) -> None:
    from pandas.util import hash_pandas_object  # heavy, and loaded by whoever made the table

    columns = [(str(name), str(table[name].dtype)) for name in getattr(table, "columns", ())]
    hasher.update(f"{type(table).__qualname__}{columns}{getattr(table, 'shape', '')}".encode())
    try:
        hashes = hash_pandas_object(table, index=True)
    except TypeError:  # cells that have no hash, such as lists; or no table at all
        hasher.update(plain_repr(table.to_dict() if columns else table).encode())
        return
    hasher.update(np.ascontiguousarray(hashes.to_numpy()).tobytes())
