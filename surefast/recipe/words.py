"""Plain values as people write them: ``None``, ``slice(1e-05, 0.001)``, ``resnet34``."""

from __future__ import annotations

from typing import Any


def in_words(plain: Any) -> str:
    """A plain value of a recipe on one line, for tables and messages; files use ``layout.literal``."""
    if isinstance(plain, list):
        return f"[{_listed(plain)}]"
    if not isinstance(plain, dict):
        return repr(plain) if isinstance(plain, str | int | float) else str(plain)
    tag = next((tag for tag in _FORMS if tag in plain), None)
    if tag is None:
        return f"{{{', '.join(f'{key}: {in_words(value)}' for key, value in plain.items())}}}"
    return str(_FORMS[tag](plain))


def _listed(items: list[Any]) -> str:
    return ", ".join(in_words(item) for item in items)


def _name(target: str) -> str:
    return target.partition(":")[2]


def _with_hash(name: str, source: str) -> str:
    return f"{name} (source {source})" if source else name


def _call(plain: dict[str, Any]) -> str:
    words = {"call", "call_source", "made"}
    given = ", ".join(f"{name}={in_words(value)}" for name, value in plain.items() if name not in words)
    return f"{_name(plain['call'])}({given})"


def _partial(plain: dict[str, Any]) -> str:
    given = [in_words(item) for item in plain.get("args", [])]
    keywords = plain.get("keywords", {})
    pairs = keywords.get("dict", keywords.items()) if isinstance(keywords, dict) else []
    given += [f"{name}={in_words(value)}" for name, value in pairs]
    return f"partial({', '.join([in_words(plain['partial']), *given])})"


def _slice(plain: dict[str, Any]) -> str:
    parts = [in_words(part) for part in plain["slice"]]
    return f"slice({', '.join(parts[:2] if parts[2:] == ['None'] else parts)})"


def _tuple(plain: dict[str, Any]) -> str:
    return f"({_listed(plain['tuple'])}{',' if len(plain['tuple']) == 1 else ''})"


_FORMS: dict[str, Any] = {
    "call": _call,
    "none": lambda _: "None",
    "not_given": lambda _: "not given",
    "slice": _slice,
    "tuple": _tuple,
    "path": lambda plain: in_words(plain["path"]),
    "function": lambda plain: _with_hash(_name(plain["function"]), plain.get("source", "")),
    "class": lambda plain: _with_hash(_name(plain["class"]), plain.get("source", "")),
    "partial": _partial,
    "opaque": lambda plain: f"a {_name(plain['opaque'])} (digest {plain['digest']})",
    "same": lambda plain: f"the same as {plain['same']}",
    "enum": lambda plain: f"{_name(plain['enum'])}.{plain['member']}",
    "torch": lambda plain: f"torch.{plain['torch']}",
    "device": lambda plain: plain["device"],
    "tensor": lambda plain: f"tensor({plain['tensor']})",
    "array": lambda plain: f"array({plain['array']})",
}
