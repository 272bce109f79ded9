"""How a setting is written: each reader turns a text into a value, or says what to write instead.

Every source hands over texts (YAML scalars too, so that `sasl_password: 0123` keeps its zero and
`api_version: 2.10` its last digit); code may also hand over the value itself.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, SecretStr
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_before_validator_function

_DURATION_UNITS: Final = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_SIZE_UNITS: Final = {
    "TiB": 2**40,
    "TB": 10**12,
    "GiB": 2**30,
    "GB": 10**9,
    "MiB": 2**20,
    "MB": 10**6,
    "KiB": 2**10,
    "KB": 10**3,
    "B": 1,
}
_DURATION: Final = re.compile(r"([0-9]{1,9}) ?(ms|s|m|h|d)", re.ASCII)
_SIZE: Final = re.compile(r"([0-9]{1,15}) ?([KMGT]i?B|B)", re.ASCII | re.IGNORECASE)
_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_SERVER: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", re.ASCII)
_API_VERSION: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){1,3}", re.ASCII)
_TOPIC: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_SIZE_UNIT_BY_UPPER: Final = {unit.upper(): unit for unit in _SIZE_UNITS}


class Reader(ABC):
    """Annotates a field: `read` parses what was written, `str()` names the type for people."""

    @abstractmethod
    def read(self, value: object) -> object:
        """Return the value that `value` stands for; raise ValueError saying what to write."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Run `read` before pydantic's own check of the type."""
        return no_info_before_validator_function(self.read, handler(source))


@dataclass(frozen=True, slots=True)
class Text(Reader):
    """A text of at least one character."""

    kind: str = "text"

    def read(self, value: object) -> object:
        """Return `value` as it is; names no value, since secrets pass through here too."""
        if isinstance(value, SecretStr | Path):
            return value
        if not isinstance(value, str):
            raise ValueError("must be a text")  # noqa: TRY004 pydantic catches ValueError
        if not value.strip():
            raise ValueError("must not be empty; leave the setting out instead")
        if _CONTROL.search(value):
            raise ValueError("must be one line without control characters")
        return value

    def __str__(self) -> str:
        return self.kind


@dataclass(frozen=True, slots=True)
class Flag(Reader):
    """`true` or `false`."""

    def read(self, value: object) -> bool:
        """Return the truth that is written."""
        if isinstance(value, bool):
            return value
        written = value.casefold() if isinstance(value, str) else None
        if written not in {"true", "false"}:
            raise ValueError("must be true or false")
        return written == "true"

    def __str__(self) -> str:
        return "true or false"


@dataclass(frozen=True, slots=True)
class Whole(Reader):
    """A whole number of [`low`, `high`]."""

    low: int
    high: int
    such_as: int

    def read(self, value: object) -> int:
        """Return the number that is written."""
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            message = f"must be a whole number, such as {self.such_as}"
            raise ValueError(message)  # noqa: TRY004 pydantic catches ValueError
        if not self.low <= value <= self.high:
            raise ValueError(f"must be from {self.low} to {self.high}")
        return value

    def __str__(self) -> str:
        return f"whole number, {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Duration(Reader):
    """A span of time with its unit, from `low` to `high`."""

    low: str
    high: str
    such_as: str

    def read(self, value: object) -> timedelta:
        """Return the span that is written."""
        span = value if isinstance(value, timedelta) else _span(value, self.such_as)
        if not _span(self.low) <= span <= _span(self.high):
            raise ValueError(f"must be from {self.low} to {self.high}")
        return span

    def __str__(self) -> str:
        return f"duration, {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Size(Reader):
    """A number of bytes with its unit, from `low` to `high`."""

    low: str
    high: str
    such_as: str

    def read(self, value: object) -> int:
        """Return the bytes that are written; an int from code is bytes already."""
        size = value if type(value) is int else _bytes(value, self.such_as)
        if not _bytes(self.low) <= size <= _bytes(self.high):
            raise ValueError(f"must be from {self.low} to {self.high}")
        return size

    def __str__(self) -> str:
        return f"size, {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Servers(Reader):
    """A list of `host:port`, or one text of them with commas between."""

    def read(self, value: object) -> tuple[str, ...]:
        """Return the servers in the order written."""
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
            raise ValueError("must be a list of host:port, such as broker1:9092,broker2:9092")
        servers = tuple(part.strip() for part in parts)
        for server in servers:
            if "@" in server:
                raise ValueError("must be host:port without a user or password")
            found = _SERVER.fullmatch(server)
            if not found or not 0 < int(found[2]) <= 65_535:  # noqa: PLR2004 the last port
                raise ValueError(f"{server[:60]!r} is not host:port, such as broker1:9092")
        if not servers:
            raise ValueError("must name at least one server, such as broker1:9092")
        return servers

    def __str__(self) -> str:
        return "list of host:port"


