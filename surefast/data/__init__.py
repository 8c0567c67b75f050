"""From files to batches.

The names here are for users' code and are loaded when touched; code inside the package imports from the
files.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surefast.data.assemble import Skipped as Skipped
    from surefast.data.batch import Batch as Batch
    from surefast.data.block import DataBlock as DataBlock
    from surefast.data.block import Datasets as Datasets
    from surefast.data.blocks import CategoryBlock as CategoryBlock
    from surefast.data.blocks import Encoder as Encoder
    from surefast.data.blocks import Encoding as Encoding
    from surefast.data.blocks import MultiCategoryBlock as MultiCategoryBlock
    from surefast.data.blocks import RegressionBlock as RegressionBlock
    from surefast.data.blocks import TransformBlock as TransformBlock
    from surefast.data.dataloaders import DataLoaders as DataLoaders
    from surefast.data.dataset import Element as Element
    from surefast.data.dataset import Samples as Samples
    from surefast.data.fetch import untar_data as untar_data
    from surefast.data.foreign import ForeignLoader as ForeignLoader
    from surefast.data.items import FileList as FileList
    from surefast.data.items import fingerprint as fingerprint
    from surefast.data.items import get_files as get_files
    from surefast.data.items import get_image_files as get_image_files
    from surefast.data.label import AttrGetter as AttrGetter
    from surefast.data.label import ColReader as ColReader
    from surefast.data.label import ItemGetter as ItemGetter
    from surefast.data.label import RegexLabeller as RegexLabeller
    from surefast.data.label import parent_label as parent_label
    from surefast.data.leaks import Leak as Leak
    from surefast.data.leaks import find_leaks as find_leaks
    from surefast.data.loader import Loader as Loader
    from surefast.data.loader import Sources as Sources
    from surefast.data.split import ColSplitter as ColSplitter
    from surefast.data.split import EndSplitter as EndSplitter
    from surefast.data.split import FuncSplitter as FuncSplitter
    from surefast.data.split import GrandparentSplitter as GrandparentSplitter
    from surefast.data.split import GroupSplitter as GroupSplitter
    from surefast.data.split import IndexSplitter as IndexSplitter
    from surefast.data.split import KFoldSplitter as KFoldSplitter
    from surefast.data.split import MaskSplitter as MaskSplitter
    from surefast.data.split import RandomSplitter as RandomSplitter
    from surefast.data.split import Splitter as Splitter
    from surefast.data.split import TimeSplitter as TimeSplitter
    from surefast.data.split import TrainTestSplitter as TrainTestSplitter
    from surefast.data.summary import Summary as Summary
    from surefast.data.transform import BatchTransform as BatchTransform
    from surefast.data.transform import ItemTransform as ItemTransform
    from surefast.data.transform import TrainOnly as TrainOnly
    from surefast.data.urls import URLs as URLs

_HOMES = {
    "AttrGetter": "label",
    "Batch": "batch",
    "BatchTransform": "transform",
    "CategoryBlock": "blocks",
    "ColReader": "label",
    "ColSplitter": "split",
    "DataBlock": "block",
    "DataLoaders": "dataloaders",
    "Datasets": "block",
    "Element": "dataset",
    "Encoder": "blocks",
    "Encoding": "blocks",
    "EndSplitter": "split",
    "FileList": "items",
    "ForeignLoader": "foreign",
    "FuncSplitter": "split",
    "GrandparentSplitter": "split",
    "GroupSplitter": "split",
    "IndexSplitter": "split",
    "ItemGetter": "label",
    "ItemTransform": "transform",
    "KFoldSplitter": "split",
    "Leak": "leaks",
    "Loader": "loader",
    "MaskSplitter": "split",
    "MultiCategoryBlock": "blocks",
    "RandomSplitter": "split",
    "RegexLabeller": "label",
    "RegressionBlock": "blocks",
    "Samples": "dataset",
    "Skipped": "assemble",
    "Sources": "loader",
    "Splitter": "split",
    "Summary": "summary",
    "TimeSplitter": "split",
    "TrainOnly": "transform",
    "TrainTestSplitter": "split",
    "TransformBlock": "blocks",
    "URLs": "urls",
    "find_leaks": "leaks",
    "fingerprint": "items",
    "get_files": "items",
    "get_image_files": "items",
    "parent_label": "label",
    "untar_data": "fetch",
}

__all__ = [
    "AttrGetter",
    "Batch",
    "BatchTransform",
    "CategoryBlock",
    "ColReader",
    "ColSplitter",
    "DataBlock",
    "DataLoaders",
    "Datasets",
    "Element",
    "Encoder",
    "Encoding",
    "EndSplitter",
    "FileList",
    "ForeignLoader",
    "FuncSplitter",
    "GrandparentSplitter",
    "GroupSplitter",
    "IndexSplitter",
    "ItemGetter",
    "ItemTransform",
    "KFoldSplitter",
    "Leak",
    "Loader",
    "MaskSplitter",
    "MultiCategoryBlock",
    "RandomSplitter",
    "RegexLabeller",
    "RegressionBlock",
    "Samples",
    "Skipped",
    "Sources",
    "Splitter",
    "Summary",
    "TimeSplitter",
    "TrainOnly",
    "TrainTestSplitter",
    "TransformBlock",
    "URLs",
    "find_leaks",
    "fingerprint",
    "get_files",
    "get_image_files",
    "parent_label",
    "untar_data",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'surefast.data' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"surefast.data.{home}"), name)


def __dir__() -> list[str]:
    return list(__all__)
