"""``untar_data``: an archive fetched once, checked, unpacked safely, and kept.

On a machine without network the archive is put into the cache folder by hand; the error names the file.
This file must not know what a data set holds.
"""

from __future__ import annotations

import hashlib
import http.client
import lzma
import shutil
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final
from urllib.parse import urlsplit

from surefast.data.urls import PUBLISHED
from surefast.errors import FetchError
from surefast.keys.settings import data_folder
from surefast.recipe.call import declared

MAX_MEMBERS: Final = 2_000_000
"""More members than this in an archive are refused."""

MAX_BYTES: Final = 200 * 1024**3
"""More bytes than this, unpacked, are refused."""

MAX_RATIO: Final = 200
"""An archive that unpacks to more than this many times its size, and over 1 GiB, is refused."""

_MIB: Final = 1 << 20

_DAMAGE: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,  # also what zipfile says of a member with a password, or of an unknown compression
)
"""What the readers of archives raise on bytes they did not expect."""


@declared(neutral={"base", "archive", "data", "force_download", "timeout"})
def untar_data(
    url: str,
    archive: str | Path | None = None,
    data: str | Path | None = None,
    force_download: bool = False,
    *,
    base: str | Path | None = None,
    timeout: float = 30.0,
) -> Path:
    """The folder of a data set, which is fetched and unpacked at the first call.

    Args:
        url: the address, such as ``URLs.PETS``; https, or the path of a local archive.
        archive: the folder for archives; None takes ``archive`` in ``base``.
        data: the folder for unpacked data; None takes ``data`` in ``base``.
        force_download: whether to fetch and unpack it again.
        base: the cache folder; None takes ``SUREFAST_HOME`` or ``~/.surefast``.
        timeout: seconds without an answer after which the network counts as missing.

    Raises:
        FetchError: no network and no archive; an archive that is damaged, unsafe or too large.
    """
    home = Path(base) if base is not None else data_folder()
    name = _archive_name(url)
    kept = Path(archive) if archive is not None else home / "archive"
    target = (Path(data) if data is not None else home / "data") / _stem(name)
    if target.is_dir() and not force_download:
        return target
    local = Path(url)
    packed = local if local.is_file() else kept / name
    if packed is not local and (force_download or not packed.is_file()):
        _download(url, packed, timeout)
    _verify(packed, url)
    _unpack(packed, target)
    return target


def _archive_name(url: str) -> str:
    name = PurePosixPath(urlsplit(url).path).name
    if not name.endswith((".tgz", ".tar.gz", ".tar", ".zip", ".tar.xz", ".tar.bz2")):
        raise FetchError(
            f"{url!r} is no archive that is known", do="use one that ends in .tgz, .tar.gz, .tar or .zip"
        )
    return name


def _stem(name: str) -> str:
    for ending in (".tgz", ".tar.gz", ".tar.xz", ".tar.bz2", ".tar", ".zip"):
        if name.endswith(ending):
            return name.removesuffix(ending)
    return name


def _download(url: str, target: Path, timeout: float) -> None:
    if urlsplit(url).scheme != "https":
        raise FetchError(
            f"{url!r} is neither a file here nor an https address", do="check the address or the path"
        )
    _make_folder(target.parent)
    part = target.with_name(f"{target.name}.part")
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer, part.open("wb") as file:  # noqa: S310
            _copy(answer, file, target.name)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        part.unlink(missing_ok=True)
        raise FetchError(
            f"{url} could not be fetched: {getattr(error, 'reason', error)}",
            do=f"place the file {target.name!r} in {str(target.parent)!r} by hand, or set SUREFAST_HOME to a "
            "folder that has it in archive/",
            file=target,
        ) from error
    part.replace(target)


