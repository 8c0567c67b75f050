"""The recipe of a run: every value that can change the result, and where it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from surefast.recipe.call import Call
from surefast.recipe.encode import Encoder, canonical, to_plain
from surefast.recipe.file import Origins, Parts, read_parts, read_text, usual_origin, write_parts
from surefast.recipe.layout import quoted
from surefast.recipe.value import Value

if TYPE_CHECKING:
    from rich.console import Group


SECTIONS: Final = ("facts", "environment")
"""What was found in the data, and versions and flags."""


class Fit(NamedTuple):
    """One training in a run."""

    call: Call
    """The call that started it."""

    frozen: int
    """How many parameter groups were frozen as it began."""


class Recipe:
    """What was trained, as a tree of calls, and under which circumstances.

    Values may still be inferred until ``freeze``; opaque objects, such as a model instance, are told by
    what they held when the recipe first saw them.

    Args:
        setup: the record of the call that made the Learner.
        facts: what was found in the data, such as ``n_train``: name to value.
        environment: versions and flags, as ``environment()`` gives them.
    """

    def __init__(self, setup: Call, facts: Mapping[str, Value], environment: Mapping[str, Value]) -> None:
        self.facts = dict(facts)
        self.environment = dict(environment)
        self.fits: list[Fit] = []
        self._setup = setup
        self._encoder = Encoder()
        self._frozen_setup: Call | None = None
        self._frozen_fits: list[Call] = []
        self._accepted: dict[str, str] = {}
        self._encoder.call(setup)  # first sight: the initial weights count, not those after training

    @property
    def setup(self) -> Call:
        """The call that made the Learner, with every value inert."""
        return self._frozen_setup or self._encoder.call(self._setup)

    def fit_call(self, index: int) -> Call:
        """The call of one fit, with every value inert."""
        if index < len(self._frozen_fits):
            return self._frozen_fits[index]
        return self._encoder.call(self.fits[index].call)

    def section(self, name: Literal["facts", "environment"]) -> dict[str, Value]:
        """The values of one section, inert."""
        values = self.facts if name == "facts" else self.environment
        return {
            key: replace(value, value=self._encoder.snapshot(value.value, key))
            for key, value in values.items()
        }

    def add_fit(self, call: Call, *, frozen: int) -> None:
        """Append a fit.

        Args:
            call: the record of the ``fit`` method; its ``self`` is left out.
            frozen: how many parameter groups are frozen as it begins.
        """
        call.values.pop("self", None)
        self.fits.append(Fit(call, frozen))

    def freeze(self) -> None:
        """Hold setup and the fits so far as they are; from here on nothing in them changes."""
        self._frozen_setup = self.setup
        self._frozen_fits = [self.fit_call(index) for index in range(len(self.fits))]

    def accept(self, paths: Iterable[str], why: str) -> None:
        """Let default values count as the user's own, because the user has written them down."""
        self._accepted.update(dict.fromkeys(paths, why))

    def flat(self) -> dict[str, Value]:
        """Every value by its path, such as ``setup.dls.splitter.valid_pct``, as TOML can hold it."""
        found = dict(leaves("setup", Value(self.setup, "user")))
        for index, fit in enumerate(self.fits):
            found.update(leaves(f"fit[{index}]", Value(self.fit_call(index), "user")))
            found[f"fit[{index}].frozen"] = Value(fit.frozen, "inferred", "groups frozen when it began")
        for section in SECTIONS:
            for name, value in self.section(section).items():
                found.update(leaves(f"{section}.{quoted(name)}", value))
        for path, why in self._accepted.items():
            if path in found and found[path].origin == "default":
                found[path] = replace(found[path], origin="user", why=why)
        return found

    @property
    def hash(self) -> str:
        """16 hexadecimal digits over all values that can change bits, wherever they came from."""
        return self.part_hash("")

    def part_hash(self, start: str) -> str:
        """The hash of the values whose path begins with ``start``, such as ``setup`` or ``fit[0]``."""
        values = {
            path: value.value
            for path, value in self.flat().items()
            if path.startswith(start) and not value.neutral
        }
        return hashlib.blake2b(canonical(values).encode(), digest_size=8).hexdigest()

    def defaults(self) -> dict[str, Value]:
        """The values nobody chose: those with the origin ``default``."""
        return {path: value for path, value in self.flat().items() if value.origin == "default"}

    def to_toml(self) -> str:
        """The whole recipe as a TOML text that ``from_toml`` reads back."""
        fits = [(self.fit_call(index), fit.frozen) for index, fit in enumerate(self.fits)]
        sections = [
            {key: value.value for key, value in self.section(section).items()} for section in SECTIONS
        ]
        return write_parts(Parts(self.setup, fits, sections[0], sections[1]), self.flat())

    @staticmethod
    def from_toml(text: str, source: str = "recipe.toml") -> Recipe:
        """Read a recipe; nothing outside this package is imported, nothing is called.

        Args:
            text: the TOML text.
            source: what to call it in messages.

        Raises:
            RecipeError: with all problems of the file and their lines.
        """
        parts, origins = read_parts(text, source)
        setup = _with_origins(parts.setup, "setup", origins)
        sections = [
            {name: _restore(f"{kind}.{quoted(name)}", value, origins) for name, value in table.items()}
            for kind, table in (("facts", parts.facts), ("environment", parts.environment))
        ]
        recipe = Recipe(setup, sections[0], sections[1])
        recipe._encoder = Encoder(as_told=True)
        for index, (call, frozen) in enumerate(parts.fits):
            recipe.add_fit(_with_origins(call, f"fit[{index}]", origins), frozen=frozen)
        recipe.freeze()
        return recipe

    def show(self) -> None:
        """Print every value by section: what it is, where it came from, and why where it was inferred."""
        from rich.console import Console

        Console().print(self.__rich__())

    def __rich__(self) -> Group:
        from surefast.recipe.show import recipe_tables

        return recipe_tables(self)

    def _repr_html_(self) -> str:
        from surefast.recipe.show import as_html

        return as_html(self.__rich__())

    def __repr__(self) -> str:
        return f"<Recipe {self.hash}: {self.setup.name}, {len(self.fits)} fits>"


