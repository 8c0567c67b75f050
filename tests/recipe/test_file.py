"""A recipe file is read as data, and everything wrong with it is said at once, with the line."""

import sys

import pytest

from surefast.errors import RecipeError
from surefast.recipe.recipe import Recipe
from surefast.recipe.schema import wrong_type

GOOD = """\
format = 1

[setup]
call = "surefast.train.clip:GradientClip"
max_norm = 1.0

[[fit]]
call = "user_module:Learner.fit"
n_epoch = 1
"""


NESTED = '{ call = "surefast.train.clip:GradientClip", max_norm = [] }'


def problems(text):
    with pytest.raises(RecipeError) as caught:
        Recipe.from_toml(text, "r.toml")
    return str(caught.value)


def test_good_file():
    """A file written by hand needs no origins: all is the user's."""
    recipe = Recipe.from_toml(GOOD)
    assert recipe.flat()["setup.max_norm"].origin == "user"
    assert recipe.fits[0].frozen == 0


def test_all_problems_in_one_error():
    """Unknown key, wrong type, duplicated key, unknown section: one message, a line for each."""
    text = """\
format = 1
extra = 2

[setup]
call = "surefast.train.clip:GradientClip"
max_norm = "1.0"
max_nrom = 2
call = "again"

[[fit]]
call = "user_module:Learner.fit"
frozen = true
lr = { slice = [1] }

[origin]
"setup.max_norm" = "guessed"
"""
    said = problems(text)
    assert "[recipe] r.toml has 7 problems" in said
    for line in (
        "line 2:    unknown key 'extra'",
        "line 6:    setup.max_norm: '1.0' is a str; expected float",
        "line 7:    setup.max_nrom: GradientClip() has no argument 'max_nrom'; write 'max_norm'",
        'line 8:    given twice: call = "again"',
        "line 12:   fit[0].frozen: True is no number of groups; expected int",
        "line 13:   fit[0].lr: {'slice': [1]} is no slice that a recipe can hold",
        "line 16:   origin.setup.max_norm: 'guessed' is no origin",
    ):
        assert line in said
    assert "mend them in r.toml and run again" in said


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "format = 1",
            "format = 2",
            "line 1:    format 2 is unknown, this surefast reads 1; install",
        ),
        ("format = 1", "format = '1'", "format '1' is unknown, this surefast reads 1; write format = 1"),
        ("format = 1\n", "", "begin the file with: format = 1"),
        ("[setup]", "[setpu]", "line 3:    unknown key 'setpu'; write 'setup'"),
        ("[setup]", "[setpu]", "[setup] is missing or has no call"),
        ("[[fit]]", "[fit]", "expected an array of tables; write [[fit]]"),
        ("max_norm = 1.0", "max_norm = = 1", "line 5:    this is no TOML: Invalid value"),
        (
            "GradientClip",
            "GradientCilp",
            "line 4:    setup.call: surefast.train.clip has no 'GradientCilp'; write",
        ),
        ("train.clip:", "train.clap:", "there is no module surefast.train.clap"),
        ("train.clip:GradientClip", "recipe.reference:is_library", "is not something a recipe may call"),
        ("train.clip:GradientClip", "train.clip", "names nothing"),
        ("1.0", "true", "setup.max_norm: True is a truth value; expected float"),
        ("1.0", '{ path = "x" }', "expected float"),
        (
            "1.0",
            '{ call = "surefast.train.clip:GradientClip", max_norm = [] }',
            "a call stands here; expected float",
        ),
        (
            "1.0",
            '{ call = "surefast.train.clip:GradientClip", max_norm = [] }',
            "setup.max_norm.max_norm: [] is a list",
        ),
        ("1.0", "1.0\nfacts = 1", "has no argument 'facts'"),
        ("format = 1", "format = 1\nfacts = 1\norigin = 2", "expected a table [facts]"),
    ],
)
def test_problems(old, new, says):
    """Each kind of problem says what was found, what was expected and where."""
    assert says in problems(GOOD.replace(old, new))


def test_inferred_note_need_not_be_an_argument():
    """What the callee noted stands in the file and is no unknown key; without its origin it is one."""
    noted = GOOD.replace("max_norm = 1.0", "max_norm = 1.0\nn_out = 3")
    Recipe.from_toml(noted + '[origin]\n"setup.n_out" = "inferred: seen in the data"\n')
    assert "has no argument 'n_out'" in problems(noted)


def test_too_large():
    """A file over the cap is refused before it is parsed."""
    assert "a recipe may have 1,000,000" in problems(GOOD + "#" * 1_000_000)


def test_duplicate_table():
    """A section that comes twice is told by its line."""
    assert "given twice: [setup]" in problems(GOOD + "[setup]\n")


def test_reading_imports_nothing_of_others():
    """A recipe that names a module of someone else does not import it."""
    assert "xml.sax.saxutils" not in sys.modules or sys.modules.pop("xml.sax.saxutils")
    Recipe.from_toml(
        GOOD.replace("1.0", '{ function = "xml.sax.saxutils:escape" }').replace(
            "surefast.train.clip", "wsgiref.util"
        )
    )
    assert "xml.sax.saxutils" not in sys.modules
    assert "wsgiref.util" not in sys.modules


def test_types():
    """Simple annotations are judged, others let through."""
    from pathlib import Path
    from typing import Literal

    assert not wrong_type(1, float)
    assert not wrong_type(None, int | None)
    assert not wrong_type("x", Path | None)
    assert not wrong_type("x", list[int])
    assert not wrong_type("anything", int | list[int])
    assert wrong_type(1.5, int | None) == "1.5 is a float; expected int or none"
    assert (
        wrong_type("of", Literal["on", "off"] | bool)
        == "'of' is a str; expected 'on' or 'off' or true or false"
    )


def test_a_wrong_type_is_found_where_another_annotation_cannot_be_read():
    """The makers of loaders name pandas' types for type checkers only; their other arguments are judged."""
    text = (
        'format = 1\n[setup]\ncall = "surefast.learner:Learner"\n[setup.dls]\n'
        'call = "surefast.vision.loaders:ImageDataLoaders.from_df"\nbs = "x"\nvalid_pct = true\n'
    )
    with pytest.raises(RecipeError) as caught:
        Recipe.from_toml(text)
    assert "line 6:    setup.dls.bs: 'x' is a str; expected int" in str(caught.value)
    assert "line 7:    setup.dls.valid_pct: True is a truth value; expected float" in str(caught.value)
