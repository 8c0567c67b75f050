"""A recipe for people: a table for each section."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING

from surefast.recipe.value import Value
from surefast.recipe.words import in_words

if TYPE_CHECKING:
    from rich.console import Group

_LONGEST = 120
_COLOURS = {"user": "green", "default": "yellow", "inferred": "cyan"}


def recipe_tables(flat: Mapping[str, Value], recipe_hash: str) -> Group:
    """Tables of all values: name, value, origin with its reason."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    parts: list[object] = []
    for section, entries in groupby(flat.items(), key=lambda entry: _section(entry[0])):
        table = Table(title=escape(section), title_justify="left", box=None, pad_edge=False)
        table.add_column("value of", overflow="fold")
        table.add_column("is", overflow="fold")
        table.add_column("from", overflow="fold")
        for path, value in entries:
            if path.endswith(".call_source"):
                continue
            colour = _COLOURS[value.origin]
            why = f": {value.why}" if value.why else ""
            neutral = " (cannot change bits)" if value.neutral else ""
            origin = f"[{colour}]{value.origin}[/]{escape(why)}{neutral}"
            table.add_row(escape(path.removeprefix(f"{section}.")), escape(_short(value)), origin)
        parts += [table, ""]
    return Group(*parts, f"recipe {recipe_hash}")  # type: ignore[arg-type]  # tables and texts render


def as_html(group: Group) -> str:
    """The tables as an escaped HTML block, for a notebook."""
    import html
    import io

    from rich.console import Console

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(group)
    return f"<pre>{html.escape(console.export_text())}</pre>"


def _section(path: str) -> str:
    return path.partition(".")[0]


def _short(value: Value) -> str:
    text = in_words(value.value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."
