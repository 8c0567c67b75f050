"""A recipe holds every value with its origin, has a hash that ignores origins, and survives its file."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from surefast.errors import RecipeError
from surefast.recipe.call import Call, call_of, current_call, declared
from surefast.recipe.diff import describe, diff
from surefast.recipe.recipe import Recipe, read_recipe
from surefast.recipe.value import Value


@declared()
class Splitter:
    def __init__(self, valid_pct=0.2, seed=42):
        pass


class Loaders:
    pass


@declared()
class Block:
    def __init__(self, splitter=None):
        pass

    @declared(neutral={"num_workers"})
    def loaders(self, source, bs=64, num_workers=2):
        return Loaders()


@declared()
def from_folder(path, valid_pct=0.2, bs=64):
    return Block(Splitter(valid_pct)).loaders(path, bs=bs)


@declared(neutral={"verbose"})
class Learn:
    def __init__(self, dls, model=None, lr=1e-3, tfms=(), verbose=True, password=""):
        current_call().infer("n_out", 3, "classes in the data")
        current_call().infer("data", dls, "for another name")

    @declared(skip={"self"})
    def fit(self, n_epoch, lr=None):
        return current_call()


@declared()
def short_learner(dls, lr=1e-3):
    return Learn(dls, lr=lr)


def make(**kwargs):
    learn = Learn(from_folder(Path("x"), valid_pct=0.3), **kwargs)
    recipe = Recipe(
        call_of(learn), {"n_train": Value(10, "inferred", "found")}, {"torch": Value("2", "inferred")}
    )
    recipe.add_fit(learn.fit(2), frozen=1)
    return recipe


def test_paths_and_origins():
    """Each value has a path that reads like the code, and says where it came from."""
    flat = make(lr=0.1, tfms=[Splitter(), 3]).flat()
    assert flat["setup.lr"] == Value(0.1, "user")
    assert flat["setup.dls.valid_pct"] == Value(0.3, "user")
    assert flat["setup.dls.bs"].origin == "default"
    assert flat["setup.dls.made.self.splitter.seed"] == Value(42, "default")
    assert flat["setup.tfms[0].seed"].origin == "default"
    assert flat["setup.tfms[1]"] == Value(3, "user")
    assert flat["setup.n_out"] == Value(3, "inferred", "classes in the data")
    assert flat["fit[0].n_epoch"] == Value(2, "user")
    assert flat["fit[0].frozen"].value == 1
    assert flat["facts.n_train"].value == 10


def test_what_a_short_form_hands_on_is_told_once():
    """What a short form hands on unchanged stands at the short form; underneath is what it adds."""
    flat = Recipe(call_of(short_learner(from_folder("x"))), {}, {}).flat()
    assert not any(path.startswith(("setup.made.dls", "setup.made.lr")) for path in flat)
    assert flat["setup.made.tfms"].origin == "default"
    assert flat["setup.made.data"].value == {"same": "dls"}


def test_underneath_only_what_is_new_is_told():
    """Deep inside a short form too: no handed-on value, no empty or idle default, no object twice."""
    flat = make().flat()
    inside = {path: value.value for path, value in flat.items() if path.startswith("setup.dls.made.")}
    inside = {path: value for path, value in inside.items() if not path.endswith("call_source")}
    assert list(inside) == [
        "setup.dls.made.call",
        "setup.dls.made.self.call",
        "setup.dls.made.self.splitter.call",
        "setup.dls.made.self.splitter.seed",
        "setup.dls.made.source",
    ]

    other = Block(Splitter(0.1)).loaders("x", num_workers=5)
    assert "setup.dls.num_workers" in Recipe(call_of(Learn(other)), {}, {}).flat()  # not underneath


def test_digest_does_not_depend_on_what_was_told_before():
    """The digest of an object is of all it holds, wherever in the recipe it stands."""

    class Holder:
        def __init__(self, inner):
            self.inner = inner

    splitter = Splitter()
    alone = Recipe(call_of(Learn(Holder(splitter))), {}, {}).flat()["setup.dls"]
    beside = Recipe(call_of(Learn(Holder(splitter), model=splitter)), {}, {}).flat()["setup.dls"]
    assert alone == beside


def test_hash_ignores_origin_and_neutral_values():
    """Writing a default down, or more workers, leaves the hash; another value does not."""
    assert make().hash == make(lr=1e-3).hash == make(verbose=False).hash
    assert len({make().hash, make(lr=2e-3).hash, make(tfms=[1]).hash}) == 3


def test_hash_is_the_same_in_another_process():
    """The hash depends on no order of sets, no address and no seed of Python's own hashing."""
    code = (
        "from surefast.recipe.recipe import Recipe; from surefast.recipe.call import Call;"
        "from surefast.recipe.value import Value;"
        "values = {'s': Value({'b', 'a', 'c'}, 'user'), 'o': Value(object, 'user')};"
        "print(Recipe(Call('m:f', values), {}, {}).hash)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "1"}, capture_output=True, text=True
    )
    values = {"s": Value({"c", "a", "b"}, "user"), "o": Value(object, "user")}
    assert done.stdout == f"{Recipe(Call('m:f', values), {}, {}).hash}\n", done.stderr


