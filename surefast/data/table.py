"""Tables in a recipe: a small one is written out, so that training can start again from the file alone.

This file must not know what a table is used for.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from surefast.errors import MissingExtraError
from surefast.recipe.call import Call, call_of, declared

if TYPE_CHECKING:
    import pandas as pd

MAX_CELLS: Final = 50_000
"""A larger table is told by a digest alone: a recipe is read by people."""

_PLAIN: Final = (str, int, float, bool, type(None))


@declared()
def table(
    columns: dict[str, list[Any]], dtypes: dict[str, str] | None = None, index: list[Any] | None = None
) -> pd.DataFrame:
    """A DataFrame from its columns: how a recipe holds a small table.

    Args:
        columns: name to values.
        dtypes: name to the type of number or text; None takes what pandas finds.
        index: the names of the rows; None counts them.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError("tables need pandas", do="pip install 'surefast[tabular]'") from error
    known = dtypes or {}
    series = {name: pd.Series(values, dtype=known.get(name), index=index) for name, values in columns.items()}
    return pd.DataFrame(series, index=index, columns=list(columns))


def describe_table(call: Call, name: str, source: object) -> None:
    """Let the record of a call hold the cells of the table passed as ``name``, where they are few and plain.

    Args:
        call: the record.
        name: of the argument.
        source: its value; anything but such a table stays as it is recorded.
    """
    if not hasattr(source, "iloc") or not hasattr(source, "columns") or name not in call.values:
        return
    described = _described(source)
    if described is not None:
        call.values[name] = dataclasses.replace(call.values[name], value=described)


def _described(frame: Any) -> Call | None:
    named = frame.columns.is_unique and all(isinstance(column, str) for column in frame.columns)
    if frame.size > MAX_CELLS or not named:
        return None
    columns = {str(name): _cells(frame[name]) for name in frame.columns}
    if not all(_is_plain(cells) for cells in columns.values()):
        return None
    counted = list(frame.index) == list(range(len(frame)))
    index = None if counted else frame.index.tolist()
    if index is not None and not _is_plain(index):
        return None
    dtypes = {str(name): str(frame[name].dtype) for name in frame.columns}
    made = table(columns, dtypes, index)
    return call_of(made) if made.equals(frame) else None


def _cells(column: Any) -> list[Any]:
    return [None if value != value else value for value in column.tolist()]  # NaN is not equal to itself


def _is_plain(cells: list[Any]) -> bool:
    return all(type(cell) in _PLAIN for cell in cells)
