"""docs/errors.md and errors.py name the same errors."""

import re
from pathlib import Path

from surefast import errors

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def classes() -> list[type[errors.SurefastError]]:
    """Every class in errors.py."""
    kinds = (each for each in vars(errors).values() if isinstance(each, type))
    return [each for each in kinds if issubclass(each, errors.SurefastError)]


def tree() -> dict[str, str]:
    """Code to class name, of every class in errors.py."""
    return {cls.code: cls.__name__ for cls in classes()}


def test_the_page_lists_exactly_the_errors_of_the_tree() -> None:
    """One section for each: its code and its class."""
    sections = dict(re.findall(r"^## `\[([a-z-]+)\]` (\w+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert sections == tree()


def test_the_drawing_in_the_module_shows_exactly_the_tree() -> None:
    """The docstring of errors.py is read by people; it must not fall behind."""
    drawn = dict(re.findall(r"(\w+Error)\s+\[([a-z-]+)\]", errors.__doc__ or ""))
    assert {code: name for name, code in drawn.items()} == tree()


def test_every_class_has_a_code_of_its_own() -> None:
    """Two errors with one code could not be told apart."""
    assert len(tree()) == len(classes())
