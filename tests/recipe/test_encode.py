"""Live values become plain ones that TOML can hold, and come back as they were."""

import datetime
import enum
import functools
import importlib
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surefast.errors import RecipeError
from surefast.protocols import NOT_GIVEN
from surefast.recipe.call import Call, declared
from surefast.recipe.decode import decode
from surefast.recipe.encode import REDACTED, Encoder, canonical, encode
from surefast.recipe.layout import literal, table
from surefast.recipe.reference import Opaque, Reference

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())  # lone surrogates as well
    | st.binary(max_size=8)
    | st.just(NOT_GIVEN)
    | st.sampled_from([torch.float32, torch.uint8, torch.device("cpu"), torch.device("cuda", 1)])
    | st.builds(Path, st.text("ab/.", min_size=1, max_size=6))
    | st.builds(slice, st.none() | st.floats(allow_nan=False), st.none() | st.integers(), st.none())
    | st.builds(range, st.integers(0, 9), st.integers(0, 9))
    | st.datetimes() | st.dates() | st.times()
)  # fmt: skip
KEYS = st.text(st.characters()) | st.sampled_from(["call", "none", "function", "made", "path", "dict"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS | st.integers(), inner, max_size=4)
        | st.frozensets(st.integers(), max_size=4)
        | st.sets(st.booleans(), max_size=2)
    ),
    max_leaves=12,
)


def same(a, b):
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


def plain_function(x):
    return x + 1


class Colour(enum.Enum):
    RED = 1


@declared()
class Recorded:
    def __init__(self, a, b=2, token=""):
        pass


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_round_trip_through_toml(value):
    """Any plain value comes back from a TOML text as what it was, type and all."""
    text = "\n".join(table("x", {"value": encode(value)}))
    assert same(value, decode(tomllib.loads(text)["x"]["value"]))


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_encoding_is_stable(value):
    """What was decoded is encoded as before, so a recipe that was read has the hash it had."""
    plain = encode(value)
    assert canonical(encode(decode(plain))) == canonical(plain)


def test_toml_has_no_line_break_inside_a_literal():
    """A literal stays on its line, whatever its text holds."""
    assert "\n" not in literal(encode({"a": ["x\ny", '"quoted"', "\x7f\x00"]}))


def test_recorded_object_is_a_nested_call():
    """An object made by something declared is told by its call."""
    plain = encode([Recorded(1)])[0]
    assert plain["call"].endswith(":Recorded")
    assert (plain["a"], plain["b"]) == (1, 2)
    assert len(plain["call_source"]) == 8


def test_references():
    """Functions and classes are names; code of the user carries a hash of its source."""
    plain = encode(plain_function)
    assert plain["function"].endswith(":plain_function")
    assert len(plain["source"]) == 8
    assert encode(torch.optim.AdamW) == {"class": "torch.optim:AdamW"}
    assert encode(torch.relu) == {"function": "torch:relu"}
    assert encode(int) == {"class": "builtins:int"}
    assert encode(Colour.RED)["member"] == "RED"


def test_nested_function_says_what_it_captures():
    """A closure is not importable; the plain values around it are part of what it does."""
    first, second = ((lambda x, k=0, scale=scale: x * scale + k) for scale in (2, 3))
    offset = 5
    inner = decode(encode(lambda x, *, add=0: x + offset + add))
    assert inner.captures == {"add": 0, "offset": 5}
    assert not inner.importable
    assert encode(first)["file"].endswith("test_encode.py")
    assert encode(first)["source"] == encode(second)["source"]
    assert encode(first)["captures"] != encode(second)["captures"]


def test_lambdas_on_one_line_differ():
    """Two lambdas on one line are told apart by their own source."""
    a, b = (lambda x: x + 1), (lambda x: x + 2)
    assert encode(a)["source"] != encode(b)["source"] != ""


def test_partial_of_function():
    """A partial keeps its arguments."""
    plain = encode(functools.partial(plain_function, x=3))
    assert plain["keywords"] == {"x": 3}
    assert encode(decode(plain)) == plain


def test_small_arrays_are_declarative():
    """Class weights and the like stand in the file with their exact numbers."""
    for array in (torch.tensor([[0.1, 2.0]]), np.array([1, 2], dtype=np.int32), torch.zeros(0, 3)):
        plain = encode(array)
        assert encode(decode(plain)) == plain
        assert plain["shape"] == list(array.shape)


def test_module_digest_is_its_weights():
    """Equal weights have equal digests, one changed bit another one."""
    model, twin = (torch.nn.Linear(3, 2) for _ in range(2))
    twin.load_state_dict(model.state_dict())
    before = encode(model)
    assert encode(twin) == before
    with torch.no_grad():
        twin.weight[0, 0] = torch.nextafter(twin.weight[0, 0], torch.tensor(9.0))
    assert encode(twin) != before


