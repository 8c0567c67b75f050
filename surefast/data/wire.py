"""Messages between the parent and its data processes, over the pipes that the parent made itself.

A message is a pickle of protocol 5 with its tensors beside it: they are written from where they are and
read into fresh memory, without a copy into the pickle. Nothing that comes from a file or the network is
ever read here.
"""

from __future__ import annotations

import io
import pickle  # noqa: TID251  # the parent's own pipe
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import torch

_HEAD = struct.Struct("<II")
_LENGTH = struct.Struct("<Q")


class _Pickler(pickle.Pickler):
    """Tensors travel beside the pickle; torch's own way would copy them into it."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, torch.Tensor) and obj.numel() and obj.device.type == "cpu":
            flat = obj.detach().as_subclass(torch.Tensor).contiguous().view(-1).view(torch.uint8).numpy()
            return _tensor, (pickle.PickleBuffer(flat.data), obj.dtype, tuple(obj.shape))
        return NotImplemented


def _tensor(buffer: Any, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    if isinstance(buffer, np.ndarray):
        buffer = buffer.data
    return torch.frombuffer(buffer, dtype=dtype).reshape(shape)


def encode(message: object) -> list[Any]:
    """The parts of a message, to be written one after the other."""
    buffers: list[pickle.PickleBuffer] = []
    body = io.BytesIO()
    _Pickler(body, protocol=5, buffer_callback=buffers.append).dump(message)
    parts = [body.getbuffer(), *(buffer.raw() for buffer in buffers)]
    lengths = b"".join(_LENGTH.pack(len(part)) for part in parts)
    return [_HEAD.pack(len(parts), len(lengths)) + lengths, *parts]


def write(stream: BinaryIO, parts: Sequence[Any]) -> None:
    """Write the parts of one message; the stream is unbuffered.

    Raises:
        OSError: the other side is gone.
    """
    for part in parts:
        view = memoryview(part)
        while len(view):
            view = view[stream.write(view) :]


def read(stream: BinaryIO) -> list[bytearray]:
    """The parts of the next message; an empty list where the other side has closed, also in mid-message."""
    head = _exactly(stream, _HEAD.size)
    if head is None:
        return []
    count, size = _HEAD.unpack(head)
    table = _exactly(stream, size)
    if table is None:
        return []
    parts: list[bytearray] = []
    for i in range(count):
        part = _exactly(stream, _LENGTH.unpack_from(table, i * _LENGTH.size)[0])
        if part is None:
            return []
        parts.append(part)
    return parts


def decode(parts: Sequence[bytearray]) -> Any:
    """The message of these parts; its tensors own the parts' memory."""
    return pickle.loads(parts[0], buffers=parts[1:])  # noqa: S301  # the parent's own pipe


def _exactly(stream: BinaryIO, length: int) -> bytearray | None:
    data = bytearray(length)
    view = memoryview(data)
    while len(view):
        count = stream.readinto(view)  # type: ignore[attr-defined]  # a raw stream has it
        if not count:
            return None
        view = view[count:]
    return data
