"""The folder of a run: ``runs/<id>/`` with its recipe, events, history and pictures."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Final

from surefast.errors import ArgumentError, RunFolderError, nearest
from surefast.run.atomic import write_bytes_atomic
from surefast.run.event_log import EventLog, Line, read_events
from surefast.run.failure import folder_failure
from surefast.run.history import append_row

DEFAULT_ROOT: Final = Path("runs")
"""Where runs go if nobody says otherwise."""

NEED_BYTES: Final = 64 << 20
"""Free space a run asks for if nobody says how large its checkpoints are."""

_PROBE_BYTES = 1 << 16


class RunFolder:
    """One run on disk. ``create`` makes a new one, ``open`` finds one that is there.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name
        self.recipe_path = path / "recipe.toml"
        self.events_path = path / "events.jsonl"
        self.history_path = path / "history.csv"
        self.pictures = path / "pictures"
        self.model_path = path / "model.safetensors"

    @staticmethod
    def create(root: str | Path | None = None, *, need_bytes: int = NEED_BYTES) -> RunFolder:
        """Make the folder of a new run, and find out before training that it can be written to.

        Args:
            root: the folder of all runs; ``runs`` in the working folder where None.
            need_bytes: free space that must be there.

        Raises:
            RunFolderError: names the folder, the cause and the remedy; nothing is left behind.
        """
        base = DEFAULT_ROOT if root is None else Path(root)
        path = base
        try:
            base.mkdir(parents=True, exist_ok=True)
            path = _make_unique(base)
            _probe(path, need_bytes)
            (path / "pictures").mkdir()
        except OSError as error:
            if path != base:
                shutil.rmtree(path, ignore_errors=True)
            if isinstance(error, RunFolderError):
                raise
            raise folder_failure(path, error, doing="write to the run folder") from None
        return RunFolder(path)

    @staticmethod
    def open(path: str | Path) -> RunFolder:
        """The run in a folder that exists.

        Raises:
            RunFolderError: where there is none; the message names the nearest one.
        """
        run = RunFolder(Path(path))
        if _is_run(run.path):
            return run
        known = [other.id for other in list_runs(run.path.parent)]
        close = nearest(run.id, known) or (known[-1] if known else None)
        do = (
            f"open {run.path.parent / close}"
            if close
            else "give a folder that holds recipe.toml and events.jsonl"
        )
        kind = "a file" if run.path.is_file() else "no run folder" if run.path.exists() else "not there"
        raise RunFolderError(f"{run.path} is {kind}", do=do)

    @cached_property
    def events(self) -> EventLog:
        """The event log, opened for appending at the first use: that begins an attempt."""
        return EventLog(self.events_path)

    def read_events(self, *, fold: bool = True) -> list[Line]:
        """The lines of the event log, see ``event_log.read_events``."""
        return read_events(self.events_path, fold=fold)

    def write_text(self, name: str, text: str) -> Path:
        """Write a file of the run, whole or not at all.

        Args:
            name: the path inside the folder, with ``/``.
            text: its text, written as UTF-8.
        """
        return self.write_bytes(name, text.encode())

    def write_bytes(self, name: str, data: bytes) -> Path:
        """Write a file of the run, whole or not at all.

        Args:
            name: the path inside the folder, with ``/``.
            data: its bytes.
        """
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts or not inside.parts:
            raise ArgumentError(
                f"{name!r} is not inside the run folder", do="give a relative path without .."
            )
        path = self.path / inside
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes_atomic(path, data)
        except OSError as error:
            raise folder_failure(path, error, doing="write") from None
        return path

    def append_history(self, row: Mapping[str, object]) -> None:
        """Append the row of an epoch to ``history.csv``."""
        append_row(self.history_path, row)

    def close(self) -> None:
        """Close the event log where it was opened."""
        if "events" in self.__dict__:
            self.events.close()

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"


def list_runs(root: str | Path | None = None) -> list[RunFolder]:
    """All runs under ``root``, oldest first; an empty list where the folder does not exist."""
    base = DEFAULT_ROOT if root is None else Path(root)
    if not base.is_dir():
        return []
    try:
        return [RunFolder(path) for path in sorted(base.iterdir()) if _is_run(path)]
    except OSError as error:
        raise folder_failure(base, error, doing="list") from None


def _is_run(path: Path) -> bool:
    return (path / "events.jsonl").is_file() or (path / "recipe.toml").is_file()


def _make_unique(base: Path) -> Path:
    """A new folder whose name sorts by time; two runs in one millisecond differ by what follows."""
    while True:
        now = datetime.now(UTC)
        name = f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}-{os.urandom(3).hex()}"
        with contextlib.suppress(FileExistsError):
            (base / name).mkdir()
            return base / name


def _probe(path: Path, need_bytes: int) -> None:
    """Do once what training will do: write, flush, rename, read back; and look at the free space."""
    data = os.urandom(_PROBE_BYTES)
    probe = path / "probe"
    write_bytes_atomic(probe, data)
    if probe.read_bytes() != data:
        raise OSError(errno.EIO, "what was written reads back differently")
    probe.unlink()
    free = shutil.disk_usage(path).free
    if free < need_bytes:
        raise RunFolderError(
            f"cannot train into {path}: {_megabytes(free)} are free, {_megabytes(need_bytes)} are needed",
            do="free space, or pass run_dir= a folder on another disk",
        )


def _megabytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
