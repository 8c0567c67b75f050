"""Archives: checked, unpacked safely, kept, and the way without network."""

import io
import tarfile
import zipfile

import pytest

from surefast.data import fetch
from surefast.data.fetch import untar_data
from surefast.data.urls import PUBLISHED, URLs
from surefast.errors import FetchError
from surefast.keys.settings import data_folder

NOWHERE = "https://localhost:9/some_data.tgz"


def tar(path, members, kind=tarfile.REGTYPE, link=""):
    """An archive of names and contents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, link
            archive.addfile(info, io.BytesIO(content))
    return path


def test_an_archive_in_the_cache_needs_no_network(tmp_path):
    """It is unpacked once; the folder is then used as it is."""
    tar(tmp_path / "archive" / "some_data.tgz", {"some_data/a/1.txt": b"x"})
    path = untar_data(NOWHERE, base=tmp_path)
    assert path == tmp_path / "data" / "some_data"
    assert (path / "a" / "1.txt").read_bytes() == b"x"
    (tmp_path / "archive" / "some_data.tgz").unlink()
    assert untar_data(NOWHERE, base=tmp_path) == path


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    """``SUREFAST_HOME`` or the home folder."""
    monkeypatch.setenv("SUREFAST_HOME", str(tmp_path / "h"))
    assert data_folder() == tmp_path / "h"
    monkeypatch.delenv("SUREFAST_HOME")
    assert data_folder().name == ".surefast"


def test_without_network_the_file_to_place_is_named(tmp_path):
    """And nothing half-done stays."""
    with pytest.raises(FetchError, match="could not be fetched") as caught:
        untar_data(NOWHERE, base=tmp_path)
    assert "'some_data.tgz'" in caught.value.do
    assert str(tmp_path / "archive") in caught.value.do
    assert list((tmp_path / "archive").iterdir()) == []
    with pytest.raises(FetchError, match="neither a file here nor an https address"):
        untar_data("http://localhost/x.tgz", base=tmp_path)
    with pytest.raises(FetchError, match="is no archive that is known"):
        untar_data("https://localhost/x.rar", base=tmp_path)


def test_a_local_archive_is_taken_where_it_lies(tmp_path):
    """A zip without a single folder at its top keeps its members together."""
    path = tmp_path / "d.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "1")
        archive.writestr("b/c.txt", "2")
    folder = untar_data(str(path), base=tmp_path / "cache")
    assert sorted(p.name for p in folder.rglob("*.txt")) == ["a.txt", "c.txt"]


def test_published_sums_are_checked(tmp_path):
    """A file of another size is not used."""
    tar(tmp_path / "archive" / "mnist_tiny.tgz", {"mnist_tiny/x": b""})
    with pytest.raises(FetchError, match="is not what it should be") as caught:
        untar_data(URLs.MNIST_TINY, base=tmp_path)
    assert "342,207 bytes" in caught.value.details["expected"]
    assert not (tmp_path / "data").exists()


def test_an_archive_that_changed_since_its_first_use_is_refused(tmp_path):
    """Its whole sum was noted."""
    packed = tar(tmp_path / "archive" / "some_data.tgz", {"some_data/1": b"x"})
    untar_data(NOWHERE, base=tmp_path)
    tar(packed, {"some_data/1": b"y"})
    with pytest.raises(FetchError, match="is not what it should be") as caught:
        untar_data(NOWHERE, base=tmp_path, data=tmp_path / "elsewhere")
    assert "noted at the first use" in caught.value.details["expected"]


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("../out.txt", tarfile.REGTYPE, ""),
        ("/tmp/out.txt", tarfile.REGTYPE, ""),
        ("d/link", tarfile.SYMTYPE, "../../../etc/passwd"),
        ("d/device", tarfile.CHRTYPE, ""),
    ],
)
def test_unsafe_members_of_a_tar_go_nowhere(tmp_path, name, kind, link):
    """Ways out, links out and devices; nothing is left behind, absolute names are made relative."""
    tar(tmp_path / "c" / "archive" / "some_data.tgz", {name: b""}, kind, link)
    if name.startswith("/"):
        untar_data(NOWHERE, base=tmp_path / "c")
    else:
        with pytest.raises(FetchError, match="cannot be unpacked"):
            untar_data(NOWHERE, base=tmp_path / "c")
        assert list((tmp_path / "c" / "data").iterdir()) == []
    assert not (tmp_path / "c" / "out.txt").exists()


def test_unsafe_members_of_a_zip_go_nowhere(tmp_path):
    """A way out is refused."""
    path = tmp_path / "d.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../out.txt", "1")
    with pytest.raises(FetchError, match=r"holds a way out of its folder: '\.\./out\.txt'"):
        untar_data(str(path), base=tmp_path / "cache")


def test_caps_on_members_and_bytes(tmp_path, monkeypatch):
    """An archive that grows without end is refused before it fills the disk."""
    packed = tar(tmp_path / "archive" / "some_data.tgz", {f"some_data/{i}": b"x" * 100 for i in range(20)})
    monkeypatch.setattr(fetch, "MAX_MEMBERS", 10)
    with pytest.raises(FetchError, match="more than 10 members"):
        untar_data(NOWHERE, base=tmp_path)
    monkeypatch.setattr(fetch, "MAX_MEMBERS", 100)
    monkeypatch.setattr(fetch, "MAX_BYTES", 500)
    with pytest.raises(FetchError, match="more than 500 bytes"):
        untar_data(NOWHERE, base=tmp_path)
    packed.write_bytes(packed.read_bytes()[:60])
    packed.with_name("some_data.tgz.blake2b").unlink()
    with pytest.raises(FetchError, match="cannot be unpacked"):
        untar_data(NOWHERE, base=tmp_path)


def test_published_addresses_are_known_ones():
    """Each sum belongs to an address of ``URLs``; all are https."""
    known = {value for name, value in vars(URLs).items() if name.isupper() or name == "ML_100k"}
    assert set(PUBLISHED) <= known
    assert all(url.startswith("https://") for url in known)


def test_damage_inside_and_passwords_are_told(tmp_path):
    """Whatever the readers of archives raise."""
    path = tmp_path / "d.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/x", b"0" * 5000)
    whole = path.read_bytes()
    damaged, locked = bytearray(whole), bytearray(whole)
    damaged[40] ^= 0xFF
    for start, offset in ((whole.find(b"PK\x03\x04"), 6), (whole.find(b"PK\x01\x02"), 8)):
        locked[start + offset] |= 1
    for number, content in enumerate((damaged, locked, b"<html>")):
        other = tmp_path / f"d{number}.zip"
        other.write_bytes(content)
        with pytest.raises(FetchError, match="cannot be unpacked"):
            untar_data(str(other), base=tmp_path / "cache")


def test_a_cache_that_cannot_be_made_is_named(tmp_path):
    """With the way out."""
    packed = tar(tmp_path / "some_data.tgz", {"some_data/1": b"x"})
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match="cannot be made") as caught:
        untar_data(str(packed), base=tmp_path / "file")
    assert "SUREFAST_HOME" in caught.value.do


def test_a_connection_that_ends_early_leaves_nothing(tmp_path, monkeypatch):
    """The length that the server announced is compared."""

    class Answer(io.BytesIO):
        headers = {"Content-Length": "100"}

    monkeypatch.setattr(fetch.urllib.request, "urlopen", lambda url, timeout: Answer(b"x" * 60))
    with pytest.raises(FetchError, match="ended after 60 of 100 bytes"):
        untar_data(NOWHERE, base=tmp_path)
    assert list((tmp_path / "archive").iterdir()) == []
