"""A declared callable answers for its arguments and records them."""

from dataclasses import dataclass

import pytest
import torch

from surefast.errors import ArgumentError, UnknownNameError
from surefast.recipe.call import call_of, current_call, declared, is_declared
from surefast.recipe.value import Value


@declared(neutral={"workers"})
class Thing:
    def __init__(self, size, workers=0):
        self.size = size

    @classmethod
    @declared()
    def of(cls, size=1):
        return cls(size)


class Special(Thing):
    pass


def test_unknown_argument_names_the_nearest():
    """A typo is answered with the right name."""
    with pytest.raises(UnknownNameError, match=r"Thing\(\) has no argument 'sise'(.|\n)*write 'size'"):
        Thing(sise=1)


def test_missing_and_surplus_arguments():
    """What is missing or too much is said with the known arguments."""
    with pytest.raises(ArgumentError, match=r"Thing\(\) is missing a required argument: 'size'"):
        Thing()
    with pytest.raises(ArgumentError, match="the arguments are, in this order: size, workers"):
        Thing(1, 2, 3)


def test_record_and_origins():
    """Given values are the user's, others defaults; what library code passes on is inferred."""
    assert call_of(Thing(3)).values == {
        "size": Value(3, "user"),
        "workers": Value(0, "default", neutral=True),
    }
    made = call_of(Thing.of(4))
    assert made.made.values["size"] == Value(4, "inferred", "set by Thing.of")


def test_class_method_of_a_subclass():
    """A class method is recorded on the class it was called on."""
    assert call_of(Special.of()).name == "Special.of"
    assert call_of(Special.of()).made.name == "Special"


def test_infer():
    """The callee can note what it worked out."""

    @declared()
    def grow(model, n=None):
        current_call().infer("n", 7, "because")
        return model

    assert call_of(grow(torch.nn.Linear(1, 1))).values["n"] == Value(7, "inferred", "because")


def test_slots_have_no_record():
    """A frozen dataclass with slots can be declared: it still answers for its arguments."""

    @declared()
    @dataclass(frozen=True, slots=True)
    class Setting:
        size: int = 3

    assert call_of(Setting(1)) is None
    with pytest.raises(UnknownNameError, match="write 'size'"):
        Setting(sizes=1)


def test_is_declared():
    """Classes, functions and methods say whether they are declared."""
    assert is_declared(Thing)
    assert is_declared(Thing.of)
    assert not is_declared(dict)
    assert not is_declared(len)
