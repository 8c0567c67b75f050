"""Other ways to look at the data of a loader: as validation sees it, or as training does."""

from __future__ import annotations

from surefast.data.dataloaders import AnyLoader
from surefast.data.loader import Loader
from surefast.data.prepared import PreparedLoader
from surefast.errors import ArgumentError


def as_validation(loader: AnyLoader) -> AnyLoader:
    """The same items in their own order, none dropped, with nothing that is for training only."""
    return loader if isinstance(loader, PreparedLoader) else loader.plain()


def as_training(loader: AnyLoader) -> Loader:
    """The same items in their own order, none dropped, augmented as in training.

    Raises:
        ArgumentError: a torch DataLoader does not say how its items are augmented.
    """
    if not isinstance(loader, Loader):
        raise ArgumentError(
            "this loader does not say what it does in training only",
            do="build the data with a DataBlock, or average over your own augmented loaders",
        )
    return loader.augmented()
