"""A value with its origin: the leaf of every recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Origin: TypeAlias = Literal["user", "default", "inferred"]


@dataclass(frozen=True, slots=True)
class Value:
    """One setting and where it came from."""

    value: Any
    origin: Origin
    why: str = ""
    """Why it has this value, where ``inferred``; empty otherwise."""

    neutral: bool = False
    """True where the value cannot change bits, such as a number of workers."""
