"""A recipe is built again from its file, and runs only code that is known or trusted."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from surefast.errors import RecipeError
from surefast.recipe.build import build, rebuild_fit
from surefast.recipe.call import Call, call_of, declared
from surefast.recipe.decode import decode
from surefast.recipe.diff import diff
from surefast.recipe.encode import encode
from surefast.recipe.recipe import Recipe
from surefast.recipe.reference import disk_source, live_source, source_hash
from surefast.recipe.trust import find_callable, find_reference
from surefast.recipe.value import Value
from surefast.train.clip import GradientClip


@declared()
class Thing:
    def __init__(self, size, *more, parts=None, model=None, **extra):
        self.size, self.more, self.parts, self.extra, self.model = size, more, parts, extra, model

    @declared(skip={"self"})
    def fit(self, n_epoch, lr=0.1):
        self.fitted = n_epoch, lr
        return

    @declared()
    def wrapped(self, name="x"):
        return Wrapped(self, name)


class Wrapped:
    def __init__(self, inner, name):
        self.inner, self.name = inner, name


@declared()
def short_form(size=3):
    return Thing(size, parts=[1])


def recipe_of(made):
    return Recipe.from_toml(Recipe(call_of(made), {}, {}).to_toml())


def build_value(value, **kwargs):
    call = Call("surefast.train.clip:GradientClip", {"max_norm": Value(value, "user")})
    return build(Recipe(call, {}, {}), **kwargs)


@pytest.fixture
def local_module(tmp_path, monkeypatch):
    """A module of the user, as a file that can be changed."""
    path = tmp_path / "mine_for_build.py"
    path.write_text("print('ran')\n\ndef label(x):\n    return x + 1\n\n\nclass Net:\n    size = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    sys.modules.pop("mine_for_build", None)
    importlib.invalidate_caches()


def test_own_code_is_built_without_trust():
    """What surefast declares is called again; the result has the same recipe, origins too."""
    clip = GradientClip()
    again = build(recipe_of(clip))
    assert isinstance(again, GradientClip)
    assert call_of(again).values == call_of(clip).values


def test_users_code_needs_trust():
    """A declared class of the user is called only when trusted; the error says what and how."""
    with pytest.raises(
        RecipeError, match=r"setup: .*:Thing \(source \w{8}\) would be called[^$]*--trust-code"
    ):
        build(recipe_of(Thing(1)))


def test_round_trip_of_arguments():
    """Positional, variable and keyword arguments, nested objects and values arrive as they were."""
    thing = Thing(
        1, 2, (3,), parts=[Thing(0), {"a": slice(1, 2)}, Path("x")], model=torch.float16, odd=torch.ones(2)
    )
    again = build(recipe_of(thing), trust_code=True)
    assert again.more == (2, (3,))
    assert again.parts[0].size == 0
    assert again.parts[1:] == [{"a": slice(1, 2)}, Path("x")]
    assert again.model is torch.float16
    assert again.extra["odd"].tolist() == [1.0, 1.0]
    assert not diff(Recipe(call_of(thing), {}, {}), Recipe(call_of(again), {}, {}))


def test_methods_are_called_on_their_object():
    """What a method made is made again on an object made again."""
    again = build(recipe_of(Thing(5).wrapped("y")), trust_code=True)
    assert (again.inner.size, again.name) == (5, "y")


def test_short_form_is_called_once():
    """What is underneath a short form comes from calling the short form, and can be compared."""
    made = short_form()
    again = build(recipe_of(made), trust_code=True)
    assert not diff(Recipe(call_of(made), {}, {}), Recipe(call_of(again), {}, {}))
    assert call_of(again).values["size"].origin == "default"


def test_rebuild_fit():
    """A fit is called again with its values; only fits can be."""
    thing = Thing(1)
    rebuild_fit(thing, Call("m:Thing.fit", {"n_epoch": Value(2, "user"), "lr": Value(0.5, "default")}))
    assert thing.fitted == (2, 0.5)
    for name in ("wrapped", "fit_gone", "__init__"):
        with pytest.raises(RecipeError, match=rf"Thing has no {name}\(\) that fits"):
            rebuild_fit(thing, Call(f"m:Thing.{name}", {}))


def test_opaque_and_secret_values_are_said_at_once():
    """All that stands in the way is in one error, with paths."""
    thing = Thing(torch.nn.Linear(300, 1), parts=[lambda x: x], password="hunter2")
    with pytest.raises(RecipeError) as caught:
        build(recipe_of(thing), trust_code=True)
    said = str(caught.value)
    assert "the recipe has 3 parts that cannot be built" in said
    assert "setup.size: a Linear is known by its digest" in said
    assert "setup.parts[0]:" in said
    assert "is a function that only its own script knows" in said
    assert "setup.extra.password: a secret was left out" in said


def test_unchanged_local_function(local_module, capsys):
    """A function of a local file is imported when its source is what the recipe says."""
    source = source_hash(disk_source("mine_for_build:label"))
    assert "mine_for_build" not in sys.modules
    plain = {"function": "mine_for_build:label", "source": source}
    assert find_reference(decode(plain), trust_code=False)(1) == 2
    assert encode(sys.modules["mine_for_build"].label) == plain
    assert encode(sys.modules["mine_for_build"].Net)["source"] == source_hash(
        disk_source("mine_for_build:Net")
    )
    capsys.readouterr()


def test_changed_local_function_is_not_imported(local_module, capsys):
    """A changed function is named with both hashes, and its module does not run."""
    old = source_hash(disk_source("mine_for_build:label"))
    local_module.write_text(local_module.read_text().replace("x + 1", "x + 2"))
    reference = decode({"function": "mine_for_build:label", "source": old})
    with pytest.raises(RecipeError, match=rf"label has changed: .* has \w{{8}}, the recipe {old}"):
        build_value(reference)
    assert not capsys.readouterr().out
    assert find_reference(reference, trust_code=True)(1) == 3
    assert capsys.readouterr().out == "ran\n"


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("os:system", "would run: Python's own library"),
        ("subprocess:getoutput", "would run: Python's own library"),
        ("torch:load", "would run: installed code outside surefast"),
        ("builtins:eval", "would run: Python's own library"),
        ("torch.nn:Module.load_state_dict", "would run: installed code"),
        ("torch.nn.functional:torch", "would run: installed code"),
        ("torch.optim._functional:adam", "would run: installed code|there is no module"),
        ("torchvision.models.resnet:partial", "would run: installed code"),
        ("no_such_module_here:f", "there is no module no_such_module_here"),
        ("surefast.recipe.trust:_import", "there is no surefast.recipe.trust:_import"),
        ("surefast.run.atomic:sync_folder", "has no place in a setup"),
        ("surefast.train.weights:save_state", "has no place in a setup"),
        ("surefast.recipe.trust:importlib", "has no place in a setup"),
        ("surefast.vision.image:Path", "surefast.vision.image has no 'Path'"),
    ],
)
def test_foreign_references_need_trust(target, says):
    """No function of another library is reached by its name alone, also with the right hash."""
    source = source_hash(disk_source(target) or "")
    reference = decode({"function": target} | ({"source": source} if source else {}))
    with pytest.raises(RecipeError, match=says):
        build_value(reference)


@pytest.mark.parametrize(
    "target",
    [
        "torch.nn:Linear",
        "torch.optim:SGD",
        "torchvision.models.resnet:resnet18",
        "torch.nn.functional:relu",
        "builtins:str",
    ],
)
def test_known_library_names(target):
    """Layers, optimizers, models and plain built-ins are used without trust."""
    assert callable(find_reference(decode({"function": target}), trust_code=False))


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("os:system", "os:system would be called, which is code from outside surefast"),
        ("torch:load", "torch:load would be called"),
        ("surefast.recipe.trust:_import", "surefast.recipe.trust has no '_import'"),
        ("surefast.recipe.encode:encode", "is not something a recipe may call"),
        ("surefast.train.weights:save_state", "has no place in a setup"),
    ],
)
def test_foreign_calls_need_trust(target, says):
    """Only what is declared or known to be harmless is called."""
    with pytest.raises(RecipeError, match=says):
        find_callable(target, "", trust_code=False)


def test_source_hash_ignores_blank_space_only():
    """Empty lines and trailing spaces do not count; inner indentation does, for it changes meaning."""
    plain = "def f(x):\n    if x:\n        y()\n    z()\n"
    assert source_hash(plain) == source_hash(plain.replace("\n", "  \n\n"))
    assert source_hash(plain) == source_hash("    " + plain.replace("\n", "\n    "))
    assert source_hash(plain) != source_hash(plain.replace("    z()", "        z()"))


def test_live_source_is_disk_source():
    """The hash of a live function is that of its source on disk, decorators included."""
    for thing in (recipe_of, local_module, Thing, Thing.wrapped):
        live = live_source(thing)
        name = getattr(thing, "__qualname__", "local_module")
        assert live, name
        assert source_hash(live) == source_hash(disk_source(f"{__name__}:{name}") or ""), name
