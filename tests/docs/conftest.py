"""A folder as a reader of the pages has it after ``make demo``: real digits under ``demo/digits``."""

from pathlib import Path

import pytest

from surefast.cli.demo import write_digits


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 5,000 digits as pictures, written once for all pages."""
    return write_digits(tmp_path_factory.mktemp("demo") / "digits")


@pytest.fixture
def reader_folder(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with ``demo/digits`` in it; pictures are drawn without a screen."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "digits").symlink_to(digits, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    return tmp_path
