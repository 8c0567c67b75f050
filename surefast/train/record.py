"""What is written down of a run over its fits: the recipe, the folder, and how far each fit came.

This file must not know how a fit is put together.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import final

from torch import nn

from surefast.errors import SurefastWarning
from surefast.recipe.call import Call
from surefast.recipe.digest import digest
from surefast.recipe.explicit import require_explicit
from surefast.recipe.recipe import Recipe
from surefast.recipe.value import Value
from surefast.run.folder import RunFolder
from surefast.train.state import TrainState
from surefast.train.weights import save_state


@final
class RunRecord:
    """The record of one run.

    Args:
        run_dir: folder in which runs are kept; None for ``runs``.
        defaults: ``"shown"``, ``"explicit"`` or a ``defaults.toml``, as the Learner takes it.
    """

    def __init__(self, run_dir: str | Path | None, defaults: str | Path) -> None:
        self.run_dir = run_dir
        self.defaults = defaults
        self.folder: RunFolder | None = None
        self.recipe: Recipe | None = None
        """The recipe, from the first fit on; fixed then, but for further fits."""

        self.epochs = 0
        """Epochs of the fits so far; one that was broken off counts, so that its order is not drawn again."""

        self.steps = 0
        """Steps of the fits so far."""

    def open(self, recipe: Recipe, call: Call, *, frozen: int, initial: nn.Module | None) -> RunFolder:
        """Note a fit that is about to begin; before the first, make the folder.

        Args:
            recipe: the recipe of the run.
            call: the call of the fit.
            frozen: how many parameter groups are frozen.
            initial: a model whose first weights cannot be made again, to be kept in the folder.

        Raises:
            ExplicitError: there are values that nobody chose.
            RunFolderError: the folder cannot be made; nothing was trained.
        """
        recipe.add_fit(call, frozen=frozen)
        try:
            require_explicit(recipe, self.defaults)
            if self.folder is None:
                self.folder = RunFolder.create(None if self.run_dir is None else Path(self.run_dir))
        except BaseException:
            recipe.fits.pop()  # it did not happen
            raise
        if initial is not None and self.recipe is None:
            save_state(initial, self.folder.path / "initial.safetensors")
        recipe.freeze()
        self.recipe = recipe
        self.folder.write_text("recipe.toml", recipe.to_toml())
        return self.folder

    def report(self, kind: str, fields: dict[str, object]) -> None:
        """Add a line to the event log, once there is one."""
        if self.folder is not None:
            self.folder.events.append(kind, **fields)

    def close(self, run: TrainState, model: nn.Module, findings: Iterable[str]) -> None:
        """Keep what a fit reached, also one that was broken off, and say how it ended.

        Args:
            run: the state as the fit left it.
            model: the model that is kept: the average of the weights where there is one.
            findings: what callbacks did wrong, in sentences; each becomes a warning.
        """
        assert self.folder is not None
        assert self.recipe is not None
        done, self.steps = run.step - self.steps, run.step
        self.epochs += run.epoch + (run.batch > 0)
        end = "stopped" if run.stop is not None else "finished" if run.epoch >= run.n_epoch else "broken off"
        self.recipe.facts[f"fit{len(self.recipe.fits) - 1}_steps"] = Value(done, "inferred", end)
        self.folder.write_text("recipe.toml", self.recipe.to_toml())
        save_state(model, self.folder.model_path)
        self.report(
            "fit_end", {"step": self.steps, "steps": done, "end": end, "weights": digest(model, repr)}
        )
        self.folder.events.sync()
        for finding in findings:
            warnings.warn(finding, SurefastWarning, stacklevel=6)
