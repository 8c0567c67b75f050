"""``recipe.toml``: the format, writing it, and reading it with every problem named by its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from surefast.errors import RecipeError, nearest
from surefast.recipe.call import Call
from surefast.recipe.decode import TAGS, argument_name, decode
from surefast.recipe.encode import call_to_plain, to_plain
from surefast.recipe.layout import literal, quoted, table
from surefast.recipe.lines import line_of
from surefast.recipe.schema import Problem, problems_of_call
from surefast.recipe.value import Origin, Value

FORMAT: Final = 1
"""The version of the format that this library writes."""

MAX_BYTES: Final = 1_000_000
"""A larger file is refused before it is parsed."""

Origins: TypeAlias = Mapping[str, tuple[Origin, bool, str]]
"""Path of a value to its origin, whether it is neutral, and why it has this value."""

_HEADER = "# The recipe of a surefast run. Run it again with: surefast train recipe.toml"
_TOP = ("format", "setup", "fit", "facts", "environment", "origin")
_ORIGIN = re.compile(r"^(user|default|inferred)(, neutral)?(?:: (.*))?$", re.DOTALL)
_PLACE = re.compile(r"\(at line (\d+), column \d+\)")
_DUPLICATE = re.compile(r"Cannot overwrite|Duplicate|Cannot declare|Cannot mutate")


@dataclass
class Parts:
    """What a recipe file holds, with inert values."""

    setup: Call
    fits: list[tuple[Call, int]]
    facts: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)


def write_parts(parts: Parts, flat: Mapping[str, Value]) -> str:
    """The TOML text of a recipe; ``flat`` gives the origins."""
    lines = [_HEADER, f"format = {FORMAT}", "", *table("setup", call_to_plain(parts.setup))]
    for call, frozen in parts.fits:
        plain = call_to_plain(call)
        ordered = {"call": plain.pop("call"), "frozen": frozen} | plain
        lines += ["", *table("fit", ordered, array=True)]
    for header, values in (("facts", parts.facts), ("environment", parts.environment)):
        if values:
            lines += ["", *table(header, {name: to_plain(value) for name, value in values.items()})]
    lines += [
        "",
        "# Where each value came from; a setting that is not listed was given by the user.",
        "[origin]",
    ]
    for path, value in sorted(flat.items()):
        text = origin_text(value)
        if text != usual_origin(path) and not path.endswith("].frozen"):
            lines.append(f"{quoted(path)} = {literal(text)}")
    return "\n".join(lines) + "\n"


def usual_origin(path: str) -> Origin:
    """The origin of a value that ``[origin]`` does not list: facts are found, settings are given."""
    return "inferred" if path.startswith(("facts.", "environment.")) else "user"


def origin_text(value: Value) -> str:
    """How the origin of a value is written: ``inferred, neutral: why``."""
    return f"{value.origin}{', neutral' if value.neutral else ''}{f': {value.why}' if value.why else ''}"


def read_text(path: Path) -> str:
    """The text of a recipe file, refused where it is none.

    Raises:
        RecipeError: where the file is missing, too large or no text.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _too_large(str(path), path.stat().st_size)
        return path.read_text("utf-8")
    except OSError as error:
        do = "give the path of a recipe.toml or of a run folder"
        raise RecipeError(f"cannot read {path}: {error.strerror}", do=do) from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is no UTF-8 text (byte {error.start})", do="save it as UTF-8") from None


def _too_large(source: str, size: int) -> RecipeError:
    return RecipeError(
        f"{source} has {size:,} bytes; a recipe may have {MAX_BYTES:,}",
        do="keep long lists in a file of their own and name that file in the recipe",
    )


