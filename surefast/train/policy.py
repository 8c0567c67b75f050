"""What a policy of the step may do. A policy changes the arithmetic; a callback only sees events.

Policies are handed to the Learner in ``cbs`` like callbacks, because that is where fastai users look for
them, but they never see an event, so they cannot collide with one. There is at most one of a kind.
"""

from __future__ import annotations

import abc
from typing import ClassVar


class Policy(abc.ABC):
    """A part of the step's arithmetic that a user may choose."""

    kind: ClassVar[str]
    """What it decides; two policies of one kind are a conflict."""
