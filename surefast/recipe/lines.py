"""Where in a TOML text a key stands. ``tomllib`` does not tell, and an error must."""

from __future__ import annotations

import re
from collections.abc import Sequence

_HEADER = re.compile(r"^\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""^\s*("(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)\s*=""")


def line_of(text: str, path: Sequence[str | int]) -> int:
    """The line, from 1, of the key at ``path``, or of the nearest table around it.

    Args:
        text: the whole TOML text.
        path: keys and positions, such as ``("fit", 0, "lr")``.
    """
    places = _places(text)
    for length in range(len(path), 0, -1):
        line = places.get(tuple(path[:length]))
        if line is not None:
            return _inside(text, line, path[length:])
    return 1


def _places(text: str) -> dict[tuple[str | int, ...], int]:
    places: dict[tuple[str | int, ...], int] = {}
    counts: dict[str, int] = {}
    here: tuple[str | int, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header is not None and key is None:
            name = header[2]
            if header[1] == "[[":
                counts[name] = counts.get(name, -1) + 1
            here = _with_position(_split(name), counts)
            places.setdefault(here, number)
        elif key is not None:
            places.setdefault((*here, _unquote(key[1])), number)
    return places


def _with_position(names: list[str], counts: dict[str, int]) -> tuple[str | int, ...]:
    path: list[str | int] = []
    for name in names:
        path.append(name)
        if len(path) == 1 and name in counts:  # arrays of tables stand at the top only: [[fit]]
            path.append(counts[name])
    return tuple(path)


def _split(name: str) -> list[str]:
    return [_unquote(part) for part in re.findall(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|[A-Za-z0-9_-]+', name)]


def _unquote(key: str) -> str:
    return key[1:-1] if key[:1] in {'"', "'"} else key


def _inside(text: str, line: int, rest: Sequence[str | int]) -> int:
    """The first line from ``line`` on where the next key of an inline table stands."""
    keys = [key for key in rest if isinstance(key, str)]
    if not keys:
        return line
    wanted = re.compile(rf"""(^|[{{,\s"']){re.escape(keys[0])}["']?\s*=""")
    for number, content in enumerate(text.splitlines()[line - 1 :], line):
        if number > line and (_HEADER.match(content) or _KEY.match(content)):
            break
        if wanted.search(content):
            return _inside(text, number, keys[1:])
    return line
