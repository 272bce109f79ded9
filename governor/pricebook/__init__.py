"""The price book: a company's own prices in `prices.yaml`, over the corrections that we ship.

Both are lists of dated overrides; of all that match an event the first in force charges, and where
none does, the list price of the catalogue.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Final

from governor.core.errors import ConfigError
from governor.core.pricing import Override
from governor.documents import Node, Problem, read_bytes, read_document
from governor.documents.sections import Report, Section, choice, shown
from governor.documents.texts import line
from governor.pricebook.entry import read_override

__all__ = ["Checked", "PriceBook", "Problem", "check", "digest", "load"]

VERSION: Final = "1"
KEYS: Final = ("version", "currency", "providers", "prices")
MAX_PRICES: Final = 2_000
MAX_PROVIDERS: Final = 100
MAX_SHOWN_PROBLEMS: Final = 100
MAX_NAME_CHARACTERS: Final = 256

CORRECTIONS: Final = Path(str(resources.files("governor.pricebook").joinpath("corrections.yaml")))
"""What the catalogue has wrong, dated, each with its source; part of the package."""

_NO_FILE: Final = "none"


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Overrides in the order of asking, and what this company calls a provider.

    `digest` names the content of the file they are from.
    """

    overrides: tuple[Override, ...]
    providers: Mapping[str, str]
    digest: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What a file holds, and every problem in it."""

    overrides: tuple[Override, ...]
    providers: Mapping[str, str]
    problems: tuple[Problem, ...]
    raw: bytes


def load(path: Path | None) -> PriceBook:
    """Return the overrides of a file (None: there is none) and the corrections after them.

    Raise ConfigError, one line for each problem.
    """
    own = Checked((), MappingProxyType({}), (), b"") if path is None else check(path)
    shipped = check(CORRECTIONS, source="governor's corrections")
    problems = [str(problem) for problem in (*own.problems, *shipped.problems)]
    if problems:
        raise ConfigError("\n".join(problems[:MAX_SHOWN_PROBLEMS]))
    return PriceBook(
        overrides=(*own.overrides, *shipped.overrides),
        providers=own.providers,
        digest=_NO_FILE if path is None else hashlib.sha256(own.raw).hexdigest(),
    )


def digest(path: Path | None) -> str:
    """Return what `load(path).digest` would be, without parsing."""
    if path is None or not path.exists():
        return _NO_FILE
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except OSError:
        return "unreadable"


def check(path: Path, source: str | None = None) -> Checked:
    """Read a price file; `source` is what its prices are said to come from, by default the file."""
    document = read_document(path, "price file")
    report = Report(path, list(document.problems))
    read: list[tuple[Node, Override]] = []
    providers: dict[str, str] = {}
    if not report.problems:
        top = Section("a price file", document.root, KEYS, report)
        top.take("version", choice({VERSION: VERSION}), VERSION, VERSION)
        top.take("currency", choice({"USD": "USD"}), "USD")
        providers = _providers(top, report)
        for node in _entries(top, report):
            override = read_override(node, report, source or path.name)
            read += [(node, override)] if override else []
        _repeated(read, report)
    return Checked(
        tuple(override for _, override in read),
        MappingProxyType(providers),
        tuple(sorted(set(report.problems))),
        document.raw,
    )


def _providers(top: Section, report: Report) -> dict[str, str]:
    entry = top.entries.get("providers")
    if entry is None:
        return {}
    if not isinstance(entry.node.value, dict):
        report.add(entry, "providers must be a mapping, such as {my-gateway: openai}")
        return {}
    if len(entry.node.value) > MAX_PROVIDERS:
        report.add(entry, f"providers has more than {MAX_PROVIDERS} names")
    read = line(MAX_NAME_CHARACTERS)
    return {
        name.lower(): report.read(f"providers.{name}", named.node, read, "").lower()
        for name, named in list(entry.node.value.items())[:MAX_PROVIDERS]
    }


def _entries(top: Section, report: Report) -> Sequence[Node]:
    entry = top.entries.get("prices")
    if entry is None:
        top.needs("prices", "a list of prices, or [] for none")
    elif not isinstance(entry.node.value, list):
        report.add(entry, "prices must be a list of prices, or [] for none")
    elif len(entry.node.value) > MAX_PRICES:
        report.add(entry, f"prices has more than {MAX_PRICES} items")
    else:
        return entry.node.value
    return ()


def _repeated(read: Sequence[tuple[Node, Override]], report: Report) -> None:
    """Report ids that come twice, and spans of one scope that overlap."""
    for number, (node, later) in enumerate(read):
        for _, earlier in read[:number]:
            if earlier.id == later.id:
                report.add(node, f"id={shown(later.id)}: comes twice")
            elif _scope(earlier) == _scope(later) and _overlap(earlier, later):
                report.add(
                    node,
                    f"price {shown(later.id)} is for the same usage and times as"
                    f" {shown(earlier.id)} before it, which would always charge;"
                    " let one end (until) where the other begins (from)",
                )


def _scope(override: Override) -> tuple[object, ...]:
    return (
        override.provider,
        override.model,
        override.tiers,
        override.customers,
        override.teams,
    )


def _overlap(one: Override, other: Override) -> bool:
    return one.starts_at < other.ends_at and other.starts_at < one.ends_at
