"""What a DataBlock refuses before it looks at data."""

from __future__ import annotations

import pytest

from surefast.data.block import DataBlock
from surefast.errors import ArgumentError


def test_another_class_of_loader_is_refused():
    """One loader, whose order and state are known; torch's own go another way."""
    with pytest.raises(ArgumentError, match="pass your own torch DataLoaders"):
        DataBlock(dl_type=dict)
