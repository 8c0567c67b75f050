"""Listing files: sorted, hidden ones left out, and the fingerprint of what was found.

This file must not know what is in a file.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import xxhash

from surefast.errors import EmptyDataError, FileError
from surefast.recipe.call import Call, declared
from surefast.recipe.digest import plain_repr

IMAGE_EXTENSIONS: Final = frozenset({
    ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".pbm", ".pgm",
    ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
})  # fmt: skip
"""What ``get_image_files`` takes for a picture. A list by hand: ``mimetypes`` reads files of the machine."""


class FileList(list[Path]):
    """The files that were found, in sorted order; a list that can carry the record of its listing.

    The record tells how to find these files again, so a list that was changed since has none.
    """

    @property
    def _surefast_call(self) -> Call | None:
        made: tuple[Call, list[Path]] | None = self.__dict__.get("_made")
        return made[0] if made is not None and made[1] == self else None

    @_surefast_call.setter
    def _surefast_call(self, call: Call) -> None:
        self.__dict__["_made"] = call, list(self)


@declared()
def get_files(
    path: str | Path,
    extensions: Collection[str] | None = None,
    recurse: bool = True,
    folders: Collection[str] | None = None,
    followlinks: bool = True,
) -> FileList:
    """All files under ``path`` in sorted order, without hidden files and folders.

    Args:
        path: the folder to look in.
        extensions: endings to take, such as ``{".jpg"}``, in any case of letters; None takes all.
        recurse: whether to look into sub-folders.
        folders: names of the folders directly under ``path`` to look into; None takes all.
        followlinks: whether to look into folders that are links.

    Raises:
        FileError: the folder is missing, or is not a folder.
        EmptyDataError: a folder asked for in ``folders`` is missing.
    """
    root = Path(path)
    if not root.is_dir():
        what = "is a file, where a folder was expected" if root.exists() else "does not exist"
        raise FileError(f"the folder {str(root)!r} {what}", do="check the path; it is relative to the folder "
                        f"that Python runs in, {str(Path.cwd())!r}", file=root)  # fmt: skip
    endings = None if extensions is None else {_ending(e) for e in extensions}
    starts = [root] if folders is None else [root / name for name in sorted(folders)]
    ask = _Ask(endings, recurse, followlinks)
    found: list[str] = []
    for start in starts:
        if not start.is_dir():
            names = ", ".join(sorted(entry.name for entry in os.scandir(root) if entry.is_dir())[:8])
            raise EmptyDataError(
                f"there is no folder {start.name!r} in {str(root)!r}",
                do=f"the folders there are: {names or 'none'}",
            )
        _scan(str(start), ask, found)
    # Sorted by parts, not by text: "a/z" stands before "a-b/c" on every machine.
    return FileList(Path(name) for name in sorted(set(found), key=lambda name: name.split(os.sep)))


@declared()
def get_image_files(
    path: str | Path, recurse: bool = True, folders: Collection[str] | None = None
) -> FileList:
    """All image files under ``path``, told by their endings, in sorted order.

    Raises:
        EmptyDataError: there is none.
    """
    files = get_files(path, extensions=IMAGE_EXTENSIONS, recurse=recurse, folders=folders)
    if not files:
        others = _count_files(path)
        raise EmptyDataError(
            f"no image files in {str(path)!r} ({others} other files there)",
            do="check the path; images are told by endings such as .jpg and .png; for others use "
            "get_files(path, extensions=...)",
        )
    return files


@dataclass(frozen=True)
class _Ask:
    endings: set[str] | None
    recurse: bool
    followlinks: bool


def _ending(extension: str) -> str:
    lower = extension.lower()
    return lower if lower.startswith(".") else f".{lower}"


def _count_files(path: str | Path) -> int:
    return sum(len(names) for _, _, names in os.walk(path))


def _scan(folder: str, ask: _Ask, found: list[str], above: frozenset[str] = frozenset()) -> None:
    if ask.followlinks:
        real = os.path.realpath(folder)
        if real in above:  # a link back to a folder we are in
            return
        above |= {real}
    below: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=ask.followlinks):
                below.append(entry.path)
            elif _taken(entry, ask.endings):
                found.append(entry.path)
    if ask.recurse:
        for inner in below:
            _scan(inner, ask, found, above)


def _taken(entry: os.DirEntry[str], endings: set[str] | None) -> bool:
    if endings is not None and os.path.splitext(entry.name)[1].lower() not in endings:
        return False
    return entry.is_file()


def fingerprint(items: Sequence[Any], root: str | Path | None = None) -> str:
    """A short hash of which items there are, in which order: names and sizes for files, values for others.

    Contents of files are not read: a million files take seconds. A file changed in place to another of the
    same size keeps its fingerprint.

    Args:
        items: paths, rows of a table, numbers, texts, arrays, or tuples of these.
        root: the folder that names are taken relative to; None takes the common one, so that a data set may
            be moved.
    """
    digest = xxhash.xxh3_128()
    if _is_frame(items):
        _add_frame(digest, items)
        return digest.hexdigest()
    base = str(root) if root is not None else _common_folder(items)
    for item in items:
        digest.update(_describe(item, base))
        digest.update(b"\0")
    return digest.hexdigest()


def _common_folder(items: Iterable[Any]) -> str:
    folders = {os.path.dirname(path) for item in items for path in _paths_in(item)}
    try:
        return os.path.commonpath(folders) if folders else ""
    except ValueError:  # absolute and relative ones mixed
        return ""


def _paths_in(item: Any) -> Iterator[str]:
    if isinstance(item, os.PathLike):
        yield os.fspath(item)
    elif isinstance(item, (tuple, list)):
        for part in item:
            yield from _paths_in(part)


def _describe(item: Any, base: str) -> bytes:
    if isinstance(item, os.PathLike):
        path = os.fspath(item)
        try:
            size = os.stat(path).st_size
        except OSError:
            size = -1
        return f"{_below(path, base)}|{size}".encode("utf-8", "surrogateescape")
    if isinstance(item, (tuple, list)):
        return b"(" + b",".join(_describe(part, base) for part in item) + b")"
    if isinstance(item, Mapping):
        parts = (_describe(part, base) for pair in item.items() for part in pair)
        return b"{" + b",".join(parts) + b"}"
    if isinstance(item, (str, int, float, bool, bytes, type(None))):
        return repr(item).encode()
    return _describe_array(item)


def _below(path: str, base: str) -> str:
    if not base:
        return path
    if path.startswith(base + os.sep):  # nearly always, and twenty times as fast
        return path[len(base) + 1 :]
    return os.path.relpath(path, base)


def _describe_array(item: Any) -> bytes:
    array = getattr(item, "__array__", None)
    if array is None:
        return f"{type(item).__module__}.{type(item).__qualname__} {plain_repr(item)}".encode()
    values = array()
    head = f"{values.dtype}{values.shape}".encode()
    body = repr(values.tolist()).encode() if values.dtype == object else values.tobytes()
    return head + xxhash.xxh3_128_digest(body)


def _is_frame(items: Any) -> bool:
    return hasattr(items, "iloc") and hasattr(items, "columns")


def _add_frame(digest: Any, frame: Any) -> None:
    for name in frame.columns:
        digest.update(f"{name}|{frame[name].dtype}".encode())
        for value in frame[name].tolist():
            digest.update(repr(value).encode())
            digest.update(b"\0")
