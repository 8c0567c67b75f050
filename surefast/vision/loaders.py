"""ImageDataLoaders: the usual ways in which images and labels lie about, each a short form of a DataBlock.

This file must not know of models or learners.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from surefast.data.assemble import OnError
from surefast.data.block import CheckLeaks, DataBlock
from surefast.data.blocks import CategoryBlock, MultiCategoryBlock, RegressionBlock, TransformBlock
from surefast.data.dataloaders import DataLoaders
from surefast.data.items import get_image_files
from surefast.data.label import ColReader, ItemGetter, RegexLabeller, parent_label
from surefast.data.loader import Workers
from surefast.data.split import ColSplitter, GrandparentSplitter, RandomSplitter, Splitter
from surefast.data.table import describe_table
from surefast.data.transform import Batches, Items
from surefast.errors import ArgumentError, EmptyDataError, FileError, MissingExtraError
from surefast.keys.key import DEFAULT_SEED
from surefast.recipe.call import call_of, current_call, declared
from surefast.vision.blocks import ImageBlock
from surefast.vision.image import PILImage

if TYPE_CHECKING:
    import pandas as pd

ItemTransforms: TypeAlias = "Items | Iterable[Items] | None"
BatchTransforms: TypeAlias = "Batches | Iterable[Batches] | None"
Device: TypeAlias = str | torch.device | None
Quoting: TypeAlias = Literal[0, 1, 2, 3]
Block: TypeAlias = TransformBlock | Callable[[], TransformBlock]

# The fingerprint among the recipe's facts tells which files there are, wherever their folder stands.
_PLACES = frozenset({"path", "fnames", "folder", "df"})
_NEUTRAL = _PLACES | {"device", "num_workers", "workers", "prefetch", "check_leaks"}


@declared()
class NameLabeller:
    """Gives ``label_func`` the name of an item's file, without its folders.

    Args:
        label_func: from a file name to a label.
    """

    def __init__(self, label_func: Callable[[str], Any]) -> None:
        if not callable(label_func):
            raise ArgumentError(
                f"label_func is {label_func!r}, which cannot be called",
                do="pass a function from a file name to a label",
            )
        self.label_func = label_func

    def __call__(self, o: str | Path) -> Any:
        """The label of a path."""
        return self.label_func(Path(o).name)


class ImageDataLoaders:
    """Makers of ``DataLoaders`` for images; see ``DataBlock`` for whatever they do not cover.

    All of them take:

    - ``path``: the folder of the data; ``valid_pct`` and ``seed``: share and seed of a random validation set
      (``seed=None`` is the default seed, so that the split repeats);
    - ``item_tfms``, ``batch_tfms``: transforms; ``img_cls``: ``PILImage`` or ``PILImageBW``;
    - ``bs``, ``val_bs`` (None is ``bs``), ``shuffle``, ``drop_last``, ``device``, ``num_workers``,
      ``workers``, ``prefetch``, ``on_error``, ``check_leaks``: see ``DataBlock.dataloaders``.
    """

    @classmethod
    @declared(neutral=_NEUTRAL)
    def from_folder(
        cls,
        path: str | Path,
        train: str = "train",
        valid: str = "valid",
        valid_pct: float | None = None,
        seed: int | None = DEFAULT_SEED,
        vocab: Iterable[Hashable] | None = None,
        item_tfms: ItemTransforms = None,
        batch_tfms: BatchTransforms = None,
        img_cls: type[PILImage] = PILImage,
        *,
        bs: int = 64,
        val_bs: int | None = None,
        shuffle: bool = True,
        drop_last: bool | None = None,
        device: Device = None,
        num_workers: int | None = None,
        workers: Workers = "auto",
        prefetch: int = 2,
        on_error: OnError = "raise",
        check_leaks: CheckLeaks = True,
    ) -> DataLoaders:
        """Images in folders named by their label, under ``train`` and ``valid``.

        With ``valid_pct`` given, the two folders are not looked for: all images under ``path`` are split at
        random. ``vocab`` names the classes in their order; None takes those of the training images.
        """
        splitter: Splitter = GrandparentSplitter(train_name=train, valid_name=valid)
        get_items: Callable[[Any], Any] = partial(get_image_files, folders=[train, valid])
        if valid_pct is not None:
            splitter, get_items = RandomSplitter(valid_pct, seed), get_image_files
        block = DataBlock(
            blocks=(ImageBlock(img_cls), CategoryBlock(vocab=vocab)),
            get_items=get_items,
            splitter=splitter,
            get_y=parent_label,
            item_tfms=item_tfms,
            batch_tfms=batch_tfms,
        )
        how = _Loading(
            bs, val_bs, shuffle, drop_last, device, num_workers, workers, prefetch, on_error, check_leaks
        )
        return how.load(block, path, path)

    @classmethod
    @declared(neutral=_NEUTRAL)
    def from_path_func(
        cls,
        path: str | Path,
        fnames: Sequence[str | Path],
        label_func: Callable[[Any], Any],
        valid_pct: float = 0.2,
        seed: int | None = DEFAULT_SEED,
        item_tfms: ItemTransforms = None,
        batch_tfms: BatchTransforms = None,
        img_cls: type[PILImage] = PILImage,
        *,
        bs: int = 64,
        val_bs: int | None = None,
        shuffle: bool = True,
        drop_last: bool | None = None,
        device: Device = None,
        num_workers: int | None = None,
        workers: Workers = "auto",
        prefetch: int = 2,
        on_error: OnError = "raise",
        check_leaks: CheckLeaks = True,
    ) -> DataLoaders:
        """Image files ``fnames``, labelled by ``label_func`` of the whole path."""
        block = _labelled(label_func, valid_pct, seed, item_tfms, batch_tfms, img_cls)
        how = _Loading(
            bs, val_bs, shuffle, drop_last, device, num_workers, workers, prefetch, on_error, check_leaks
        )
        return how.load(block, _files(fnames), path)

    @classmethod
    @declared(neutral=_NEUTRAL)
    def from_name_func(
        cls,
        path: str | Path,
        fnames: Sequence[str | Path],
        label_func: Callable[[str], Any],
        valid_pct: float = 0.2,
        seed: int | None = DEFAULT_SEED,
        item_tfms: ItemTransforms = None,
        batch_tfms: BatchTransforms = None,
        img_cls: type[PILImage] = PILImage,
        *,
        bs: int = 64,
        val_bs: int | None = None,
        shuffle: bool = True,
        drop_last: bool | None = None,
        device: Device = None,
        num_workers: int | None = None,
        workers: Workers = "auto",
        prefetch: int = 2,
        on_error: OnError = "raise",
        check_leaks: CheckLeaks = True,
    ) -> DataLoaders:
        """Image files ``fnames``, labelled by ``label_func`` of the name without folders."""
        how = _Loading(
            bs, val_bs, shuffle, drop_last, device, num_workers, workers, prefetch, on_error, check_leaks
        )
        block = _labelled(NameLabeller(label_func), valid_pct, seed, item_tfms, batch_tfms, img_cls)
        return how.load(block, _files(fnames), path)

    @classmethod
    @declared(neutral=_NEUTRAL)
    def from_path_re(
        cls,
        path: str | Path,
        fnames: Sequence[str | Path],
        pat: str,
        valid_pct: float = 0.2,
        seed: int | None = DEFAULT_SEED,
        item_tfms: ItemTransforms = None,
        batch_tfms: BatchTransforms = None,
        img_cls: type[PILImage] = PILImage,
        *,
        bs: int = 64,
        val_bs: int | None = None,
        shuffle: bool = True,
        drop_last: bool | None = None,
        device: Device = None,
        num_workers: int | None = None,
        workers: Workers = "auto",
        prefetch: int = 2,
        on_error: OnError = "raise",
        check_leaks: CheckLeaks = True,
    ) -> DataLoaders:
        """Image files ``fnames``, labelled by the group of ``pat`` found in the whole path."""
        how = _Loading(
            bs, val_bs, shuffle, drop_last, device, num_workers, workers, prefetch, on_error, check_leaks
        )
        block = _labelled(RegexLabeller(pat), valid_pct, seed, item_tfms, batch_tfms, img_cls)
        return how.load(block, _files(fnames), path)

    @classmethod
    @declared(neutral=_NEUTRAL)
    def from_name_re(
        cls,
        path: str | Path,
        fnames: Sequence[str | Path],
        pat: str,
        valid_pct: float = 0.2,
        seed: int | None = DEFAULT_SEED,
        item_tfms: ItemTransforms = None,
        batch_tfms: BatchTransforms = None,
        img_cls: type[PILImage] = PILImage,
        *,
        bs: int = 64,
        val_bs: int | None = None,
        shuffle: bool = True,
        drop_last: bool | None = None,
        device: Device = None,
        num_workers: int | None = None,
        workers: Workers = "auto",
        prefetch: int = 2,
        on_error: OnError = "raise",
        check_leaks: CheckLeaks = True,
    ) -> DataLoaders:
        """Image files ``fnames``, labelled by the group of ``pat`` found in the name without folders."""
        how = _Loading(
            bs, val_bs, shuffle, drop_last, device, num_workers, workers, prefetch, on_error, check_leaks
        )
        block = _labelled(NameLabeller(RegexLabeller(pat)), valid_pct, seed, item_tfms, batch_tfms, img_cls)
        return how.load(block, _files(fnames), path)

    @classmethod
    @declared(neutral=_NEUTRAL)
    def from_df(
        cls,
        df: pd.DataFrame,
        path: str | Path = ".",
        valid_pct: float = 0.2,
        seed: int | None = DEFAULT_SEED,
        fn_col: str | int = 0,
        folder: str | Path | None = None,
        suff: str = "",
        label_col: str | int | Sequence[str | int] = 1,
        label_delim: str | None = None,
        y_block: Block | None = None,
        valid_col: str | int | None = None,
        item_tfms: ItemTransforms = None,
        batch_tfms: BatchTransforms = None,
        img_cls: type[PILImage] = PILImage,
        *,
        bs: int = 64,
        val_bs: int | None = None,
        shuffle: bool = True,
        drop_last: bool | None = None,
        device: Device = None,
        num_workers: int | None = None,
        workers: Workers = "auto",
        prefetch: int = 2,
        on_error: OnError = "raise",
        check_leaks: CheckLeaks = True,
    ) -> DataLoaders:
        """The rows of a table: a file name in ``fn_col``, one label or several in ``label_col``.

        A file is ``path / folder / name + suff``. Several label columns, or ``label_delim`` between labels,
        make several labels an image; ``y_block`` says otherwise. ``valid_col`` marks validation rows, in
        place of a random split.
        """
        describe_table(current_call(), "df", df)
        if y_block is None:
            several = label_delim is not None or not isinstance(label_col, (str, int))
            y_block = MultiCategoryBlock() if several else CategoryBlock()
            why = "there is a delimiter or a list of columns" if several else "there is one label a row"
            current_call().infer("y_block", y_block, why)
        root = Path(path) if folder is None else Path(path) / folder
        block = DataBlock(
            blocks=(ImageBlock(img_cls), y_block),
            get_x=ColReader(fn_col, pref=root, suff=suff),
            get_y=ColReader(label_col, label_delim=label_delim),
            splitter=RandomSplitter(valid_pct, seed) if valid_col is None else ColSplitter(valid_col),
            item_tfms=item_tfms,
            batch_tfms=batch_tfms,
        )
        how = _Loading(
            bs, val_bs, shuffle, drop_last, device, num_workers, workers, prefetch, on_error, check_leaks
        )
        return how.load(block, df, path)

    @classmethod
    @declared(neutral=_NEUTRAL)
    def from_csv(
        cls,
        path: str | Path,
        csv_fname: str = "labels.csv",
        header: int | Literal["infer"] | None = "infer",
        delimiter: str = ",",
        quoting: Quoting = 0,
        valid_pct: float = 0.2,
        seed: int | None = DEFAULT_SEED,
        fn_col: str | int = 0,
        folder: str | Path | None = None,
        suff: str = "",
        label_col: str | int | Sequence[str | int] = 1,
        label_delim: str | None = None,
        y_block: Block | None = None,
        valid_col: str | int | None = None,
        item_tfms: ItemTransforms = None,
        batch_tfms: BatchTransforms = None,
        img_cls: type[PILImage] = PILImage,
        *,
        bs: int = 64,
        val_bs: int | None = None,
        shuffle: bool = True,
        drop_last: bool | None = None,
        device: Device = None,
        num_workers: int | None = None,
        workers: Workers = "auto",
        prefetch: int = 2,
        on_error: OnError = "raise",
        check_leaks: CheckLeaks = True,
    ) -> DataLoaders:
        """As ``from_df``, of the file ``path / csv_fname``; pandas explains ``header`` and ``quoting``."""
        return cls.from_df(
            _read_csv(Path(path) / csv_fname, header, delimiter, quoting),
            path,
            valid_pct,
            seed,
            fn_col,
            folder,
            suff,
            label_col,
            label_delim,
            y_block,
            valid_col,
            item_tfms,
            batch_tfms,
            img_cls,
            bs=bs,
            val_bs=val_bs,
            shuffle=shuffle,
            drop_last=drop_last,
            device=device,
            num_workers=num_workers,
            workers=workers,
            prefetch=prefetch,
            on_error=on_error,
            check_leaks=check_leaks,
        )

    @classmethod
    @declared(neutral=_NEUTRAL)
    def from_lists(
        cls,
        path: str | Path,
        fnames: Sequence[str | Path],
        labels: Sequence[Any],
        valid_pct: float = 0.2,
        seed: int | None = DEFAULT_SEED,
        y_block: Block | None = None,
        item_tfms: ItemTransforms = None,
        batch_tfms: BatchTransforms = None,
        img_cls: type[PILImage] = PILImage,
        *,
        bs: int = 64,
        val_bs: int | None = None,
        shuffle: bool = True,
        drop_last: bool | None = None,
        device: Device = None,
        num_workers: int | None = None,
        workers: Workers = "auto",
        prefetch: int = 2,
        on_error: OnError = "raise",
        check_leaks: CheckLeaks = True,
    ) -> DataLoaders:
        """Image files ``fnames`` and their ``labels``, one for each.

        Without ``y_block``, the first label decides: a list makes several labels an image, a float makes
        regression, anything else one class.
        """
        files = _files(fnames)
        if len(files) != len(labels):
            raise ArgumentError(
                f"there are {len(files)} file names and {len(labels)} labels",
                do="pass one label for each file",
            )
        if not files:
            raise EmptyDataError("fnames is empty", do="check how the files are listed")
        if y_block is None:
            y_block, why = _block_of(labels[0])
            current_call().infer("y_block", y_block, why)
        block = DataBlock(
            blocks=(ImageBlock(img_cls), y_block),
            getters=[ItemGetter(0), ItemGetter(1)],
            splitter=RandomSplitter(valid_pct, seed),
            item_tfms=item_tfms,
            batch_tfms=batch_tfms,
        )
        how = _Loading(
            bs, val_bs, shuffle, drop_last, device, num_workers, workers, prefetch, on_error, check_leaks
        )
        return how.load(block, list(zip(files, labels, strict=True)), path)


@dataclass(frozen=True)
class _Loading:
    """The arguments that all makers hand through."""

    bs: int
    val_bs: int | None
    shuffle: bool
    drop_last: bool | None
    device: Device
    num_workers: int | None
    workers: Workers
    prefetch: int
    on_error: OnError
    check_leaks: CheckLeaks

    def load(self, block: DataBlock, source: Any, path: str | Path) -> DataLoaders:
        dls = block.dataloaders(source, path=path, **vars(self))
        record = call_of(dls)
        if record is not None:  # the short form holds what the source is made from
            record.values.pop("source", None)
        return dls


def _labelled(
    label_func: Callable[[Any], Any],
    valid_pct: float,
    seed: int | None,
    item_tfms: ItemTransforms,
    batch_tfms: BatchTransforms,
    img_cls: type[PILImage],
) -> DataBlock:
    return DataBlock(
        blocks=(ImageBlock(img_cls), CategoryBlock()),
        splitter=RandomSplitter(valid_pct, seed),
        get_y=label_func,
        item_tfms=item_tfms,
        batch_tfms=batch_tfms,
    )


def _files(fnames: Sequence[str | Path]) -> list[Path]:
    if isinstance(fnames, (str, Path)):
        raise ArgumentError(
            f"fnames is one name, {str(fnames)!r}, where the files were expected",
            do="pass fnames=get_image_files(path)",
        )
    return [Path(name) for name in fnames]


def _block_of(label: Any) -> tuple[TransformBlock, str]:
    if isinstance(label, (list, tuple, set, frozenset)):
        return MultiCategoryBlock(), "the first label is a list"
    if isinstance(label, float):
        return RegressionBlock(), "the first label is a float"
    return CategoryBlock(), "the first label is neither a list nor a float"


def _read_csv(file: Path, header: int | Literal["infer"] | None, delimiter: str, quoting: Quoting) -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError(
            "reading CSV files needs pandas", do="pip install 'surefast[tabular]'"
        ) from error
    try:
        return pd.read_csv(file, header=header, delimiter=delimiter, quoting=quoting)
    except FileNotFoundError:
        raise FileError("the CSV file does not exist", do="check path and csv_fname", file=file) from None
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        cause = " ".join(str(error).split())[:200]
        raise FileError(
            "the CSV file cannot be read", do="open it and look", file=file, found=cause
        ) from error