def test_file_round_trip():
    """What is read back is equal in every value, origin, reason, text and hash."""
    recipe = make(tfms=[Splitter(), (Splitter(0.1), {"a": None, "b c": Splitter()}), slice(1, 2)], lr=0.1)
    text = recipe.to_toml()
    again = Recipe.from_toml(text)
    assert again.flat() == recipe.flat()
    assert again.to_toml() == text
    assert again.hash == recipe.hash
    assert not diff(recipe, again)


def test_secrets_are_not_written():
    """A password is neither in the file nor in the hash, so that both agree."""
    recipe = make(password="hunter2")
    assert "hunter2" not in recipe.to_toml()
    assert recipe.hash == Recipe.from_toml(recipe.to_toml()).hash == make(password="other").hash


def test_frozen_recipe_does_not_change():
    """After the first step neither a list that grows nor a model that trains changes the recipe."""
    tfms, model = [1], torch.nn.Linear(1, 1)
    recipe = make(tfms=tfms, model=model)
    before = recipe.hash
    recipe.freeze()
    tfms.append(2)
    with torch.no_grad():
        model.weight += 1
    assert recipe.hash == before


def test_initial_weights_count_without_freeze():
    """A model instance is told by the weights it had when the recipe was made."""
    model = torch.nn.Linear(1, 1)
    recipe = make(model=model)
    before = recipe.hash
    with torch.no_grad():
        model.weight += 1
    assert recipe.hash == before != make(model=model).hash


def test_part_hash():
    """The setup has a hash of its own, which a further fit leaves alone."""
    recipe = make()
    setup, whole = recipe.part_hash("setup"), recipe.hash
    recipe.add_fit(recipe.fits[0].call, frozen=0)
    assert recipe.part_hash("setup") == setup
    assert recipe.hash != whole
    assert recipe.part_hash("fit[0]") != recipe.part_hash("fit[1]")


def test_show(capsys):
    """What the user chose comes first, then what nobody chose, then what was worked out and why."""
    make(tfms=["[red]"]).show()
    out = " ".join(capsys.readouterr().out.split())
    first = "setup = Learn (source "
    assert out.startswith(first)
    assert "user tfms=['[red]'] default lr=0.001, verbose*=True, password=''; None: model inferred" in out
    assert "n_out=3 (classes in the data)" in out
    assert "setup.dls.made.self = Block" in out
    assert "splitter=Splitter(default: seed=42) (set by from_folder)" in out
    assert out.endswith("(* cannot change the result)")


def test_show_says_a_call_on_a_line_and_a_list_of_calls_on_several(capsys):
    """With the defaults behind what was given; what was told before is named by its place."""
    splitter = Splitter(0.5)
    Recipe(call_of(Learn(3, tfms=[splitter, Splitter(seed=1)], model=Splitter(0.1))), {}, {}).show()
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert "            model=Splitter(valid_pct=0.1; default: seed=42)" in lines
    at = lines.index("            tfms:")
    assert lines[at + 1].strip() == "Splitter(valid_pct=0.5; default: seed=42)"
    assert lines[at + 2].strip() == "Splitter(seed=1; default: valid_pct=0.2)"


