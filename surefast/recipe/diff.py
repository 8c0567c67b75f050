"""What differs between two recipes, and which differences can change bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from surefast.recipe.encode import canonical
from surefast.recipe.recipe import Recipe
from surefast.recipe.value import Value
from surefast.recipe.words import in_words

_LONGEST = 80


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
    """Differences in words, a line each."""
    if not differences:
        return "the recipes are the same in every value"
    lines: list[str] = []
    for can_change, words in ((True, "can change the result"), (False, "cannot change the result")):
        part = [difference for difference in differences if difference.can_change_bits is can_change]
        if part:
            noun = "difference" if len(part) == 1 else "differences"
            lines.append(f"{len(part)} {noun} that {words}:")
            lines += [f"  {line.path}: {_side(line.a)} -> {_side(line.b)}" for line in part]
    return "\n".join(lines)


def _side(value: Value | None) -> str:
    if value is None:
        return "absent"
    text = in_words(value.value)
    return f"{text if len(text) <= _LONGEST else text[: _LONGEST - 4] + ' ...'} ({value.origin})"
