"""Where a field stands in a JSON document: `$.data.total`, `$.tags["cost.center"]`, `$.a[0].b`."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from governor.formats.reading import Fields, known

MAX_STEPS: Final = 20

Path: TypeAlias = tuple[str | int, ...]

_STEP: Final = re.compile(r'\.([A-Za-z_][A-Za-z0-9_\-]*)|\["([^"\\]+)"\]|\[([0-9]{1,4})\]')


def path_of(text: str) -> Path:
    """Read a path; raise ValueError that says how to write one."""
    steps: list[str | int] = []
    place = 1 if text.startswith("$") else 0
    whole = text if place else f"$.{text}"
    at = 1
    while at < len(whole):
        found = _STEP.match(whole, at)
        if found is None or len(steps) == MAX_STEPS:
            raise ValueError(
                f"{text[:60]!r} is no path; write such as $.data.team,"
                ' $.data["cost.center"] or $.items[0].id'
            )
        name, quoted, index = found.groups()
        steps.append(int(index) if index is not None else name or quoted)
        at = found.end()
    if not steps:
        raise ValueError("the path is empty; write such as $.data.team")
    return tuple(steps)


def at_path(document: Any, path: Path) -> Any:
    """Return what stands at a path, None where nothing does."""
    for step in path:
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def finders(fields: Fields) -> Mapping[str, Callable[[Any], Any]]:
    """Return for each field what finds it in a document.

    Raise ValueError where a field is none of the event's, or a path cannot be read.
    """
    return {name: _finder(path_of(path)) for name, path in known(fields).items()}


def _finder(path: Path) -> Callable[[Any], Any]:
    return lambda document: at_path(document, path)
