"""What the system says when a run folder cannot be used, as a sentence with a remedy: one table."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from surefast.errors import RunFolderError

_ELSEWHERE = "pass run_dir= a folder you may write to"

CAUSES: Final[dict[int, tuple[str, str]]] = {
    errno.EROFS: ("it is on a read-only file system", _ELSEWHERE),
    errno.EACCES: ("it may not be written to", f"change its permissions, or {_ELSEWHERE}"),
    errno.EPERM: ("it may not be written to", f"change its permissions, or {_ELSEWHERE}"),
    errno.ENOSPC: ("the disk is full", "free space, or pass run_dir= a folder on another disk"),
    errno.EDQUOT: ("the quota is used up", "free space, or pass run_dir= a folder on another disk"),
    errno.EFBIG: ("a file may not grow that large", "raise the limit (ulimit -f), or free space"),
    errno.EEXIST: ("a file stands in its place", "move the file, or pass run_dir= another folder"),
    errno.ENOTDIR: ("a file stands in its place", "move the file, or pass run_dir= another folder"),
    errno.EISDIR: ("a folder stands where a file belongs", "move that folder away"),
    errno.ENAMETOOLONG: ("its path is too long", "pass run_dir= a shorter path"),
    errno.ENOENT: ("a folder above it is missing or cannot be made", _ELSEWHERE),
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n)"),
}
"""Error number to cause and remedy."""


def folder_failure(path: Path, error: OSError, *, doing: str = "use") -> RunFolderError:
    """The error for a run folder or a file in it, from what the system said.

    Args:
        path: the folder or file.
        error: the system's error.
        doing: a verb: what was tried.
    """
    cause, do = CAUSES.get(error.errno or 0, (error.strerror or str(error), _ELSEWHERE))
    return RunFolderError(f"cannot {doing} {path}: {cause}", do=do, system=error.strerror or error)
