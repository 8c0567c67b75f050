"""Files that are there whole or not at all: write beside, flush, rename, flush the folder."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Replace a file at once; after a kill or a power cut the old or the new one is there, whole.

    Args:
        path: where the file goes; its folder must exist.
        data: its bytes.

    Raises:
        OSError: as the system says it; nothing is left behind then.
    """
    beside = path.with_name(f".{path.name[:200]}.{os.urandom(4).hex()}.tmp")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(beside, path)
    except BaseException:  # Ctrl-C as well must leave nothing behind
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    sync_folder(path.parent)


def write_text_atomic(path: Path, text: str) -> None:
    """As ``write_bytes_atomic``, for text in UTF-8 with its line ends as they are."""
    write_bytes_atomic(path, text.encode())


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``: the system may take less than it is given."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Flush a folder, so that a rename in it survives a power cut; where the system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems do not flush folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