def test_first_sight_of_a_model_counts():
    """One encoder tells a model by the weights it had first, also after training."""
    encoder, model = Encoder(), torch.nn.Linear(1, 1)
    before = encoder.snapshot(model)
    with torch.no_grad():
        model.weight += 1
    assert encoder.snapshot(model) == before
    assert Encoder().snapshot(model) != before


def test_table_digest():
    """Tables differ by cells, by column names and by types."""
    pd = importlib.import_module("pandas")
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    plain = encode(table)
    assert plain["opaque"].endswith("DataFrame")
    assert encode(table.copy()) == plain
    for other in (table.assign(a=[1, 3]), table.rename(columns={"a": "c"}), table.astype({"a": "int32"})):
        assert encode(other)["digest"] != plain["digest"]


def test_other_objects_differ_by_attributes():
    """An undeclared object is opaque, and two that hold different values are different."""

    class Mine:
        def __init__(self, size):
            self.size = size

    assert isinstance(decode(encode(Mine(1))), Opaque)
    assert encode(Mine(1)) == encode(Mine(1)) != encode(Mine(2))


def test_dataclass_is_told_by_its_fields():
    """Frozen settings with slots have no room for a record and are told by their fields."""

    @declared()
    @dataclass(frozen=True, slots=True)
    class Setting:
        size: int = 3

    assert encode(Setting(4))["size"] == 4


def test_cycles_end():
    """A list that holds itself, and a call that gave back its argument, are told in finite words."""
    loop: list = []
    loop.append(loop)
    assert encode(loop)[0]["digest"] == "contains itself"

    @declared()
    def give_back(thing):
        return thing

    assert encode(give_back(Recorded(1)))["thing"]["a"] == 1


def test_long_list_is_a_digest():
    """A list too long to read is told by its digest."""
    assert encode(list(range(30_000)))["opaque"] == "builtins:list"
    assert len(encode(list(range(300)))) == 300


@pytest.mark.parametrize("name", ["api_key", "password", "hf_token", "token", "client_secret", "apikey"])
def test_secrets_are_left_out(name):
    """A value whose name says that it is secret is not written, also inside a dict."""
    assert Encoder().snapshot("hunter2", name) == REDACTED
    assert encode({"outer": {name: "hunter2"}})["outer"][name] == REDACTED


def test_what_is_no_secret_stays():
    """A tokenizer is no token, a special token no secret; a login inside an address is one."""
    assert Encoder().snapshot("bert", "tokenizer") == "bert"
    assert Encoder().snapshot("<pad>", "pad_token") == "<pad>"
    assert encode("https://me:pw@host/x") == f"https://{REDACTED}@host/x"
    assert encode(Recorded(1, token="abc"))["token"] == REDACTED


def test_arguments_named_like_the_format():
    """An argument called ``call`` or ``made`` keeps its name through the file."""
    plain = encode(Call("m:f", {}))
    assert plain == {"call": "m:f"}

    @declared()
    def odd(call, made, frozen):
        return Colour

    record = decode({"call": "m:odd", "call_": 1, "made_": 2, "frozen_": 3})
    assert list(record.values) == ["call", "made", "frozen"]
    assert encode(record) == {"call": "m:odd", "call_": 1, "made_": 2, "frozen_": 3}


@pytest.mark.parametrize(
    ("plain", "says"),
    [
        ({"slice": [1]}, "is no slice that a recipe can hold"),
        ({"torch": "load"}, "is no torch that a recipe can hold"),
        ({"torch": "flaot32"}, "is no torch that a recipe can hold"),
        ({"function": "no_colon"}, "is no function that a recipe can hold"),
        ({"function": 3}, "is no function that a recipe can hold"),
        ({"device": "toaster"}, "is no device that a recipe can hold"),
        ({"none": True, "nnoe": 1}, "unknown key 'nnoe'"),
        ({"function": "a:b", "sourec": "x"}, "write 'source'"),
        ({"tensor": ["x"], "dtype": "float32", "shape": [1]}, "is no tensor"),
        ({"call": "x"}, "is no call that a recipe can hold"),
    ],
)
def test_broken_tags(plain, says):
    """A tagged table that is not as the format says is an error that shows the form."""
    with pytest.raises(RecipeError) as caught:
        decode(plain)
    assert says in str(caught.value)


def test_time_zones():
    """Times with a usual zone are TOML's own."""
    moment = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    assert tomllib.loads(f"x = {literal(encode(moment))}")["x"] == moment


def test_reference_of_library_has_no_hash():
    """The version of a library tells its code, so that its functions need no hash."""
    assert decode(encode(torch.nn.functional.relu)) == Reference("function", "torch.nn.functional:relu")
