"""Listing files and their fingerprint."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest

from surefast.data.items import fingerprint, get_files, get_image_files
from surefast.errors import EmptyDataError, FileError, UnknownNameError
from surefast.recipe.call import call_of


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def names(files, root):
    return [file.relative_to(root).as_posix() for file in files]


def test_files_come_sorted_by_parts_without_hidden_ones(tmp_path):
    """Hidden files and folders are left out; the order is that of the parts of the names."""
    root = make(tmp_path / "r", "b/2.txt", "b/10.txt", "a-b/c.txt", "a/z.txt", ".h/x.txt", "a/.y", "0.txt")
    assert names(get_files(root), root) == ["0.txt", "a/z.txt", "a-b/c.txt", "b/10.txt", "b/2.txt"]


def test_extensions_folders_and_depth_narrow_the_search(tmp_path):
    """Endings count in any case; folders are those directly under the path."""
    root = make(tmp_path / "r", "a/1.JPG", "a/d/2.jpg", "b/3.png", "4.jpg", "c/5.jpg")
    assert names(get_files(root, extensions=["jpg"]), root) == ["4.jpg", "a/1.JPG", "a/d/2.jpg", "c/5.jpg"]
    assert names(get_files(root, folders=["b", "a"]), root) == ["a/1.JPG", "a/d/2.jpg", "b/3.png"]
    assert names(get_files(root, recurse=False), root) == ["4.jpg"]


def test_a_link_in_a_circle_ends(tmp_path):
    """Links to folders are followed, except back to a folder that we are in."""
    root = make(tmp_path / "r", "a/1.txt")
    os.symlink(root, root / "a" / "back")
    assert names(get_files(root), root) == ["a/1.txt"]


def test_a_missing_folder_is_named(tmp_path):
    """A path that is missing, a file, or without images says so."""
    with pytest.raises(FileError, match="does not exist"):
        get_files(tmp_path / "no")
    make(tmp_path, "f.txt")
    with pytest.raises(FileError, match="is a file, where a folder was expected"):
        get_files(tmp_path / "f.txt")
    with pytest.raises(EmptyDataError, match=r"no image files in .* \(1 other files there\)"):
        get_image_files(tmp_path)
    make(tmp_path, "train/f.jpg")
    with pytest.raises(EmptyDataError, match="no folder 'tran'") as caught:
        get_files(tmp_path, folders=["tran"])
    assert "train" in caught.value.do


def test_a_wrong_argument_is_answered_and_a_right_one_recorded(tmp_path):
    """The list carries the record of its call."""
    make(tmp_path, "1.jpg")
    with pytest.raises(UnknownNameError, match="recursive") as caught:
        get_image_files(tmp_path, recursive=True)
    assert "'recurse'" in caught.value.do
    record = call_of(get_image_files(tmp_path))
    assert record is not None
    assert (record.values["path"].origin, record.values["recurse"].origin) == ("user", "default")


def test_the_fingerprint_survives_a_move_and_notices_change(tmp_path):
    """Names relative to the common folder, sizes and order count."""
    first = make(tmp_path / "one", "a/1.txt", "b/2.txt")
    shutil.copytree(first, tmp_path / "two")
    before = fingerprint(get_files(first))
    assert fingerprint(get_files(tmp_path / "two")) == before
    assert fingerprint(get_files(first)[::-1]) != before
    (first / "a" / "1.txt").write_bytes(b"longer than before")
    assert fingerprint(get_files(first)) != before


def test_tables_and_arrays_have_fingerprints_of_their_values():
    """One changed cell changes it."""
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert fingerprint(frame) == fingerprint(frame.copy())
    assert fingerprint(frame) != fingerprint(frame.replace("y", "z"))
    pairs = [(np.zeros(3), 1), (np.ones(3), 2)]
    assert fingerprint(pairs) != fingerprint([(np.zeros(3), 1), (np.ones(3), 3)])
    assert fingerprint(pairs) != fingerprint([(np.zeros(3), 1), (np.full(3, 2.0), 2)])


def test_a_listing_that_was_changed_has_no_record(tmp_path):
    """A recipe would list the folder again and find other files."""
    files = get_files(make(tmp_path, "a/1", "a/2", "b/1"))
    assert call_of(files) is not None
    files.reverse()
    assert call_of(files) is None
    files.reverse()
    assert call_of(files) is not None
    files.pop()
    assert call_of(files) is None
    assert call_of(files[:1]) is None


def test_pairs_of_file_and_label_may_be_moved(tmp_path):
    """The common folder is found inside of tuples too; the label counts."""
    first, second = make(tmp_path / "x", "a/1", "b/2"), make(tmp_path / "y" / "z", "a/1", "b/2")
    pairs = [[(root / "a/1", "cat"), (root / "b/2", "dog")] for root in (first, second)]
    assert fingerprint(pairs[0]) == fingerprint(pairs[1])
    assert fingerprint(pairs[0]) != fingerprint([(first / "a/1", "cat"), (first / "b/2", "cow")])


def test_the_fingerprint_sees_into_rows_and_objects():
    """Rows that are dictionaries, and objects with a repr, are told apart; memory addresses do not count."""

    class Thing:
        pass

    assert fingerprint([{"a": 1}]) == fingerprint([{"a": 1}])
    assert fingerprint([{"a": 1}]) != fingerprint([{"a": 2}])
    assert fingerprint([slice(1, 2)]) != fingerprint([slice(1, 3)])
    assert fingerprint([Thing()]) == fingerprint([Thing()])
