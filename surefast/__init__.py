"""Deep learning on PyTorch that can be explained, repeated and handed over.

    from surefast import DataLoaders, Learner

Names are found where they are used; importing this package loads none of its rooms.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surefast.callbacks.contract import Actor, Callback, Observer
    from surefast.data.block import DataBlock
    from surefast.data.dataloaders import DataLoaders
    from surefast.errors import SurefastError
    from surefast.learner import Learner
    from surefast.recipe.recipe import Recipe
    from surefast.replay import train_recipe

__version__ = "0.1.0"

_HOMES = {
    "Actor": "surefast.callbacks.contract",
    "Callback": "surefast.callbacks.contract",
    "DataBlock": "surefast.data.block",
    "DataLoaders": "surefast.data.dataloaders",
    "Learner": "surefast.learner",
    "Observer": "surefast.callbacks.contract",
    "Recipe": "surefast.recipe.recipe",
    "SurefastError": "surefast.errors",
    "train_recipe": "surefast.replay",
}

__all__ = [
    "Actor",
    "Callback",
    "DataBlock",
    "DataLoaders",
    "Learner",
    "Observer",
    "Recipe",
    "SurefastError",
    "train_recipe",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    # An AttributeError, as the import system and hasattr() expect of a module.
    raise AttributeError(f"module 'surefast' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
