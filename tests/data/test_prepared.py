"""Ready batches: the plainest loader."""

from __future__ import annotations

import pytest
import torch

from surefast.data.dataloaders import DataLoaders
from surefast.data.prepared import PreparedLoader
from surefast.errors import ArgumentError, EmptyDataError
from surefast.recipe.call import call_of


def batches(value: float = 0.0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of 3, 3 and 2 samples."""
    return [(torch.full((n, 2), value), torch.zeros(n, dtype=torch.int64)) for n in (3, 3, 2)]


def test_batches_come_as_they_are_and_know_their_samples():
    """The same tensors in the same order, from any start, with running positions."""
    ready = batches()
    loader = PreparedLoader(ready)
    found = list(loader.batches(1, 5))
    assert all(batch.x[0] is given[0] for batch, given in zip(found, ready, strict=True))
    assert [batch.ids.tolist() for batch in found] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert [batch.number for batch in loader.batches(1, 5, start=1)] == [1, 2]
    assert (loader.n, len(loader), loader.bs) == (8, 3, 3)


def test_the_record_holds_no_tensors_and_the_fingerprint_tells_batches_apart():
    """A list of a thousand batches is not written into the recipe, and other numbers are another print."""
    dls = DataLoaders(batches(), batches())
    assert call_of(dls).values["train"].origin == "inferred"
    assert isinstance(call_of(dls).values["train"].value, PreparedLoader)
    assert dls.fingerprint() == DataLoaders(batches(), batches()).fingerprint()
    assert dls.fingerprint() != DataLoaders(batches(1.0), batches()).fingerprint()


def test_what_is_no_batch_is_told():
    """Empty lists, numbers in place of tensors, and transforms that cannot be added."""
    with pytest.raises(EmptyDataError, match="at least one tuple"):
        DataLoaders([])
    with pytest.raises(ArgumentError, match="a tuple of tensors, and the first one is a list"):
        DataLoaders([[1, 2]])
    with pytest.raises(ArgumentError, match="ready batches take no batch transforms"):
        DataLoaders(batches()).with_batch_tfms([torch.neg])
