"""Errors and warnings as a person reads them."""

import warnings

import pytest

from surefast.cli.render import error_paragraph, show_warning
from surefast.errors import FileError


def test_an_explained_error_is_its_own_text() -> None:
    """Code, sentence, details and remedy."""
    error = FileError("the file is cut short", do="copy it again", file="a.jpg")
    assert error_paragraph(error) == (
        "error [bad-file] the file is cut short\n  file:      a.jpg\n  do:        copy it again"
    )


def test_any_other_error_names_its_place() -> None:
    """Of a long message the first line."""
    try:
        raise KeyError("left\nright")
    except KeyError as error:
        shown = error_paragraph(error)
    first, place, do = shown.splitlines()
    assert first.startswith("error [unexpected] KeyError: ")
    assert "test_render.py:" in place
    assert do == "  do:        run the command again with --debug for the traceback"


def test_an_error_without_text_is_still_an_error() -> None:
    """As ``assert`` and ``MemoryError`` raise it."""
    assert error_paragraph(MemoryError()).splitlines()[0] == "error [unexpected] MemoryError: no message"


def test_a_warning_is_a_line_without_source(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where in the source it was raised helps nobody at the command line."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", show_warning)
        warnings.warn("two pictures are the same", stacklevel=1)
    assert capsys.readouterr().err == "warning two pictures are the same\n"
