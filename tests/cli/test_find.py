"""A person names a recipe file, a run folder or a run's id, and the recipe is found."""

from pathlib import Path

import pytest

from surefast.cli.find import find_recipe
from surefast.errors import RecipeError


def make_run(name: str) -> Path:
    folder = Path("runs") / name
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text("format = 1\n")
    return folder / "recipe.toml"


def test_a_file_a_folder_and_an_id_are_the_same_recipe() -> None:
    """Whatever is easiest to type."""
    recipe = make_run("20261124-101500-123-abcdef")
    for target in (recipe, recipe.parent, Path(recipe.parent.name)):
        assert find_recipe(target) == recipe


def test_a_wrong_id_is_answered_with_the_nearest_run() -> None:
    """Ids are long, and typed by hand."""
    make_run("20261124-101500-123-abcdef")
    with pytest.raises(RecipeError, match="did you mean 20261124-101500-123-abcdef"):
        find_recipe(Path("20261124-101500-123-abcdeg"))


def test_nothing_there_says_what_to_name() -> None:
    """The message lists where was looked."""
    with pytest.raises(RecipeError, match="no recipe file, run folder or run with the name 'nope'") as caught:
        find_recipe(Path("nope"))
    assert "name a run folder" in str(caught.value)
    assert f"nope, {Path('runs') / 'nope'}" in str(caught.value)


def test_a_folder_without_a_recipe_is_no_run() -> None:
    """A folder of pictures is not taken for a run."""
    Path("pictures").mkdir()
    with pytest.raises(RecipeError, match=r"the folder pictures holds no recipe\.toml"):
        find_recipe(Path("pictures"))
