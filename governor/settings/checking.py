"""From leaves to Settings: pydantic checks, and every error is said again with its place.

Pydantic's own error never leaves here: it can still carry what was written, secrets too.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from governor.settings.group import CONFLICT
from governor.settings.model import Settings
from governor.settings.sources import CATALOGUE, Leaf, Route, is_secret

MAX_SHOWN_CHARACTERS: Final = 60


def check(leaves: Mapping[Route, Leaf], problems: list[str]) -> Settings | None:
    """Build the settings, or add a line to `problems` for each thing that is wrong with them.

    What does not go together is said only where all else is right: it may follow from the rest.
    """
    try:
        return Settings(**_nested(leaves.values()))
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
    wrong = [error for error in errors if error["type"] != CONFLICT]
    if wrong or problems:
        problems += [f"{_subject(leaves, _route(error))}: {_message(error)}" for error in wrong]
    else:
        problems += [line for error in errors for line in _conflicts(leaves, error)]
    return None


def leaf_of(leaves: Mapping[Route, Leaf], route: Route) -> Leaf | None:
    """Return the leaf that gives `route` its value: its own, or that of what it is part of."""
    for length in range(len(route), 0, -1):
        if leaf := leaves.get(route[:length]):
            return leaf
    return None


def _nested(leaves: Iterable[Leaf]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for leaf in leaves:
        inner = values
        for step in leaf.route[:-1]:
            inner = inner.setdefault(step, {})
        value = leaf.value
        inner[leaf.route[-1]] = dict(value) if isinstance(value, dict) else value
    return values


def _route(error: ErrorDetails) -> Route:
    return tuple(str(step) for step in error["loc"] if step != "[key]")


def _conflicts(leaves: Mapping[Route, Leaf], error: ErrorDetails) -> Iterator[str]:
    for name, message in error.get("ctx", {})["conflicts"]:
        yield f"{_subject(leaves, (*_route(error), name))}: {message}"


def _subject(leaves: Mapping[Route, Leaf], route: Route) -> str:
    leaf = leaf_of(leaves, route)
    if leaf is None:
        return ".".join(route)
    field = CATALOGUE.get(leaf.route)
    open_to_all = leaf.shown and not (field and is_secret(field))
    return leaf.place + (_shown(leaf.value) if open_to_all else "")


def _shown(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
    if not isinstance(text, str | int | Path) or "@" in str(text):
        return ""
    text = str(text)
    cut = text[:MAX_SHOWN_CHARACTERS] + ("..." if len(text) > MAX_SHOWN_CHARACTERS else "")
    return f"={cut!r}"


def _message(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            return str(context["error"])
        case "literal_error" | "enum":
            return f"must be {context['expected'].replace(chr(39), '')}"
        case "missing":
            return f"needs a {error['loc'][-1]}, such as native"
        case "extra_forbidden":
            return f"unknown setting {error['loc'][-1]}"
        case _:
            return "must be a mapping, such as {format: native}"
