"""Small tables in a recipe: written out where they come back equal, a digest otherwise."""

import numpy as np
import pandas as pd
import pytest

from surefast.data.table import MAX_CELLS, describe_table, table
from surefast.recipe.call import Call, call_of
from surefast.recipe.value import Value

PLAIN = pd.DataFrame({"name": ["x", None], "size": [1.5, np.nan], "n": [1, 2], "valid": [True, False]})


def described(frame):
    call = Call("m:f", {"df": Value(frame, "user", neutral=True)})
    describe_table(call, "df", frame)
    return call.values["df"]


@pytest.mark.parametrize(
    "frame",
    [
        PLAIN,
        PLAIN.iloc[::-1],
        PLAIN.set_index("name", drop=False).dropna(),
        PLAIN.astype({"name": "category"}),
    ],
    ids=["plain", "reversed", "named rows", "category"],
)
def test_a_small_table_comes_back_equal(frame):
    """Its cells, types and row names; the origin stays."""
    value = described(frame)
    assert (value.origin, value.neutral) == ("user", True)
    again = table(**{name: part.value for name, part in value.value.values.items()})
    pd.testing.assert_frame_equal(again, frame, check_names=False)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({0: [1]}),
        pd.DataFrame({"t": pd.to_datetime(["2020-01-01"])}),
        pd.DataFrame({"x": [object()]}),
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame({"x": np.zeros(MAX_CELLS + 1)}),
    ],
    ids=["numbered columns", "times", "objects", "twice", "large"],
)
def test_other_tables_stay_as_they_are(frame):
    """The recipe tells them by a digest, and says so when it is asked to train."""
    assert described(frame).value is frame


def test_the_record_of_a_table_is_its_call():
    """Which is what a recipe holds."""
    assert call_of(table({"a": [1]})).name == "table"
