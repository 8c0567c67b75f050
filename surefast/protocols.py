"""Shared aliases and sentinels. Imports only torch and the standard library."""

from __future__ import annotations

import enum
from typing import Any, Final, Literal, TypeAlias


class _NotGiven(enum.Enum):
    NOT_GIVEN = "not given"

    def __repr__(self) -> str:
        return "NOT_GIVEN"


NotGiven: TypeAlias = Literal[_NotGiven.NOT_GIVEN]
NOT_GIVEN: Final = _NotGiven.NOT_GIVEN
"""Stands for "the caller said nothing", which differs from None."""

Sample: TypeAlias = tuple[Any, ...]
"""One item after labelling: inputs first, then targets; ``n_inp`` says where the targets begin."""
