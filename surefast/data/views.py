"""Other ways to look at the data of a loader: as validation sees it, or as training does."""

from __future__ import annotations

from surefast.data.dataloaders import AnyLoader
from surefast.data.dataset import Samples
from surefast.data.loader import Loader
from surefast.errors import ArgumentError


def as_validation(loader: AnyLoader) -> AnyLoader:
    """The same items in their own order, none dropped, with nothing that is for training only."""
    return _view(loader, train=False)


def as_training(loader: AnyLoader) -> Loader:
    """The same items in their own order, none dropped, augmented as in training.

    Raises:
        ArgumentError: a torch DataLoader does not say how its items are augmented.
    """
    view = _view(loader, train=True)
    if not isinstance(view, Loader):
        raise ArgumentError(
            "this loader does not say what it does in training only",
            do="build the data with a DataBlock, or average over your own augmented loaders",
        )
    return view


def _view(loader: AnyLoader, *, train: bool) -> AnyLoader:
    if not isinstance(loader, Loader):
        return loader
    samples = loader.dataset
    if samples.train != train:
        samples = Samples(
            samples.items,
            samples.elements,
            samples.item_tfms,
            n_inp=samples.n_inp,
            train=train,
            labels=samples.labels,
        )
    return Loader(
        samples,
        loader.bs,
        shuffle=False,
        drop_last=False,
        batch_tfms=loader.batch_tfms,
        on_error=loader.on_error,
        sources=loader.sources,
        device=loader.device,
    )
