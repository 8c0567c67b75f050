"""From what a person types, a run folder, a run's id or a file, to the recipe's path."""

from __future__ import annotations

from pathlib import Path

from surefast.errors import RecipeError, nearest

RECIPE_NAME = "recipe.toml"


def find_recipe(target: Path, *, root: Path = Path("runs")) -> Path:
    """The recipe file meant by ``target``.

    Args:
        target: a recipe file, a run folder, or the id of a run under ``root``.
        root: the folder of runs, searched for an id.

    Raises:
        RecipeError: nothing of the three is there; the nearest run's id is named.
    """
    for place in (target, root / target):
        if place.is_file():
            return place
        if (place / RECIPE_NAME).is_file():
            return place / RECIPE_NAME
    if target.is_dir():
        raise RecipeError(
            f"the folder {target} holds no {RECIPE_NAME}, so it is no run folder",
            do="name a run folder or a recipe file",
            file=target / RECIPE_NAME,
        )
    known = sorted(path.parent.name for path in root.glob(f"*/{RECIPE_NAME}"))
    close = nearest(target.name, known)
    raise RecipeError(
        f"there is no recipe file, run folder or run with the name {str(target)!r}",
        do=f"did you mean {close}?" if close else "name a run folder (runs/ID) or a recipe file",
        searched=f"{target}, {root / target}",
    )