def test_show_tells_the_same_findings_of_two_fits_once(capsys):
    """Groups of an optimizer are a line each; a second fit with the same ones refers to the first."""
    recipe = make()
    for number in range(2):
        call = Learn(3).fit(1)
        call.infer("optimizer", "Adam", "what opt_func comes to")
        call.infer("groups", [{"params": 8, "lr": 0.1}], "what opt_func comes to")
        recipe.add_fit(call, frozen=number)
    recipe.show()
    out = " ".join(capsys.readouterr().out.split())
    assert out.count("groups[0]: params 8, lr 0.1") == 1
    assert "as in fit[1]: optimizer, groups (what opt_func comes to)" in out


def test_show_shortens_paths(capsys, tmp_path, monkeypatch):
    """A path under the working folder is shown from there; the file keeps it whole."""
    monkeypatch.chdir(tmp_path)
    recipe = Recipe(call_of(from_folder(tmp_path / "images")), {}, {})
    recipe.show()
    assert "path='images'" in capsys.readouterr().out
    assert (tmp_path / "images").as_posix() in recipe.to_toml()


def test_html_is_escaped():
    """Nothing of a value becomes markup in a notebook."""
    page = make(tfms=["<script>"])._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_defaults():
    """The values nobody chose are those that can be asked for."""
    assert "setup.lr" in make().defaults()
    assert "setup.lr" not in make(lr=1).defaults()


def test_diff_says_what_can_change_bits():
    """Differences name path and both values; a neutral one is told apart; origin is no difference."""
    found = diff(make(), make(lr=0.5, verbose=False, tfms=[1]))
    assert {(d.path, d.can_change_bits) for d in found} == {
        ("setup.lr", True),
        ("setup.tfms", True),
        ("setup.verbose", False),
    }
    text = str(found)
    assert "2 differences that can change the result:" in text
    assert "setup.lr: 0.001 (default) -> 0.5 (user)" in text
    assert "1 difference that cannot change the result:" in text
    assert describe([]) == "the recipes are the same in every value"


def test_diff_tells_choices_before_what_follows_from_them():
    """A list that holds other calls underneath is one line; tables of one shape differ by entry."""

    def recipe(lr, calls):
        call = Call("m:f", {"lr": Value(lr, "user")})
        call.infer("groups", [{"params": 8, "lr": lr}, {"params": 2, "lr": 0}], "found")
        tfms = [Call(f"m:{name}", {"p": Value(0.5, "default")}) for name in calls]
        call.made = Call("m:g", {"tfms": Value(tfms, "inferred", "set by f")})
        return Recipe(call, {}, {})

    assert str(diff(recipe(1, "ABC"), recipe(2, "ACD"))).splitlines() == [
        "4 differences that can change the result:",
        "  setup.lr: 1 (user) -> 2 (user)",
        "  and what was worked out:",
        "  setup.groups[0].lr: 1 -> 2",
        "  setup.made.tfms, from [1] on: B, C -> C, D",
    ]


def test_diff_of_absent_values():
    """A value only one recipe has is a difference."""
    left, right = make(), make()
    right.add_fit(right.fits[0].call, frozen=0)
    assert {d.path: d.a for d in diff(left, right)}["fit[1].n_epoch"] is None
    assert "absent -> 2 (user)" in str(diff(left, right))


def test_read_recipe(tmp_path):
    """A run folder or a file is read; a missing, large or binary one is refused with its name."""
    recipe = make()
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    assert read_recipe(tmp_path).hash == recipe.hash
    with pytest.raises(RecipeError, match=r"cannot read .*none.toml: No such file"):
        read_recipe(tmp_path / "none.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="is no UTF-8 text"):
        read_recipe(tmp_path / "b.toml")
    (tmp_path / "l.toml").write_text("#" * 1_000_001)
    with pytest.raises(RecipeError, match="has 1,000,001 bytes; a recipe may have 1,000,000"):
        read_recipe(tmp_path / "l.toml")
