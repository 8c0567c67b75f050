"""What the package shows to the world may grow only on purpose: add a name here and to the changelog."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.main import get_command

import surefast
import surefast.vision.all as vision
from surefast.cli.main import app

PACKAGE = Path(surefast.__file__).parent

TOP = ["Actor", "Callback", "DataBlock", "DataLoaders", "Learner", "Observer", "Recipe", "SurefastError"]
COMMANDS = {"demo", "train", "explain", "diff"}


def test_the_names_of_the_package():
    """The top level is a short list, each name can be had, and a wrong one is told the right ones."""
    assert [*TOP, "train_recipe"] == surefast.__all__
    assert all(getattr(surefast, name) is not None for name in surefast.__all__)
    with pytest.raises(AttributeError, match="Learner"):
        surefast.Lerner  # noqa: B018  # the look-up is the test


def test_the_commands():
    """No command appears by accident."""
    assert set(get_command(app).commands) == COMMANDS


def test_the_star_module_keeps_its_promise():
    """Each name of the curated list can be had, none twice, and no module of ours leaks with it."""
    assert len(vision.__all__) == len(set(vision.__all__))
    namespace: dict[str, object] = {}
    exec("from surefast.vision.all import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(vision.__all__)


def test_no_file_is_two_things():
    """No file above 500 lines, but for the facade, which has a docstring for every argument."""
    sizes = {
        path.relative_to(PACKAGE).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    large = {name for name, lines in sizes.items() if lines > 500}
    assert large <= {"learner.py"}, {name: sizes[name] for name in large}
    assert sizes["learner.py"] <= 700
