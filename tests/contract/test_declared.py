"""Everything declared answers a wrong argument with the nearest right one, and tells how it was called."""

from __future__ import annotations

import inspect

import pytest

from surefast.callbacks.contract import Callback
from surefast.data.transform import BatchTransform, ItemTransform
from surefast.errors import UnknownNameError
from surefast.recipe.call import is_declared
from surefast.task.loss import Loss
from surefast.task.metric import Metric
from surefast.train.policy import Policy
from tests.contract.families import modules, own, public


def declared_things():
    """All declared classes, functions and methods of the package."""
    for module in modules():
        for name, thing in own(module):
            if is_declared(thing) or (inspect.isclass(thing) and is_declared(thing.__init__)):
                yield f"{module.__name__}.{name}", thing
            if inspect.isclass(thing):
                for part, member in vars(thing).items():
                    function = getattr(member, "__func__", member)
                    if not part.startswith("_") and callable(function) and is_declared(function):
                        yield f"{module.__name__}.{name}.{part}", function


THINGS = dict(declared_things())


def test_there_is_something_declared():
    """The search finds the makers a user meets first."""
    for name in (
        "Learner",
        "DataBlock",
        "RandomSplitter",
        "vision_learner",
        "Learner.fit_one_cycle",
        "Resize",
    ):
        assert any(found.endswith("." + name) for found in THINGS), name


@pytest.mark.parametrize("name", sorted(THINGS))
def test_an_unknown_argument_is_refused(name):
    """The error names the callable and the argument."""
    with pytest.raises(UnknownNameError, match="no argument 'zzz_unknown'"):
        THINGS[name](zzz_unknown=1)


WRAPPERS = {"FunctionMetric", "TorchMetric", "UserLoss"}
"""What stands around a user's own object: the recipe names that object instead."""

BASES = {"Observer", "Actor"}
"""What users subclass: their classes are declared when they are defined."""


@pytest.mark.parametrize("family", [ItemTransform, BatchTransform, Policy, Callback, Loss, Metric])
def test_every_member_of_a_family_is_declared(family):
    """So its settings are in the recipe."""
    members = public(family)
    assert members
    missing = [cls.__qualname__ for cls in members if not is_declared(cls) and not is_declared(cls.__init__)]
    assert set(missing) <= WRAPPERS | BASES
