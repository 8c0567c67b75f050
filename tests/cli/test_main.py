"""The command line: help that a person can use, errors as one paragraph, exit codes that mean something."""

import subprocess
import sys
from pathlib import Path

import pytest

from surefast.cli.main import run


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """And the exit codes."""
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    for word in ("demo", "train", "explain", "diff", "--version", "Exit codes"):
        assert word in shown


@pytest.mark.parametrize("command", ["demo", "train", "explain", "diff"])
def test_help_of_a_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What to type, not only what may be typed."""
    assert run([command, "--help"]) == 0
    assert f"Example: surefast {command}" in capsys.readouterr().out


def test_version_names_what_decides_bits(capsys: pytest.CaptureFixture[str]) -> None:
    """surefast, torch and Python."""
    assert run(["--version"]) == 0
    words = capsys.readouterr().out.split()
    assert words[::2] == ["surefast", "torch", "Python"]


def test_a_wrong_command_is_answered_with_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2: a wrong command line."""
    assert run(["trian"]) == 2
    assert "Did you mean 'train'?" in capsys.readouterr().err


def test_an_explained_error_is_one_paragraph(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, on standard error, with the remedy and without a traceback."""
    assert run(["explain", "nope"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error [recipe] there is no recipe file")
    assert "do:" in shown.err
    assert "Traceback" not in shown.err


def test_a_file_that_is_no_recipe_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A picture given for a recipe."""
    Path("a.png").write_bytes(b"\x89PNG\xff\xfe")
    assert run(["explain", "a.png"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error [recipe]")
    assert "a.png" in shown


def test_a_recipe_with_a_misspelt_key_is_answered_with_the_right_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the line in the file."""
    Path("recipe.toml").write_text("fromat = 1\n")
    assert run(["train", "recipe.toml"]) == 1
    shown = capsys.readouterr().err
    assert "line 1" in shown
    assert "format" in shown


def test_debug_shows_the_traceback_too(capsys: pytest.CaptureFixture[str]) -> None:
    """The paragraph stays the last thing to read."""
    assert run(["explain", "nope", "--debug"]) == 1
    shown = capsys.readouterr().err
    assert shown.index("Traceback") < shown.index("error [recipe]")


def test_an_error_that_nobody_foresaw_is_a_paragraph_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 70, the place, and how to see more: here a file stands where the demo's folder should."""
    Path("taken").write_text("")
    assert run(["demo", "--out", "taken"]) == 70
    shown = capsys.readouterr().err
    assert shown.startswith("error [unexpected] NotADirectoryError")
    assert "at:" in shown
    assert "run the command again with --debug" in shown
    assert "Traceback" not in shown


def test_help_is_quick() -> None:
    """It imports neither torch nor anything that does."""
    code = "import sys; from surefast.cli.main import run; run(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == 0