def read_parts(text: str, source: str) -> tuple[Parts, Origins]:
    """Read the TOML text of a recipe.

    Args:
        text: the whole text.
        source: what to call it in messages.

    Raises:
        RecipeError: one, with all problems and their lines.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise _too_large(source, size)
    reader = _Reader(text, source)
    return reader.read()


class _Reader:
    """One reading of one text; problems are collected and raised together."""

    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source
        self.problems: list[tuple[int, str]] = []
        self.origins: dict[str, tuple[Origin, bool, str]] = {}

    def read(self) -> tuple[Parts, Origins]:
        data = self._parse()
        self._check_top(data)
        self._read_origins(data.get("origin", {}))
        setup = self._call(data.get("setup"), ("setup",))
        fits = self._fits(data.get("fit", []))
        sections = [self._section(data.get(name, {}), name) for name in ("facts", "environment")]
        if setup is not None:
            self._add(problems_of_call(setup, ("setup",), self._is_inferred))
        for index, (call, _) in enumerate(fits):
            self._add(problems_of_call(call, ("fit", index), self._is_inferred))
        self._raise()
        return Parts(cast("Call", setup), fits, sections[0], sections[1]), self.origins

    def _parse(self) -> dict[str, Any]:
        text = self.text
        while True:
            try:
                return tomllib.loads(text)
            except tomllib.TOMLDecodeError as error:
                line = self._syntax(str(error))
                lines = text.splitlines()
                if not line or "=" not in lines[line - 1] or not _DUPLICATE.search(str(error)):
                    self._raise()
                lines[line - 1] = ""  # read on without the second one, to find what else is wrong
                text = "\n".join(lines)

    def _syntax(self, message: str) -> int:
        """Note a parser's complaint; the line it is in, or 0 for one at the end."""
        place = _PLACE.search(message)
        line = int(place[1]) if place else len(self.text.splitlines())
        what = _PLACE.sub("", message).strip()
        if _DUPLICATE.search(message):
            content = self.text.splitlines()[line - 1].strip()
            self.problems.append((line, f"given twice: {content:.80}"))
        else:
            self.problems.append((line, f"this is no TOML: {what}"))
        return line if place else 0

    def _check_top(self, data: dict[str, Any]) -> None:
        found = data.get("format")
        if "format" not in data:
            self._problem(("format",), f"the version is missing; begin the file with: format = {FORMAT}")
        elif type(found) is not int or found != FORMAT:
            newer = isinstance(found, int) and found > FORMAT
            do = "install a newer surefast" if newer else f"write format = {FORMAT}"
            self._problem(("format",), f"format {found!r} is unknown, this surefast reads {FORMAT}; {do}")
        for key in data:
            if key not in _TOP:
                close = nearest(key, _TOP)
                hint = f"write {close!r}" if close else f"known: {', '.join(_TOP)}"
                self._problem((key,), f"unknown key {key!r}; {hint}")

    def _read_origins(self, data: Any) -> None:
        if not isinstance(data, dict):
            self._problem(("origin",), "expected a table [origin]")
            return
        for path, text in data.items():
            match = _ORIGIN.match(text) if isinstance(text, str) else None
            if match is None:
                self._problem(("origin", path), f"{text!r} is no origin; write user, default or inferred")
            else:
                self.origins[path] = (cast("Origin", match[1]), match[2] is not None, match[3] or "")

    def _call(self, plain: Any, path: tuple[str | int, ...]) -> Call | None:
        if not isinstance(plain, dict) or not isinstance(plain.get("call"), str):
            self._problem(path, f'[{path[0]}] is missing or has no call; write call = "module:qualname"')
            return None
        target = plain["call"]
        if target.count(":") != 1:
            self._problem((*path, "call"), f'{target!r} names nothing; write "module:qualname"')
        source = plain.get("call_source", "")
        if not isinstance(source, str):
            self._problem((*path, "call_source"), "expected a text")
        is_fit = path[0] == "fit" and len(path) == 2
        words = {"call", "call_source", "made", "frozen"} if is_fit else {"call", "call_source", "made"}
        values = {
            argument_name(key): Value(self._value(inner, (*path, key)), "user")
            for key, inner in plain.items()
            if key not in words
        }
        made = self._call(plain["made"], (*path, "made")) if "made" in plain else None
        return Call(target, values, made, str(source))

    def _value(self, plain: Any, path: tuple[str | int, ...]) -> Any:
        if isinstance(plain, list):
            return [self._value(item, (*path, index)) for index, item in enumerate(plain)]
        if isinstance(plain, dict) and "call" in plain:
            return self._call(plain, path)
        if isinstance(plain, dict) and plain.keys() == {"tuple"} and isinstance(plain["tuple"], list):
            return tuple(self._value(item, (*path, index)) for index, item in enumerate(plain["tuple"]))
        if isinstance(plain, dict) and not TAGS.intersection(plain):
            return {key: self._value(inner, (*path, key)) for key, inner in plain.items()}
        try:
            return decode(plain)
        except RecipeError as error:
            self._problem(path, f"{error.what}; {error.do}")
            return None

    def _fits(self, data: Any) -> list[tuple[Call, int]]:
        if not isinstance(data, list):
            self._problem(("fit",), "expected an array of tables; write [[fit]]")
            return []
        fits = []
        for index, plain in enumerate(data):
            call = self._call(plain, ("fit", index))
            frozen = plain.get("frozen", 0) if isinstance(plain, dict) else 0
            if type(frozen) is not int or frozen < 0:
                self._problem(("fit", index, "frozen"), f"{frozen!r} is no number of groups; expected int")
            elif call is not None:
                fits.append((call, frozen))
        return fits

    def _section(self, data: Any, name: str) -> dict[str, Any]:
        if not isinstance(data, dict):
            self._problem((name,), f"expected a table [{name}]")
            return {}
        return {key: self._value(inner, (name, key)) for key, inner in data.items()}

    def _is_inferred(self, path: tuple[str | int, ...]) -> bool:
        where = path_text(path)
        return any(
            origin == "inferred" and (place == where or place.startswith((f"{where}.", f"{where}[")))
            for place, (origin, _, _) in self.origins.items()
        )

    def _add(self, problems: Any) -> None:
        for problem in problems:
            path, what = cast("Problem", problem)
            self._problem(path, what)

    def _problem(self, path: tuple[str | int, ...], what: str) -> None:
        line = line_of(self.text, path)
        where = path_text(path)
        self.problems.append((line, what if len(path) == 1 else f"{where}: {what}"))

    def _raise(self) -> None:
        if not self.problems:
            return
        by_line: dict[str, str] = {}
        for line, what in sorted(self.problems):
            key = f"line {line}"
            by_line[key] = f"{by_line[key]}; {what}" if key in by_line else what
        count = len(self.problems)
        raise RecipeError(
            f"{self.source} has {count} problem{'s' if count > 1 else ''}",
            do=f"mend {'them' if count > 1 else 'it'} in {self.source} and run again",
            **by_line,
        )


def path_text(path: tuple[str | int, ...]) -> str:
    """A path of keys as it is written in recipes: ``fit[0].lr``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{argument_name(part)}" if text else part
    return text