def _copy(answer: Any, file: BinaryIO, name: str) -> None:
    """With a bar on a terminal: some archives take minutes."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    total = int(answer.headers.get("Content-Length") or 0) or None
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(name, total=total)
        while part := answer.read(_MIB):
            file.write(part)
            progress.advance(task, len(part))
    if total is not None and file.tell() != total:
        raise OSError(f"the connection ended after {file.tell():,} of {total:,} bytes")


def _verify(packed: Path, url: str) -> None:
    """Against what is published, else against what was noted at the first download."""
    published = PUBLISHED.get(url)
    if published is not None:
        with packed.open("rb") as file:
            found = packed.stat().st_size, hashlib.md5(file.read(_MIB), usedforsecurity=False).hexdigest()
        if found != published:
            raise _damaged(packed, f"{published[0]:,} bytes, MD5 of the first MiB {published[1]}",
                           f"{found[0]:,} bytes, {found[1]}")  # fmt: skip
    note = packed.with_name(f"{packed.name}.blake2b")
    with packed.open("rb") as file:
        digest = hashlib.file_digest(file, "blake2b").hexdigest()
    if not note.is_file():
        _write_note(note, digest)
        return
    noted = note.read_text(encoding="ascii").strip()
    if noted != digest:
        raise _damaged(packed, f"BLAKE2b {noted[:16]}..., noted at the first use", f"{digest[:16]}...")


def _write_note(note: Path, digest: str) -> None:
    try:
        note.write_text(digest + "\n", encoding="ascii")
    except OSError:
        return  # a cache that may only be read is a good one


def _damaged(packed: Path, expected: str, found: str) -> FetchError:
    return FetchError(
        f"the archive {packed.name!r} is not what it should be",
        do="delete it (and the .blake2b file beside it, where a new version is wanted) and fetch it again",
        file=packed,
        expected=expected,
        found=found,
    )


def _unpack(packed: Path, target: Path) -> None:
    _make_folder(target.parent)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".unpack-") as folder:
        inside = Path(folder) / "data"
        inside.mkdir()
        try:
            if packed.name.endswith(".zip"):
                _unzip(packed, inside)
            else:
                _untar(packed, inside)
        except FetchError:
            raise
        except _DAMAGE as error:
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            raise FetchError(
                f"the archive {packed.name!r} cannot be unpacked: {cause}",
                do="delete it and fetch it again; if it is unsafe, do not use it",
                file=packed,
            ) from error
        found = [entry for entry in inside.iterdir() if not entry.name.startswith("._")]
        top = found[0] if len(found) == 1 and found[0].is_dir() else inside
        if target.exists():
            shutil.rmtree(target)
        top.rename(target)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FetchError(
            f"the cache folder {str(folder)!r} cannot be made: {error.strerror or error}",
            do="set SUREFAST_HOME, or pass base=, to a folder that can be written to",
            file=folder,
        ) from error


def _untar(packed: Path, inside: Path) -> None:
    limit = _Limit(packed)
    with tarfile.open(packed) as archive:
        for member in archive:
            limit.add(member.size)
            # The data filter refuses absolute names, ways out of the folder, devices and links that leave it.
            archive.extract(member, inside, filter="data")


def _unzip(packed: Path, inside: Path) -> None:
    limit = _Limit(packed)
    root = inside.resolve()
    with zipfile.ZipFile(packed) as archive:
        for member in archive.infolist():
            limit.add(member.file_size)
            if not (inside / member.filename).resolve().is_relative_to(root):
                raise FetchError(
                    f"the archive {packed.name!r} holds a way out of its folder: {member.filename!r}",
                    do="do not use it",
                    file=packed,
                )
            with archive.open(member) as source:
                _write_member(source, member, inside, limit)


def _write_member(source: Any, member: zipfile.ZipInfo, inside: Path, limit: _Limit) -> None:
    target = inside / member.filename
    if member.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    with target.open("wb") as file:
        while part := source.read(_MIB):
            left -= len(part)
            if left < 0:
                raise limit.refuse("a member that is larger than it says")
            file.write(part)


class _Limit:
    """Counts members and bytes of one archive."""

    def __init__(self, packed: Path) -> None:
        self.packed = packed
        self.members = 0
        self.bytes = 0
        self.most = min(MAX_BYTES, max(1024**3, MAX_RATIO * packed.stat().st_size))

    def add(self, size: int) -> None:
        self.members += 1
        self.bytes += size
        if self.members > MAX_MEMBERS:
            raise self.refuse(f"more than {MAX_MEMBERS:,} members")
        if self.bytes > self.most:
            raise self.refuse(f"more than {self.most:,} bytes")

    def refuse(self, what: str) -> FetchError:
        return FetchError(
            f"the archive {self.packed.name!r} holds {what}",
            do="unpack it by hand if you trust it",
            file=self.packed,
        )
