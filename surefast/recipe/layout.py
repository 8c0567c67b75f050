"""How plain values are laid out as TOML: one line where it fits, a table of its own for a large call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import tomli_w

WIDTH: Final = 100
_BARE = re.compile(r"^[A-Za-z0-9_-]+$")


def literal(value: Any) -> str:
    """A plain value on one line: ``[1, 2]``, ``{ none = true }``."""
    if isinstance(value, list):
        return f"[{', '.join(literal(item) for item in value)}]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{quoted(key)} = {literal(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").removesuffix("\n")


def quoted(key: str) -> str:
    """A key as TOML wants it: bare where possible."""
    return key if _BARE.match(key) else literal(key)


def table(header: str, values: Mapping[str, Any], *, array: bool = False) -> list[str]:
    """The lines of one table and its sub-tables.

    Args:
        header: the dotted name, already quoted.
        values: key to plain value.
        array: whether it is one entry of an array of tables.
    """
    lines = [f"[[{header}]]" if array else f"[{header}]"]
    below: list[tuple[str, Mapping[str, Any]]] = []
    for key, value in values.items():
        text = literal(value)
        is_call = isinstance(value, Mapping) and "call" in value
        if isinstance(value, Mapping) and is_call and (key == "made" or len(key) + len(text) > WIDTH):
            below.append((key, value))
        elif isinstance(value, list) and value and len(text) > WIDTH:
            lines += [f"{quoted(key)} = [", *_rows(value), "]"]
        elif isinstance(value, Mapping) and value.keys() == {"tuple"} and len(text) > WIDTH:
            lines += [f"{quoted(key)} = {{ tuple = [", *_rows(value["tuple"]), "] }"]
        else:
            lines.append(f"{quoted(key)} = {text}")
    for key, value in below:
        lines += ["", *table(f"{header}.{quoted(key)}", value)]
    return lines


def _rows(items: list[Any]) -> list[str]:
    """Items of a long list, as many on a line as fit."""
    rows: list[str] = []
    row = " "
    for item in items:
        text = f" {literal(item)},"
        if len(row) + len(text) > WIDTH and row.strip():
            rows.append(row)
            row = " "
        row += text
    return [*rows, row] if row.strip() else rows
