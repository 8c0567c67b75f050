"""Real digits as pictures, written once for the tests of the command line."""

from pathlib import Path

import pytest

from surefast.cli.demo import write_digits


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 5,000 digits."""
    return write_digits(tmp_path_factory.mktemp("demo") / "digits")
