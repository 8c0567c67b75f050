"""defaults="explicit": nothing trains with a value that nobody chose, and the way out is one file."""

import pytest

from surefast.errors import ExplicitError
from surefast.recipe.call import call_of, current_call, declared
from surefast.recipe.explicit import require_explicit
from surefast.recipe.recipe import Recipe
from surefast.recipe.value import Value


@declared()
class Learn:
    def __init__(self, dls=None, lr=1e-3, moms=(0.9, 0.99)):
        pass

    @declared(skip={"self"})
    def fit(self, n_epoch, wd=0.01):
        return current_call()


def make(**kwargs):
    return Recipe(call_of(Learn(**kwargs)), {"n": Value(3, "default")}, {"torch": Value("2", "default")})


def test_shown_asks_nothing(tmp_path):
    """The usual mode trains with defaults and writes no file."""
    require_explicit(make(), "shown", folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_refusal_writes_the_file_and_prints_the_block(tmp_path):
    """Every value nobody chose stands in the file and in the message; facts are not asked."""
    with pytest.raises(ExplicitError) as caught:
        require_explicit(make(), "explicit", folder=tmp_path)
    text = (tmp_path / "defaults.toml").read_text()
    assert "3 values were chosen by nobody" in str(caught.value)
    assert text in str(caught.value) + "\n"
    assert '"setup.lr" = 0.001' in text
    assert '"setup.moms" = { tuple = [0.9, 0.99] }' in text
    assert "facts" not in text
    assert "torch" not in text


def test_the_written_file_is_accepted(tmp_path):
    """Passing the file makes its values the user's; the recipe keeps its hash."""
    recipe = make()
    before = recipe.hash
    with pytest.raises(ExplicitError):
        require_explicit(recipe, "explicit", folder=tmp_path)
    require_explicit(recipe, tmp_path / "defaults.toml")
    assert not [path for path in recipe.defaults() if path.startswith("setup")]
    assert recipe.flat()["setup.lr"] == Value(0.001, "user", "accepted in defaults.toml")
    assert recipe.hash == before
    assert Recipe.from_toml(recipe.to_toml()).flat() == recipe.flat()


def test_everything_chosen_passes(tmp_path):
    """With every value given there is nothing to ask."""
    require_explicit(make(dls=1, lr=1, moms=1), "explicit", folder=tmp_path)


def test_an_existing_file_is_kept(tmp_path):
    """A file that is there may hold choices; it is not overwritten."""
    (tmp_path / "defaults.toml").write_text("mine")
    with pytest.raises(ExplicitError, match=r"defaults\.new\.toml"):
        require_explicit(make(), "explicit", folder=tmp_path)
    assert (tmp_path / "defaults.toml").read_text() == "mine"


def test_missing_unknown_and_different_values(tmp_path):
    """All that the file does not settle is listed with its line in one error."""
    file = tmp_path / "d.toml"
    file.write_text('"setup.lrr" = 1\n"setup.lr" = 0.5\n"setup.dls" = { none = true }\n"fit[0].wd" = 3\n')
    with pytest.raises(ExplicitError) as caught:
        require_explicit(make(), file)
    said = str(caught.value)
    assert "does not settle 3 values" in said
    assert "line 1: setup.lrr is no value of this recipe; write 'setup.lr'" in said
    assert "line 2: setup.lr is 0.5 here and 0.001 in the code" in said
    assert "line 5: setup.moms = { tuple = [0.9, 0.99] } is missing" in said
    assert 'append:\n"setup.moms" = { tuple = [0.9, 0.99] }' in said


def test_values_of_a_fit(tmp_path):
    """A fit is asked for its own values when it begins."""
    file = tmp_path / "d.toml"
    recipe = make(dls=1, lr=1, moms=1)
    recipe.add_fit(Learn().fit(1), frozen=0)
    with pytest.raises(ExplicitError, match=r'1 value was chosen by nobody(.|\n)*"fit\[0\].wd" = 0.01'):
        require_explicit(recipe, "explicit", folder=tmp_path)
    file.write_text('"fit[0].wd" = 0.01\n')
    require_explicit(recipe, file)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot read"),
        (b"\xff", "is no UTF-8 text"),
        (b"a = = 1", "is no TOML"),
        (b"#" * 1_000_001, "has more than"),
    ],
)
def test_unreadable_file(tmp_path, content, says):
    """A file that is missing or no TOML is named."""
    file = tmp_path / "d.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ExplicitError, match=says):
        require_explicit(make(), file)


def test_unwritable_folder(tmp_path):
    """Where the file cannot be written the block is still in the message."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ExplicitError, match=r"cannot be written(.|\n)*setup.lr"):
        require_explicit(make(), "explicit", folder=tmp_path / "file")


def test_a_value_settled_for_one_fit_holds_for_the_next_of_its_kind(tmp_path):
    """As fine_tune is two fits, and the second must not be refused when the first has trained."""
    file = tmp_path / "defaults.toml"
    file.write_text('"setup.dls" = { none = true }\n"setup.lr" = 0.001\n"fit[0].wd" = 0.01\n')
    learn = Learn(moms=1)
    recipe = Recipe(call_of(learn), {}, {})
    for wd in ({}, {}, {"wd": 0.02}):
        recipe.add_fit(learn.fit(1, **wd), frozen=0)
        require_explicit(recipe, file)
    assert recipe.flat()["fit[1].wd"].origin == "user"

    file.write_text('"setup.dls" = { none = true }\n"setup.lr" = 0.001\n"fit[0].wd" = 0.02\n')
    other = Recipe(call_of(learn), {}, {})
    other.add_fit(learn.fit(1, wd=0.02), frozen=0)
    other.add_fit(learn.fit(1), frozen=0)
    with pytest.raises(ExplicitError, match=r"fit\[1\].wd = 0.01 is missing"):
        require_explicit(other, file)
