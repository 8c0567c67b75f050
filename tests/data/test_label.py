"""From an item to its label."""

from collections import namedtuple
from pathlib import Path

import pandas as pd
import pytest

from surefast.data.label import AttrGetter, ColReader, ItemGetter, RegexLabeller, parent_label
from surefast.errors import ArgumentError, LabelError
from surefast.recipe.call import call_of


def test_the_folder_is_the_label():
    """Paths and texts alike."""
    assert parent_label(Path("a/cat/1.jpg")) == parent_label("a/cat/1.jpg") == "cat"


def test_a_pattern_finds_the_label():
    """Anywhere in the path, or from its start."""
    label = RegexLabeller(r"/([^/]+)_\d+.jpg$")
    assert label(Path("images/great_pyrenees_173.jpg")) == "great_pyrenees"
    assert RegexLabeller(r"(\d)", match=True)("1x2") == "1"
    with pytest.raises(LabelError, match=r"was not found in 'images/x.png'") as caught:
        label("images/x.png")
    assert caught.value.details["file"] == "images/x.png"


def test_a_bad_pattern_is_refused_where_it_is_written():
    """One that cannot be read, and one without a group."""
    with pytest.raises(ArgumentError, match="cannot be read: missing"):
        RegexLabeller("(a")
    with pytest.raises(ArgumentError, match="has no group"):
        RegexLabeller("abc")


def test_columns_are_read_by_name_and_place():
    """From rows of a table, named tuples and dictionaries."""
    row = pd.DataFrame({"f": ["x"], "tags": ["a b"], "n": [3]}).iloc[0]
    assert ColReader("f", pref=Path("img"), suff=".png")(row) == str(Path("img") / "x.png")
    assert ColReader("f", pref="img_")(row) == "img_x"
    assert ColReader(1, label_delim=" ")(row) == ["a", "b"]
    assert ColReader(["f", "n"])(row) == ["x", 3]
    pair = namedtuple("pair", "a b")(1, "")
    assert ColReader("a")(pair) == 1
    assert ColReader("b", label_delim=" ")(pair) == []
    assert ColReader("a")({"a": 5}) == 5
    with pytest.raises(LabelError, match="no column 'tag'") as caught:
        ColReader("tag")(row)
    assert caught.value.do == "write 'tags'"
    with pytest.raises(LabelError, match="no column 9"):
        ColReader(9)(row)


def test_elements_and_attributes():
    """The two small ones."""
    assert ItemGetter(1)((1, 2)) == 2
    assert AttrGetter("name")(Path("a/b.c")) == "b.c"
    assert AttrGetter("nothing", 7)(1) == 7


def test_a_table_is_read_as_its_rows_are():
    """Columns at once give what one row after the other gives; a row of numbers alone is of one kind."""
    mixed = pd.DataFrame({"f": ["x", "y"], "n": [1, 2], "tags": ["a b", None]})
    numbers = pd.DataFrame({"n": [1, 2], "w": [0.5, 1.5]})
    for frame, reader in (
        (mixed, ColReader("n")),
        (mixed, ColReader(["f", "n"])),
        (mixed, ColReader(0, pref=Path("img"), suff=".png")),
        (mixed, ColReader("tags", label_delim=" ")),
        (numbers, ColReader("n")),
    ):
        assert reader.read_table(frame) == [reader(frame.iloc[i]) for i in range(len(frame))]
    with pytest.raises(LabelError, match="has no column 'g'"):
        ColReader("g").read_table(mixed)


def test_a_row_without_a_file_name_is_told():
    """Not looked for as a file called nan."""
    frame = pd.DataFrame({"f": ["x", None]})
    with pytest.raises(LabelError, match="has no value in column 'f'"):
        ColReader("f", pref=Path("img"))(frame.iloc[1])


def test_a_folder_before_the_value_changes_no_hash():
    """A text does."""
    assert call_of(ColReader("f", pref=Path("img"))).values["pref"].neutral
    assert not call_of(ColReader("f", pref="img_")).values["pref"].neutral
