"""A recipe for people: a table for each call, in the order of the code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from surefast.recipe.value import Value
from surefast.recipe.words import in_words

if TYPE_CHECKING:
    from rich.console import Group

_LONGEST = 120
_COLOURS = {"user": "green", "default": "yellow", "inferred": "cyan"}


def recipe_tables(flat: Mapping[str, Value], recipe_hash: str) -> Group:
    """Tables of all values: name, value, origin with its reason; a table for each call."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    parts: list[object] = []
    for place, rows in _grouped(flat).items():
        call = flat.get(f"{place}.call")
        title = f"[bold]{escape(place)}[/]"
        if call is not None:
            origin = "" if call.origin == "user" else f"  {_origin(call, escape(call.why))}"
            title += f" = {escape(str(call.value).partition(':')[2])}{origin}"
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("name", overflow="fold", min_width=16)
        table.add_column("value", overflow="fold", min_width=12)
        table.add_column("origin", overflow="fold")
        for name, value in rows.items():
            table.add_row(f"  {escape(name)}", escape(_short(value)), _origin(value, escape(value.why)))
        parts += [title, table, ""]
    return Group(*parts, f"recipe {recipe_hash}")  # type: ignore[arg-type]  # tables and texts render


def as_html(group: Group) -> str:
    """The tables as an escaped HTML block, for a notebook."""
    import html
    import io

    from rich.console import Console

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(group)
    return f"<pre>{html.escape(console.export_text())}</pre>"


def _grouped(flat: Mapping[str, Value]) -> dict[str, dict[str, Value]]:
    """The values of each call, by the path of the call; facts and environment by their section."""
    calls = {path.removesuffix(".call") for path in flat if path.endswith(".call")}
    groups: dict[str, dict[str, Value]] = {}
    for path, value in flat.items():
        place = path
        while place not in calls or place == path:
            if "." not in place:
                break
            place = place.rpartition(".")[0]
        name = path[len(place) + 1 :]
        rows = groups.setdefault(place, {})
        if name not in {"call", "call_source"}:
            rows[name] = value
    return groups


def _origin(value: Value, why: str) -> str:
    neutral = ", cannot change bits" if value.neutral else ""
    return f"[{_COLOURS[value.origin]}]{value.origin}[/]{': ' + why if why else ''}{neutral}"


def _short(value: Value) -> str:
    text = in_words(value.value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."
