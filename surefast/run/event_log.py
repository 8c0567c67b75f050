"""The event log: one line of JSON for each thing that happened, only ever appended.

A line is handed to the system in one write, so a killed process loses at most the line it was writing.
``read_events`` folds several attempts of one run into what counts: where an attempt resumed after a
step, the lines of earlier attempts after that step did not happen.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path, PurePath
from time import time
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import numpy as np

from surefast.errors import ArgumentError, RunFolderError
from surefast.run.failure import folder_failure

FORMAT: Final = 1
"""The version of the format; it stands in the first line."""

Line: TypeAlias = dict[str, Any]

HOST_FIELDS: Final = frozenset({"attempt", "seq", "time", "host", "pid", "device_name", "seconds"})
"""Fields that may differ between two equal runs."""

_HEAD: Final = frozenset({"attempt", "seq", "kind", "time"})
_KIND = re.compile(r"^[a-z][a-z0-9_]*$")


class EventLog:
    """The log of one run, open for appending; opening it again begins the next attempt.

    Args:
        path: the file; it is created with its first line where it does not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._quoted: dict[str, str] = {}
        try:
            last = _last_line(self.path)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise folder_failure(self.path, error, doing="open") from None
        self.attempt = int(last["attempt"]) + 1 if last else 1
        self._seq = count(int(last["seq"]) + 1 if last else 0)
        # One encoder, kept: json.dumps would make one for each line. A line must be strict JSON.
        self._encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_plain).encode
        if last is None:
            self.append("log", format=FORMAT)
        elif not _ends_whole(self._descriptor):
            self._write(b"\n")  # a torn line of a killed attempt; readers pass over it

    def append(self, kind: str, /, **fields: object) -> None:
        """Write one line.

        Args:
            kind: what happened, such as ``step``.
            fields: plain values; NaN and infinities become the texts ``nan``, ``inf``, ``-inf``.

        Raises:
            RunFolderError: where the line could not be written whole.
        """
        name = self._quoted.get(kind) or self._check(kind)
        if not _HEAD.isdisjoint(fields):
            raise ArgumentError(
                f"a line has its own {sorted(_HEAD & fields.keys())}", do="name the field otherwise"
            )
        try:
            body = self._encode(fields)
        except ValueError:  # NaN or Inf somewhere, which JSON does not know
            body = self._encode(_finite(fields))
        rest = f",{body[1:]}" if fields else "}"
        head = f'{{"attempt":{self.attempt},"seq":{next(self._seq)},"kind":{name},"time":{time():.6f}'
        self._write(f"{head}{rest}\n".encode())

    def sync(self) -> None:
        """Flush to the disk, against power cuts; a kill needs no flush."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise folder_failure(self.path, error, doing="flush") from None

    def close(self) -> None:
        """Flush and close; a second call does nothing."""
        if self._descriptor >= 0:
            self.sync()
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, kind: str) -> str:
        if not _KIND.match(kind):
            raise ArgumentError(f"{kind!r} is no kind of event", do="use small letters, digits and _")
        self._quoted[kind] = f'"{kind}"'
        return self._quoted[kind]

    def _write(self, line: bytes) -> None:
        try:
            written = os.write(self._descriptor, line)
        except OSError as error:
            raise folder_failure(self.path, error, doing="append to") from None
        if written != len(line):  # the disk became full inside the line
            raise folder_failure(self.path, OSError(errno.ENOSPC, "short write"), doing="append to")


def read_events(path: str | Path, *, fold: bool = True) -> list[Line]:
    """The lines of a log, in order.

    Args:
        path: the file, or the run folder that holds ``events.jsonl``.
        fold: leave out what later attempts replaced, and the lines that only say how they began.

    Raises:
        RunFolderError: where there is no log, its format is unknown, or it is damaged in its middle.
    """
    file = Path(path) / "events.jsonl" if Path(path).is_dir() else Path(path)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise folder_failure(file, error, doing="read") from None
    lines = _parse(data, file)
    _check_format(lines, file)
    return fold_attempts(lines) if fold else lines


def fold_attempts(lines: Iterable[Line]) -> list[Line]:
    """What counts of several attempts: a ``resume`` line replaces all after its step.

    The lines of an attempt before its ``resume`` line say how it began and are left out with it. ``step``
    counts over the whole run, so it never falls within an attempt.
    """
    kept: list[Line] = []
    begun = 0  # where the newest attempt begins in ``kept``
    attempt = 0
    for line in lines:
        if line["attempt"] != attempt:
            attempt, begun = line["attempt"], len(kept)
        if line["kind"] != "resume":
            kept.append(line)
            continue
        step = line.get("step", 0)
        del kept[begun:]
        later = (index for index, old in enumerate(kept) if old.get("step", -1) > step)
        del kept[next(later, len(kept)) :]
        begun = len(kept)
    return kept


def comparable(lines: Iterable[Line]) -> list[Line]:
    """Lines without the fields that may differ between equal runs, such as the time."""
    return [{key: value for key, value in line.items() if key not in HOST_FIELDS} for line in lines]


def _parse(data: bytes, file: Path) -> list[Line]:
    lines: list[Line] = []
    torn = 0  # the number of a line that is no JSON, and may be so only if its attempt ended there
    for number, raw in enumerate(data.split(b"\n"), 1):
        line = _read_line(raw)
        if line is None:
            if torn and raw.strip(b"\0 \r"):
                raise _damaged(file, torn)
            torn = torn or (number if raw else 0)
            continue
        if torn and lines and line["attempt"] <= lines[-1]["attempt"]:
            raise _damaged(file, torn)
        torn = 0
        lines.append(line)
    return lines


def _read_line(raw: bytes) -> Line | None:
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) and line.keys() >= _HEAD else None


def _damaged(file: Path, number: int) -> RunFolderError:
    return RunFolderError(
        f"line {number} of {file} is damaged: it is no event, and later lines follow",
        do="restore the file from a copy, or delete that line to read the rest",
    )


def _check_format(lines: list[Line], file: Path) -> None:
    if not lines:
        raise RunFolderError(f"{file} holds no events", do="name the folder of a run that has started")
    found = lines[0].get("format")
    if lines[0]["kind"] != "log" or found != FORMAT:
        newer = isinstance(found, int) and found > FORMAT
        do = "install a newer surefast" if newer else "name the events.jsonl of a run folder"
        raise RunFolderError(f"{file} has the format {found!r}; this surefast reads {FORMAT}", do=do)


def _last_line(path: Path) -> Line | None:
    """The last whole line of an existing log; None for a new or empty one."""
    if not path.exists() or path.stat().st_size == 0:
        return None
    with path.open("rb") as file:
        size, window = file.seek(0, os.SEEK_END), 1 << 16
        while True:
            file.seek(max(0, size - window))
            rows = file.read().split(b"\n")
            whole = (_read_line(raw) for raw in reversed(rows if window >= size else rows[1:]))
            last = next((line for line in whole if line is not None), None)
            if last is not None:
                return last
            if window >= size:
                raise RunFolderError(f"{path} holds no events", do="move the file away: it is no event log")
            window *= 16


def _ends_whole(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"


def _plain(value: object) -> object:
    """What ``json`` does not know, as something it does; tensors are refused, as reading one costs a wait."""
    if isinstance(value, np.generic):
        number = value.item()
        return _finite(number)
    if isinstance(value, np.ndarray):
        return _finite(value.tolist())
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    raise ArgumentError(
        f"an event cannot hold a {type(value).__qualname__}",
        do="pass numbers, texts, lists or dicts; of a tensor .item()",
    )


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