@dataclass(frozen=True, slots=True)
class Pairs(Reader):
    """Names and what stands for each, as `name=value` with commas between."""

    known: tuple[str, ...]
    such_as: str

    def read(self, value: object) -> Mapping[str, str]:
        """Return the pairs; each name is known and there once."""
        if isinstance(value, Mapping):
            return value
        if not isinstance(value, str):
            raise ValueError(f"must be such as {self.such_as}")  # noqa: TRY004 pydantic catches it
        found: dict[str, str] = {}
        for part in value.split(","):
            name, equals, named = (piece.strip() for piece in part.partition("="))
            if not equals or not named:
                raise ValueError(f"{part[:60]!r} must be such as {self.such_as}")
            if name not in self.known:
                raise ValueError(f"unknown name {name[:60]!r}; known: {', '.join(self.known)}")
            if name in found:
                raise ValueError(f"{name} is there twice")
            found[name] = named
        return found

    def __str__(self) -> str:
        return f"list of name=value, such as {self.such_as}"


@dataclass(frozen=True, slots=True)
class ApiVersion(Reader):
    """A broker version, such as `2.3`."""

    def read(self, value: object) -> str:
        """Return the version as written."""
        if not isinstance(value, str) or not _API_VERSION.fullmatch(value):
            raise ValueError("must be a broker version, such as 2.3")
        return value

    def __str__(self) -> str:
        return "broker version"


@dataclass(frozen=True, slots=True)
class TopicName(Reader):
    """A name that Kafka takes for a topic."""

    def read(self, value: object) -> str:
        """Return the name as written."""
        if not isinstance(value, str) or not _TOPIC.fullmatch(value) or value in {".", ".."}:
            raise ValueError("a topic name is 1 to 249 of the characters a-z A-Z 0-9 . _ -")
        return value

    def __str__(self) -> str:
        return "topic name"


def is_loopback(server: str) -> bool:
    """Say whether `server` (host:port) is on this machine: localhost, 127.0.0.0/8 or ::1."""
    host = server.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.casefold() == "localhost"


def duration_text(span: timedelta) -> str:
    """Write `span` as a setting: in the greatest unit that divides it."""
    for unit, length in _DURATION_UNITS.items():
        if span >= length and not span % length:
            return f"{span // length}{unit}"
    return f"{span // _DURATION_UNITS['ms']}ms"


def size_text(size: int) -> str:
    """Write `size` bytes as a setting: in the unit that leaves the smallest whole number."""
    fitting = [unit for unit, length in _SIZE_UNITS.items() if size and not size % length]
    unit = max(fitting or ["B"], key=lambda unit: _SIZE_UNITS[unit])
    return f"{size // _SIZE_UNITS[unit]}{unit}"


def _span(value: object, such_as: str = "30s") -> timedelta:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found:
        return int(found[1]) * _DURATION_UNITS[found[2]]
    raise ValueError(_must_be("duration", value, such_as, "ms, s, m, h or d"))


def _bytes(value: object, such_as: str = "64MB") -> int:
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found:
        return int(found[1]) * _SIZE_UNITS[_SIZE_UNIT_BY_UPPER[found[2].upper()]]
    raise ValueError(_must_be("size", value, such_as, "B, KB, MB, GB, TB, KiB, MiB, GiB or TiB"))


def _must_be(kind: str, value: object, such_as: str, units: str) -> str:
    bare = _NUMBER.fullmatch(str(value)) is not None
    why = "has no unit; write" if bare else f"must be a {kind}: a whole number and a unit, such as"
    return f"{why} {such_as} (units: {units})"