def read_recipe(path: str | Path) -> Recipe:
    """The recipe in a file.

    Args:
        path: the file, or a run folder that holds a ``recipe.toml``.

    Raises:
        RecipeError: where there is none, it is too large, or it has problems.
    """
    file = Path(path) / "recipe.toml" if Path(path).is_dir() else Path(path)
    return Recipe.from_toml(read_text(file), str(file))


def leaves(path: str, value: Value) -> Iterator[tuple[str, Value]]:
    """The values under a path: calls and lists with calls are taken apart, all else is one value.

    Args:
        path: where ``value`` stands.
        value: an inert value; what it holds inherits that it is neutral.
    """
    inner = value.value
    if isinstance(inner, Call):
        yield f"{path}.call", replace(value, value=inner.target)
        if inner.source:
            yield f"{path}.call_source", replace(value, value=inner.source)
        for name, part in inner.values.items():
            yield from leaves(f"{path}.{name}", replace(part, neutral=part.neutral or value.neutral))
        if inner.made is not None:
            yield from leaves(f"{path}.made", replace(value, value=inner.made))
    elif isinstance(inner, list | tuple) and any(_has_call(item) for item in inner):
        for position, item in enumerate(inner):
            yield from leaves(f"{path}[{position}]", replace(value, value=item))
    elif isinstance(inner, dict) and any(_has_call(item) for item in inner.values()):
        for key, item in inner.items():
            yield from leaves(f"{path}.{quoted(str(key))}", replace(value, value=item))
    else:
        yield path, replace(value, value=to_plain(inner))


def _has_call(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_has_call(item) for item in value)
    return isinstance(value, Call) or (isinstance(value, dict) and any(map(_has_call, value.values())))


def _with_origins(call: Call, path: str, origins: Origins) -> Call:
    values = {name: _restore(f"{path}.{name}", value.value, origins) for name, value in call.values.items()}
    made = _with_origins(call.made, f"{path}.made", origins) if call.made is not None else None
    return Call(call.target, values, made, call.source)


def _restore(path: str, inner: Any, origins: Origins) -> Value:
    """A value with the origin the file gives it; what holds calls has that of its first call."""
    first = next((place for place, _ in leaves(path, Value(inner, "user"))), path)
    origin, neutral, why = origins.get(first, (usual_origin(path), False, ""))
    return Value(_restore_inside(path, inner, origins), origin, why, neutral)


def _restore_inside(path: str, inner: Any, origins: Origins) -> Any:
    if isinstance(inner, Call):
        return _with_origins(inner, path, origins)
    if isinstance(inner, list | tuple) and _has_call(inner):
        items = [_restore_inside(f"{path}[{index}]", item, origins) for index, item in enumerate(inner)]
        return items if isinstance(inner, list) else tuple(items)
    if isinstance(inner, dict) and _has_call(inner):
        return {
            key: _restore_inside(f"{path}.{quoted(str(key))}", item, origins) for key, item in inner.items()
        }
    return inner
