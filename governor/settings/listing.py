"""The effective settings as people and scripts read them; a secret is only said to be set."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final, NamedTuple

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from governor.settings.model import Settings
from governor.settings.sources import CATALOGUE, Route
from governor.settings.values import Pairs, Size, duration_text, size_text

SET_SECRET: Final = "**********"  # noqa: S105 what stands in place of one

Written = str | int | bool | list[str] | dict[str, str] | None
"""A value as it would be written in the settings file; None is unset."""


class Row(NamedTuple):
    """A setting by its dotted name, its value as written, and where that came from."""

    name: str
    value: Written
    origin: str


def listing(settings: Settings, origins: Mapping[str, str]) -> list[Row]:
    """Return every setting in the order of the model."""
    names = ((".".join(route), value) for route, value in _values(settings))
    return [Row(name, value, origins.get(name, "default")) for name, value in names]


def routes(settings: Settings) -> list[Route]:
    """Return the route of every setting; topics have one for each option of each topic."""
    return [route for route, _ in _values(settings)]


def written(field: FieldInfo, value: Any) -> Written:
    """Write `value` the way the settings file has it."""
    match value:
        case None | bool() | int() if not _is_size(field, value):
            return value
        case SecretStr():
            return SET_SECRET
        case timedelta():
            return duration_text(value)
        case int():
            return size_text(value)
        case Mapping() | tuple():
            return _collection(field, value)
        case _:
            return str(value)


def _collection(field: FieldInfo, value: Mapping[str, Any] | tuple[Any, ...]) -> Written:
    if isinstance(value, tuple):
        return [str(item) for item in value]
    if any(isinstance(each, Pairs) for each in field.metadata):
        return ",".join(f"{name}={named}" for name, named in value.items()) or None
    return {name: str(item) for name, item in value.items()}


def _is_size(field: FieldInfo, value: Any) -> bool:
    return type(value) is int and any(isinstance(reader, Size) for reader in field.metadata)


def _values(settings: Settings) -> Iterator[tuple[Route, Written]]:
    for route, field in CATALOGUE.items():
        if route != ("topics",):
            yield route, written(field, getattr(getattr(settings, route[0]), route[1]))
            continue
        for name, topic in settings.topics.items():
            for option, described in type(topic).model_fields.items():
                if value := getattr(topic, option):
                    yield ("topics", name, option), written(described, value)
