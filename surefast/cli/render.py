"""What the command line prints for an error or a warning. This file must know nothing of commands."""

from __future__ import annotations

import sys
import traceback
from typing import TextIO

from surefast.errors import SurefastError


def error_paragraph(error: BaseException) -> str:
    """One paragraph for a person: what happened, where, and what to do; no traceback.

    Args:
        error: an error of surefast explains itself; for any other the place where it was raised is named.
    """
    if isinstance(error, SurefastError):
        return f"error {error}"
    text = str(error).strip().splitlines()
    lines = [f"error [unexpected] {type(error).__name__}: {text[0] if text else 'no message'}"]
    frames = traceback.extract_tb(error.__traceback__)
    if frames:
        lines.append(f"  {'at:':<10} {frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}")
    lines.append(f"  {'do:':<10} run the command again with --debug for the traceback")
    return "\n".join(lines)


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning as text without the place in the source; in the form of ``warnings.showwarning``."""
    print(f"warning {message}", file=file or sys.stderr)
