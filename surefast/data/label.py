"""From an item to its label: by folder, by name, by column.

This file must not know what a label is used for.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from surefast.errors import ArgumentError, LabelError, nearest
from surefast.recipe.call import current_call, declared


def parent_label(o: str | Path) -> str:
    """The name of the folder that a file is in.

    >>> parent_label("images/cat/1.jpg")
    'cat'
    """
    return Path(o).parent.name


@final
@declared()
class RegexLabeller:
    """The first group of a regular expression found in an item's path, written with ``/``.

    Args:
        pat: the expression, with one group: ``r"/([^/]+)_[0-9]+.jpg$"``.
        match: whether it must match from the start of the path.

    Raises:
        ArgumentError: the expression cannot be read, or has no group.
        LabelError: when called, the expression is not found in the path.
    """

    def __init__(self, pat: str, match: bool = False) -> None:
        try:
            self.pattern = re.compile(pat)
        except re.error as error:
            raise ArgumentError(
                f"the regular expression {pat!r} cannot be read: {error}",
                do="mend it; re.compile must take it",
            ) from None
        if self.pattern.groups < 1:
            raise ArgumentError(
                f"the regular expression {pat!r} has no group",
                do="put the part that is the label in brackets: (...)",
            )
        self.match = match

    def __call__(self, o: str | Path) -> str:
        """The label of a path."""
        text = Path(o).as_posix() if isinstance(o, os.PathLike) else str(o)
        found = self.pattern.match(text) if self.match else self.pattern.search(text)
        if found is None:
            raise LabelError(
                f"the pattern {self.pattern.pattern!r} was not found in {text!r}",
                do="change the pattern so that it fits every file, or leave such files out of the items",
                file=text,
            )
        return found.group(1)


@final
@declared()
class ColReader:
    """The values of columns of a row.

    Args:
        cols: a column name or position, or several; one gives the value, several give a list.
        pref: put before the value; a folder gets its separator.
        suff: put after the value, such as ``".jpg"``.
        label_delim: where given, the value is split there into a list of labels.

    Raises:
        LabelError: when called, the row has no such column.
    """

    def __init__(
        self,
        cols: str | int | Sequence[str | int],
        pref: str | Path = "",
        suff: str = "",
        label_delim: str | None = None,
    ) -> None:
        self.single = isinstance(cols, (str, int)) or len(cols) == 1
        self.cols: tuple[str | int, ...] = (cols,) if isinstance(cols, (str, int)) else tuple(cols)
        self.pref = str(pref) + os.sep if isinstance(pref, Path) else pref
        self.suff = suff
        self.label_delim = label_delim
        if isinstance(pref, Path):  # a folder may be moved; which files are in it is told elsewhere
            record = current_call()
            record.values["pref"] = dataclasses.replace(record.values["pref"], neutral=True)

    def __call__(self, o: Any) -> Any:
        """The value, or the list of values."""
        values = [self._change(_cell(o, col), col) for col in self.cols]
        return values[0] if self.single else values

    def read_table(self, frame: Any) -> list[Any]:
        """What each row of a DataFrame gives, much faster than one row after the other."""
        # A row of numbers alone is of one kind of number.
        if not len(frame) or frame.iloc[0].dtype.kind in "biufc":
            return [self(frame.iloc[i]) for i in range(len(frame))]
        self(frame.iloc[0])  # names the columns where one is missing
        columns = [
            [self._change(value, col) for value in _whole_column(frame, col).tolist()] for col in self.cols
        ]
        return columns[0] if self.single else [list(values) for values in zip(*columns, strict=True)]

    def _change(self, value: Any, col: str | int) -> Any:
        missing = value is None or value != value
        if self.label_delim is not None:
            text = "" if missing else str(value)
            return text.split(self.label_delim) if text else []
        if not self.pref and not self.suff:
            return value
        if missing:
            raise LabelError(
                f"the item has no value in column {col!r}", do="fill it in, or drop such rows: df.dropna()"
            )
        return f"{self.pref}{value}{self.suff}"


def _whole_column(frame: Any, col: str | int) -> Any:
    return frame.iloc[:, col] if isinstance(col, int) else frame[col]


def _cell(row: Any, col: str | int) -> Any:
    if isinstance(col, str) and col in getattr(row, "_fields", ()):
        return getattr(row, col)
    try:
        # The position, also where a table's columns are named by numbers.
        return row.iloc[col] if isinstance(col, int) and hasattr(row, "iloc") else row[col]
    except (KeyError, IndexError, TypeError):
        names = [str(name) for name in getattr(row, "index", getattr(row, "_fields", ()))] or (
            [str(name) for name in row] if isinstance(row, dict) else []
        )
        close = nearest(str(col), names)
        do = (
            f"write {close!r}"
            if close
            else f"the columns are: {', '.join(names) or 'none; the item is ' + repr(row)[:60]}"
        )
        raise LabelError(f"the item has no column {col!r}", do=do) from None


@final
@declared()
class ItemGetter:
    """Element ``i`` of an item, such as ``ItemGetter(1)`` for the second of a pair."""

    def __init__(self, i: int | str) -> None:
        self.i = i

    def __call__(self, o: Any) -> Any:
        """The element."""
        return o[self.i]


@final
@declared()
class AttrGetter:
    """Attribute ``nm`` of an item, or ``default`` where it has none."""

    def __init__(self, nm: str, default: Any = None) -> None:
        self.nm = nm
        self.default = default

    def __call__(self, o: Any) -> Any:
        """The attribute."""
        return getattr(o, self.nm, self.default)
