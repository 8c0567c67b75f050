"""What differs between two recipes, and which differences can change bits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from surefast.recipe.encode import canonical
from surefast.recipe.recipe import Recipe
from surefast.recipe.value import Value
from surefast.recipe.words import in_words

_LONGEST = 80
_CALL = re.compile(r"(.*)\[(\d+)\]\.call$")


@dataclass(frozen=True)
class Difference:
    """One value that is not the same in two recipes."""

    path: str
    a: Value | None
    """The value in the first recipe; None where it has none."""

    b: Value | None
    """The value in the second recipe; None where it has none."""

    can_change_bits: bool
    """False where the value is known to leave the result as it is, such as a number of workers."""


class Differences(list[Difference]):
    """All differences, those that can change bits first; as a text it says them in words."""

    def __str__(self) -> str:
        return describe(self)


def diff(a: Recipe, b: Recipe) -> Differences:
    """The values that differ. Where a value came from is no difference.

    Args:
        a: one recipe.
        b: the other.
    """
    left, right = a.flat(), b.flat()
    found = []
    for path in dict.fromkeys([*left, *right]):
        ours, theirs = left.get(path), right.get(path)
        if ours is not None and theirs is not None and canonical(ours.value) == canonical(theirs.value):
            continue
        can_change = any(value is not None and not value.neutral for value in (ours, theirs))
        found.append(Difference(path, ours, theirs, can_change))
    return Differences(sorted(found, key=lambda difference: not difference.can_change_bits))


def describe(differences: Sequence[Difference]) -> str:
    """Differences in words: what was chosen first, then what was worked out from it."""
    if not differences:
        return "the recipes are the same in every value"
    lines: list[str] = []
    for can_change, words in ((True, "can change the result"), (False, "cannot change the result")):
        part = [difference for difference in differences if difference.can_change_bits is can_change]
        if part:
            noun = "difference" if len(part) == 1 else "differences"
            lines.append(f"{len(part)} {noun} that {words}:")
            chosen, found = _split(part)
            lines += [line for difference in chosen for line in _lines(difference)]
            if chosen and found:
                lines.append("  and what was worked out:")
            lines += _found_lines(found)
    return "\n".join(lines)


def _split(part: Sequence[Difference]) -> tuple[list[Difference], list[Difference]]:
    """Those with a value that the user or the library's default chose, and the inferred ones."""
    chosen: list[Difference] = []
    found: list[Difference] = []
    for difference in part:
        sides = [side for side in (difference.a, difference.b) if side is not None]
        inside = ".made." in difference.path
        is_found = inside or all(side.origin == "inferred" for side in sides)
        (found if is_found else chosen).append(difference)
    return chosen, found


def _found_lines(found: Sequence[Difference]) -> list[str]:
    """A line each; lists that hold other calls now are one line with the names on both sides."""
    moved = {m[1] for difference in found if (m := _CALL.match(difference.path))}
    lines: list[str] = []
    for difference in found:
        held = next((place for place in moved if difference.path.startswith(f"{place}[")), None)
        if held is None:
            lines += _lines(difference)
            continue
        calls = [other for other in found if (m := _CALL.match(other.path)) and m[1] == held]
        if difference is calls[0]:
            first = min(int(_CALL.match(other.path)[2]) for other in calls)  # type: ignore[index]  # matched
            names = [_names(calls, side) for side in ("a", "b")]
            lines.append(f"  {held}, from [{first}] on: {names[0]} -> {names[1]}")
    return lines


def _names(calls: Sequence[Difference], side: Literal["a", "b"]) -> str:
    values = [value for call in calls if (value := getattr(call, side)) is not None]
    return ", ".join(str(value.value).partition(":")[2] for value in values) or "absent"


def _lines(difference: Difference) -> list[str]:
    """One line, or one for each entry that differs where both sides are tables of the same shape."""
    a, b = difference.a, difference.b
    if a is None or b is None or not _alike(a.value, b.value):
        return [f"  {difference.path}: {_side(a)} -> {_side(b)}"]
    return [
        f"  {difference.path}[{row}].{key}: {in_words(old)} -> {in_words(new[key])}"
        for row, (ours, new) in enumerate(zip(a.value, b.value, strict=True))
        for key, old in ours.items()
        if canonical(old) != canonical(new[key])
    ]


def _alike(a: Any, b: Any) -> bool:
    if not isinstance(a, list) or not isinstance(b, list) or len(a) != len(b):
        return False
    return all(
        isinstance(x, dict) and isinstance(y, dict) and x.keys() == y.keys()
        for x, y in zip(a, b, strict=True)
    )


def _side(value: Value | None) -> str:
    if value is None:
        return "absent"
    text = in_words(value.value)
    return f"{text if len(text) <= _LONGEST else text[: _LONGEST - 4] + ' ...'} ({value.origin})"
