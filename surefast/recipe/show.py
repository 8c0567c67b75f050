"""A recipe for people: a section for each call, in the order of the code, what the user chose first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from surefast.recipe.call import Call
from surefast.recipe.encode import to_plain
from surefast.recipe.recipe import SECTIONS, Recipe
from surefast.recipe.reference import Same
from surefast.recipe.value import Origin, Value
from surefast.recipe.words import in_words

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_COLOURS = {"user": "green", "default": "yellow", "inferred": "cyan"}
_POSITION = re.compile(r"\[\d+\]$")
_CALL_WORDS = frozenset({"call", "made"})

LONGEST: Final = 400
"""Longer values are cut when shown, never in the file."""


class Row(NamedTuple):
    """One line: an origin, what has it, and why."""

    origin: Origin
    text: str
    why: str = ""


class Section(NamedTuple):
    """One call, or one of ``facts`` and ``environment``."""

    path: str
    title: str
    values: dict[str, Value]


def recipe_tables(recipe: Recipe) -> Group:
    """All values by section: what the user chose, what nobody chose, what was worked out and from what."""
    from rich.console import Group
    from rich.markup import escape

    flat = recipe.flat()
    parts: list[object] = []
    earlier: dict[tuple[str, str, str], str] = {}
    for section in _sections(recipe):
        parts.append(f"[bold]{escape(section.path)}[/]" + (section.title and f" = {escape(section.title)}"))
        parts.append(_table([*_rows(section, flat, earlier)]))
    legend = "   (* cannot change the result)" if any(value.neutral for value in flat.values()) else ""
    return Group(*parts, f"recipe {recipe.hash}{legend}")  # type: ignore[arg-type]  # tables and texts render


def as_html(group: Group) -> str:
    """The tables as an escaped HTML block, for a notebook."""
    import html
    import io

    from rich.console import Console

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(group)
    return f"<pre>{html.escape(console.export_text())}</pre>"


def _table(rows: list[Row]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("origin", no_wrap=True, min_width=10)
    table.add_column("what", overflow="fold")
    last = ""
    for row in rows:
        label = "" if row.origin == last else f"  [{_COLOURS[row.origin]}]{row.origin}[/]"
        last = row.origin
        table.add_row(label, escape(row.text) + (f"  [dim]({escape(row.why)})[/]" if row.why else ""))
    return table


def _sections(recipe: Recipe) -> Iterator[Section]:
    yield from _sections_of("setup", recipe.setup)
    for index, fit in enumerate(recipe.fits):
        call = recipe.fit_call(index)
        values = call.values | {"frozen": Value(fit.frozen, "inferred", "groups frozen when it began")}
        yield from _sections_of(f"fit[{index}]", Call(call.target, values, call.made, call.source))
    for name in SECTIONS:
        yield Section(name, "", recipe.section(name))


def _sections_of(path: str, call: Call) -> Iterator[Section]:
    """The call itself, then those of its arguments that are too large for a line, then what is underneath."""
    own = {name: value for name, value in call.values.items() if not _is_large(value.value)}
    source = f" (source {call.source})" if call.source else ""
    if own or not path.endswith(".made"):
        yield Section(path, f"{call.name}{source}", own)
    for name, value in call.values.items():
        if _is_large(value.value):
            yield from _sections_of(f"{path}.{name}", value.value)
    if call.made is not None:
        yield from _sections_of(f"{path}.made", call.made)


def _is_large(inert: Any) -> bool:
    if not isinstance(inert, Call):
        return False
    return inert.made is not None or any(_holds_call(value.value) for value in inert.values.values())


def _holds_call(inert: Any) -> bool:
    if isinstance(inert, list | tuple):
        return any(map(_holds_call, inert))
    return isinstance(inert, Call)


def _rows(
    section: Section, flat: Mapping[str, Value], earlier: dict[tuple[str, str, str], str]
) -> Iterator[Row]:
    """What was chosen one by one, the defaults together, what was inferred by its reason."""
    values = {
        name: replace(value, origin=flat[f"{section.path}.{name}"].origin)
        if f"{section.path}.{name}" in flat
        else value
        for name, value in section.values.items()
    }
    for name, value in values.items():
        if value.origin == "user":
            yield Row("user", _named(name, value), value.why)
    defaults = {name: value for name, value in values.items() if value.origin == "default"}
    if defaults:
        yield Row("default", _packed(defaults))
    by_reason: dict[str, dict[str, Value]] = {}
    for name, value in values.items():
        if value.origin == "inferred":
            by_reason.setdefault(value.why, {})[name] = value
    for why, group in by_reason.items():
        told = (section.title, why, _packed(group))
        if told in earlier and len(group) > 1:
            yield Row("inferred", f"as in {earlier[told]}: {', '.join(group)}", why)
        else:
            earlier[told] = section.path
            yield from _inferred(group, why)


def _inferred(group: Mapping[str, Value], why: str) -> Iterator[Row]:
    """Values with one reason: the short ones together, lists of calls and of tables each by itself."""
    tables = {name: value for name, value in group.items() if _is_rows(value.value)}
    lists = {name: value for name, value in group.items() if _is_list_of_calls(value.value)}
    plain = {name: value for name, value in group.items() if name not in {*tables, *lists}}
    if plain:
        yield Row("inferred", _packed(plain), why)
    for name, value in lists.items():
        yield Row("inferred", _named(name, value), "" if plain else why)
    for name, value in tables.items():
        for position, row in enumerate(value.value):
            yield Row("inferred", f"{name}[{position}]: {_pairs(row)}")


def _is_rows(inert: Any) -> bool:
    """Whether a value is a list of small tables, such as the groups of an optimizer."""
    is_list = isinstance(inert, list | tuple) and len(inert) > 0
    return is_list and all(isinstance(row, Mapping) and _CALL_WORDS.isdisjoint(row) for row in inert)


def _pairs(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_words(inert)}" for name, inert in row.items())


def _packed(values: Mapping[str, Value]) -> str:
    """Values on one line; those that are None are named last, together."""
    given = [_named(name, value) for name, value in values.items() if value.value is not None]
    empty = [f"{name}{_star(value)}" for name, value in values.items() if value.value is None]
    return (
        ", ".join(given) + ("; " if given and empty else "") + (f"None: {', '.join(empty)}" if empty else "")
    )


def _named(name: str, value: Value) -> str:
    if _is_list_of_calls(value.value):
        lines = "".join(f"\n  {text}" for text in _items(value.value))
        return f"{name}{_star(value)}:{lines}"
    text = _words(value.value)
    return f"{name}{_star(value)}={text if len(text) <= LONGEST else f'{text[: LONGEST - 4]} ...'}"


def _star(value: Value) -> str:
    return "*" if value.neutral else ""


def _words(inert: Any) -> str:
    """An inert value as people write it; of a call the defaults stand behind what was given."""
    match inert:
        case Call():
            return _call_in_words(inert)
        case list() | tuple() if _is_list_of_calls(inert):
            return f"[{', '.join(_items(inert))}]"
        case Path():
            return repr(_shortened(inert))
        case _:
            return str(in_words(to_plain(inert)))


def _is_list_of_calls(inert: Any) -> bool:
    return isinstance(inert, list | tuple) and any(isinstance(item, Call | Same) for item in inert)


def _items(items: Iterable[Any]) -> list[str]:
    """Items in words; a run of items that were told at one place is that place."""
    texts: list[str] = []
    for item in items:
        text = _words(item)
        if isinstance(item, Same):
            text = f"*{_POSITION.sub('', item.name)}"
        if not texts or text != texts[-1] or not isinstance(item, Same):
            texts.append(text)
    return texts


def _call_in_words(call: Call) -> str:
    given = [f"{name}={_words(v.value)}" for name, v in call.values.items() if v.origin != "default"]
    defaults = {name: value for name, value in call.values.items() if value.origin == "default"}
    inside = ", ".join(given) + (f"{'; ' if given else ''}default: {_packed(defaults)}" if defaults else "")
    made = ""
    if call.made is not None and (call.made.values or call.made.made):
        made = f" -> {_call_in_words(call.made)}"
    return f"{call.name}({inside}){made}"


def _shortened(path: Path) -> str:
    """A path from the working folder or the home folder on, where it lies in one."""
    if not path.is_absolute():
        return path.as_posix()
    for base, sign in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_relative_to(base) and path != base and base != Path(base.anchor):
            return sign + path.relative_to(base).as_posix()
    return path.as_posix()
