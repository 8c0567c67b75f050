"""The examples in the docstrings of the package give what they say."""

import doctest
import importlib
import pkgutil

import pytest

import surefast

MODULES = sorted(info.name for info in pkgutil.walk_packages(surefast.__path__, "surefast."))


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.usefixtures("reader_folder")
def test_the_docstrings_of_a_module_are_true(name: str) -> None:
    """Each ``>>>`` runs, in a folder that holds ``demo/digits``."""
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert failed == 0
