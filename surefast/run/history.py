"""``history.csv``: one row for each epoch, for people and spreadsheets."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path

from surefast.run.atomic import write_text_atomic
from surefast.run.failure import folder_failure


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Append one row; the first row gives the header, a new column is added behind the old ones.

    Args:
        path: the file.
        row: column name to value; a column that is missing stays empty.

    Raises:
        RunFolderError: where the file cannot be written.
    """
    try:
        old = path.read_text("utf-8") if path.exists() else ""
        whole = old[: old.rfind("\n") + 1]  # a last line without its end was torn by a kill
        header = next(csv.reader(io.StringIO(whole, newline="")), [])
        added = [name for name in row if name not in header]
        if added or whole != old:
            rows = read_rows(whole)
            write_text_atomic(path, _as_csv([*header, *added], [*rows, row]))
            return
        line = _as_csv(header, [row], with_header=False)
        with path.open("ab", buffering=0) as file:
            file.write(line.encode())
            os.fsync(file.fileno())
    except OSError as error:
        raise folder_failure(path, error, doing="write") from None


def read_rows(text: str) -> list[dict[str, str]]:
    """The rows of a history, column name to text."""
    return [dict(row) for row in csv.DictReader(io.StringIO(text, newline=""), restval="")]


def _as_csv(header: list[str], rows: list[Mapping[str, object]], *, with_header: bool = True) -> str:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, header, restval="", lineterminator="\n")
    if with_header:
        writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
