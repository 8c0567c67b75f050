"""``defaults="explicit"``: nothing trains with a value that nobody chose.

Refusing writes ``defaults.toml``: every value nobody chose, by its path. Passing that file accepts them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from surefast.errors import ExplicitError, nearest
from surefast.recipe.encode import canonical
from surefast.recipe.file import MAX_BYTES
from surefast.recipe.layout import literal
from surefast.recipe.lines import line_of
from surefast.recipe.recipe import Recipe
from surefast.recipe.value import Value

_FIT = re.compile(r"^fit\[(\d+)\]")
_HEADER: Final = "# Values that nobody chose. Read them, keep them, and pass this file: defaults="


def require_explicit(recipe: Recipe, defaults: str | Path = "shown", *, folder: Path | None = None) -> None:
    """Refuse a recipe with values nobody chose, unless a file accepts each of them.

    Args:
        recipe: what is about to be trained; accepted values count as the user's from here on.
        defaults: ``shown`` asks nothing, ``explicit`` refuses, a path names the file that accepts.
        folder: where ``defaults.toml`` is written; the working folder where None.

    Raises:
        ExplicitError: names the file and shows the block, or lists what the file lacks or says otherwise.
    """
    if defaults == "shown":
        return
    asked = {path: value for path, value in recipe.defaults().items() if _is_choice(path)}
    if defaults != "explicit":
        _accept(recipe, asked, Path(defaults))
    elif asked:
        raise _refusal(asked, (folder or Path.cwd()) / "defaults.toml")


def _is_choice(path: str) -> bool:
    return not path.startswith(("facts.", "environment."))


def defaults_text(values: Mapping[str, Value], file: str) -> str:
    """The text of a defaults file: a line for each value."""
    lines = [f"{literal(path)} = {literal(value.value)}" for path, value in values.items()]
    return "\n".join([f"{_HEADER}{literal(file)}", *lines]) + "\n"


def _refusal(asked: Mapping[str, Value], file: Path) -> ExplicitError:
    if file.exists():  # it may hold choices of the user, for other values
        file = file.with_name("defaults.new.toml")
    text = defaults_text(asked, file.name)
    try:
        file.write_text(text, "utf-8")
        where = f"read {file}, and pass defaults={str(file)!r} to accept what it says"
    except OSError as error:
        where = f"write this into a file and pass defaults=FILE ({file} cannot be written: {error.strerror})"
    count = len(asked)
    noun = "value was" if count == 1 else "values were"
    return ExplicitError(f"{count} {noun} chosen by nobody", do=f"{where}; or choose them:\n{text}")


def _accept(recipe: Recipe, asked: Mapping[str, Value], file: Path) -> None:
    text, given = _read(file)
    flat = {path: value for path, value in recipe.flat().items() if _is_choice(path)}
    problems: list[str] = []
    for path, value in given.items():
        line = f"line {line_of(text, (path,))}: {path}"
        if path in flat:
            if canonical(value) != canonical(flat[path].value):
                runs = literal(flat[path].value)
                problems.append(
                    f"{line} is {literal(value)} here and {runs} in the code; change one of the two"
                )
        elif not _is_later(path, recipe):
            close = nearest(path, flat)
            problems.append(f"{line} is no value of this recipe" + (f"; write {close!r}" if close else ""))
    missing = {
        path: value
        for path, value in asked.items()
        if path not in given and not _is_settled(path, value, given, recipe)
    }
    end = len(text.splitlines()) + 1
    problems += [f"line {end}: {path} = {literal(value.value)} is missing" for path, value in missing.items()]
    if problems:
        do = f"mend {file}"
        if missing:
            lines = defaults_text(missing, file.name).partition("\n")[2]
            do += f"; to accept what is missing, append:\n{lines}"
        count = f"{len(problems)} value{'s' if len(problems) > 1 else ''}"
        details = "".join(f"\n  {problem}" for problem in problems)
        raise ExplicitError(f"{file} does not settle {count}:{details}", do=do)
    recipe.accept(asked, f"accepted in {file.name}")


def _is_settled(path: str, value: Value, given: Mapping[str, Any], recipe: Recipe) -> bool:
    """Whether the file settles this value for an earlier fit by the same call: ``fine_tune`` is two fits."""
    match = _FIT.match(path)
    if match is None:
        return False
    index, rest = int(match[1]), path[match.end() :]
    target = recipe.fit_call(index).target
    return any(
        recipe.fit_call(earlier).target == target
        and f"fit[{earlier}]{rest}" in given
        and canonical(given[f"fit[{earlier}]{rest}"]) == canonical(value.value)
        for earlier in range(index)
    )


def _is_later(path: str, recipe: Recipe) -> bool:
    """Whether a path belongs to a fit that has not been started yet."""
    match = _FIT.match(path)
    return match is not None and int(match[1]) >= len(recipe.fits)


def _read(file: Path) -> tuple[str, dict[str, Any]]:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ExplicitError(f"{file} has more than {MAX_BYTES:,} bytes", do="give the defaults file")
        text = file.read_text("utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        do = 'pass defaults="explicit" once to have it written'
        raise ExplicitError(f"cannot read {file}: {error.strerror}", do=do) from None
    except UnicodeDecodeError:
        raise ExplicitError(f"{file} is no UTF-8 text", do="save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ExplicitError(f"{file} is no TOML: {error}", do="mend that line") from None
