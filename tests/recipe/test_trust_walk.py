"""A recipe that somebody sent cannot act: every public function of the package is tried."""

from __future__ import annotations

import inspect
import pickle

import pytest

from surefast.errors import RecipeError
from surefast.recipe.build import build
from surefast.recipe.recipe import Recipe
from surefast.recipe.reference import Reference
from surefast.recipe.trust import find_callable, find_member, find_reference
from tests.contract.families import modules, own

ACTING = ("surefast.cli", "surefast.recipe", "surefast.replay", "surefast.run", "surefast.keys")
ACTING += ("surefast.data.fetch", "surefast.data.wire", "surefast.data.worker", "surefast.train.weights")


def targets(*, acting: bool) -> list[str]:
    """The public functions of the acting modules, or of all others."""
    return sorted(
        f"{module.__name__}:{name}"
        for module in modules()
        for name, thing in own(module)
        if inspect.isroutine(thing) and module.__name__.startswith(ACTING) is acting
    )


@pytest.mark.parametrize(
    "target", [*targets(acting=True), "surefast.cli.main:run", "surefast.data.worker:main"]
)
def test_what_acts_is_refused(target):
    """As a call and as a reference, also with trust_code, which is about the user's own code."""
    with pytest.raises(RecipeError):
        find_callable(target, "", trust_code=True)
    with pytest.raises(RecipeError):
        find_reference(Reference("function", target, "", ""), trust_code=True)


def test_what_is_described_is_found():
    """The twin: metrics, labellers, splitters and makers go through."""
    for target in ("surefast.task.metric:accuracy", "surefast.data.label:parent_label"):
        assert callable(find_reference(Reference("function", target, "", ""), trust_code=False))
    for target in ("surefast.data.split:RandomSplitter", "surefast.vision.learners:vision_learner"):
        assert callable(find_callable(target, "", trust_code=False))


def test_a_name_that_only_begins_like_the_package_is_foreign(tmp_path, monkeypatch):
    """A module beside the package is not imported for an enumeration."""
    (tmp_path / "surefast_evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RecipeError):
        find_member("surefast_evil:E", "A")


class Boom:
    """Leaves a file when it is unpickled."""

    def __reduce__(self):
        return open, ("boom", "w")


def test_a_recipe_cannot_unpickle(tmp_path):
    """The pipe's own decoder is out of reach, and nothing was run."""
    payload = list(pickle.dumps(Boom()))
    text = (
        'format = 1\n[setup]\ncall = "surefast.learner:Learner"\n'
        f'model = {{ partial = {{ function = "surefast.data.wire:decode" }}, args = [{payload}] }}\n'
    )
    with pytest.raises(RecipeError):
        build(Recipe.from_toml(text))
    assert not (tmp_path / "boom").exists()
