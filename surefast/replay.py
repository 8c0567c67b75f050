"""Train again from a recipe: the way back from a file to a Learner."""

from __future__ import annotations

import warnings
from pathlib import Path

from surefast.errors import RecipeError, SurefastWarning
from surefast.learner import Learner
from surefast.recipe.build import build, rebuild_fit
from surefast.recipe.call import declared
from surefast.recipe.diff import diff
from surefast.recipe.recipe import read_recipe


@declared()
def train_recipe(path: str | Path, *, trust_code: bool = False, run_dir: str | Path | None = None) -> Learner:
    """Train again from a recipe file alone; where the new recipe differs, a warning says in what.

    Args:
        path: ``recipe.toml`` or a run folder.
        trust_code: run user functions the recipe names even where their source has changed.
        run_dir: where the new run's folder goes; by default where the recipe says.

    Raises:
        RecipeError: the recipe cannot be read or rebuilt.
    """
    recipe = read_recipe(path)
    learn = build(recipe, trust_code=trust_code)
    if not isinstance(learn, Learner):
        raise RecipeError(f"{path} describes {type(learn).__name__}, not a Learner", do="give a run's recipe")
    if run_dir is not None:
        learn.record.run_dir = run_dir
    for index, fit in enumerate(recipe.fits):
        if fit.frozen != learn.frozen:
            learn.freeze_to(fit.frozen)
        rebuild_fit(learn, recipe.fit_call(index), trust_code=trust_code)
    differences = diff(recipe, learn.recipe)
    if any(d.can_change_bits for d in differences):
        warnings.warn(
            f"what was trained differs from {path} in values that can change bits:\n{differences}",
            SurefastWarning,
            stacklevel=2,
        )
    return learn
