"""Where settings come from: each source becomes leaves, each leaf knows its origin and its place.

A name that is no setting is a problem here; whether a value is right is for `checking`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

from governor.core.errors import ConfigError
from governor.documents import Entry, Node, read_document, speaking
from governor.settings.group import Group
from governor.settings.model import ENV_DELIMITER, ENV_PREFIX, Settings, Topic

MAX_SECRET_BYTES: Final = 65_536
CONFIG_VARIABLE: Final = "GOVERNOR_CONFIG"
SECRETS_VARIABLE: Final = "GOVERNOR_SECRETS_DIR"

Route: TypeAlias = tuple[str, ...]
"""A setting's place in the model: ("kafka", "group_id")."""


class Leaf(NamedTuple):
    """One value as a source gives it; `place` leads an error, `shown` lets the value into one."""

    route: Route
    value: object
    origin: str
    place: str
    shown: bool = True


def _catalogue() -> Iterator[tuple[Route, FieldInfo]]:
    for group, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Group):
            for name, setting in field.annotation.model_fields.items():
                yield (group, name), setting
        else:
            yield (group,), field


CATALOGUE: Final[Mapping[Route, FieldInfo]] = dict(_catalogue())
"""Every setting by its route, in the order of the model; topics are one setting."""

_GROUPS: Final = tuple(Settings.model_fields)


def variable(route: Route) -> str:
    """Name the environment variable of a setting."""
    return ENV_PREFIX + ENV_DELIMITER.join(route).upper()


_VARIABLES: Final = {variable(route): route for route in CATALOGUE}

_SERVICE_LINK: Final = re.compile(
    r"GOVERNOR(_[A-Z0-9]+)*_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9]+)*|PORT(_\d+_(TCP|UDP|SCTP).*)?)"
    r"|GOVERNOR_TEST_[A-Z]+"
)
"""What Kubernetes sets in every pod beside a service named governor, and what the tests take."""


def is_secret(field: FieldInfo) -> bool:
    """Say whether a setting's value must never be shown."""
    return SecretStr in parts(field.annotation)


def parts(annotation: Any) -> Iterator[Any]:
    """Yield an annotation and all it is made of: `Annotated[Path, Text()] | None` holds Text()."""
    yield annotation
    for part in get_args(annotation):
        yield from parts(part)


def from_file(path: Path, problems: list[str]) -> list[Leaf]:
    """Read the settings file; raise ConfigError where it is no YAML that we take."""
    leaves: list[Leaf] = []
    for group, entry in _groups(path).items():
        place = f"{path}:{entry.line}:{entry.column}: {speaking(group)}"
        if group not in _GROUPS:
            problems.append(f"{place}: {_unknown(group, _GROUPS)}")
        elif not isinstance(entry.node.value, dict | None):
            problems.append(f"{place}: must hold settings, each on a line of its own below it")
        elif group == "topics":
            leaves += _topics_of(path, entry, problems)
        else:
            names = {route[1]: (route,) for route in CATALOGUE if route[0] == group}
            leaves += _settings_of(path, (group,), entry.node.value or {}, tuple(names), problems)
    return leaves


def _groups(path: Path) -> dict[str, Entry]:
    document = read_document(path, "settings file")
    if document.problems:
        raise ConfigError("\n".join(map(str, document.problems)))
    root = document.root.value
    if not isinstance(root, dict | None):
        raise ConfigError(f"{path}:1:1: must be a mapping of settings, such as 'kafka:'")
    return root or {}


def _topics_of(path: Path, topics: Entry, problems: list[str]) -> Iterator[Leaf]:
    named = topics.node.value
    if named == {}:
        yield _file_leaf(path, ("topics",), topics)
    for name, entry in (named if isinstance(named, dict) else {}).items():
        leaf = _file_leaf(path, ("topics", name), entry)
        if isinstance(entry.node.value, dict):
            yield leaf._replace(value={})
            options = tuple(Topic.model_fields)
            yield from _settings_of(path, leaf.route, entry.node.value, options, problems)
        else:
            yield leaf


def _settings_of(
    path: Path,
    above: Route,
    entries: Mapping[str, Entry],
    names: tuple[str, ...],
    problems: list[str],
) -> Iterator[Leaf]:
    for name, entry in entries.items():
        if name in names:
            yield _file_leaf(path, (*above, name), entry)
        else:
            where = f"{path}:{entry.line}:{entry.column}: {'.'.join(above)}.{speaking(name)}"
            problems.append(f"{where}: {_unknown(name, names)}")


def _file_leaf(path: Path, route: Route, entry: Entry) -> Leaf:
    place = f"{path}:{entry.line}:{entry.column}: {'.'.join(route)}"
    return Leaf(route, _plain(entry.node), f"{path}:{entry.line}", place)


def _plain(node: Node) -> object:
    if isinstance(node.value, dict):
        return {name: _plain(entry.node) for name, entry in node.value.items()}
    return [_plain(item) for item in node.value] if isinstance(node.value, list) else node.value


def from_secrets(directory: Path, problems: list[str]) -> list[Leaf]:
    """Read the files of `directory` that are named like our variables; others are not opened."""
    found: dict[str, str] = {}
    try:
        for file in sorted(directory.iterdir()):
            name = file.name.upper()
            if name in _VARIABLES:
                found[name] = _secret_text(file)
            elif name.startswith(ENV_PREFIX):
                place = f"{directory / file.name}"
                candidates = [known.lower() for known in _VARIABLES]
                problems.append(f"{place}: {_unknown(file.name.lower(), candidates)}")
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be read ({error.strerror})") from None
    return [
        Leaf(route, value, "secrets directory", str(directory / name.lower()), shown=False)
        for route, name, value in _routed(found)
    ]


def _secret_text(file: Path) -> str:
    with file.open("rb") as stream:
        raw = stream.read(MAX_SECRET_BYTES + 1)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = None
    if text is None or len(raw) > MAX_SECRET_BYTES:
        raise ConfigError(f"{file}: is not UTF-8 text of at most 64 KiB")
    return text.rstrip("\r\n")


def from_variables(environment: Mapping[str, str], problems: list[str]) -> list[Leaf]:
    """Read the `GOVERNOR_*` variables of `environment`."""
    found: dict[str, str] = {}
    for name, value in sorted(environment.items()):
        upper = name.upper()
        if upper in _VARIABLES:
            found[upper] = value
        elif upper.startswith(ENV_PREFIX) and not _is_ours_to_skip(upper, value):
            known = [*_VARIABLES, CONFIG_VARIABLE, SECRETS_VARIABLE]
            problems.append(f"{speaking(name)}: {_unknown(upper, known, 'variable')}")
    return [
        Leaf(route, value, f"environment {name}", name) for route, name, value in _routed(found)
    ]


def _is_ours_to_skip(name: str, value: str) -> bool:
    if name in {CONFIG_VARIABLE, SECRETS_VARIABLE}:
        return True
    linked = _SERVICE_LINK.fullmatch(name) is not None and ENV_DELIMITER not in name
    return linked and (not name.endswith("_PORT") or "SERVICE" in name or "://" in value)


class _Texts(EnvSettingsSource):
    """The library's reading of nested variable names, over texts that are given to it."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): text for name, text in self._texts.items()}


def _routed(texts: Mapping[str, str]) -> Iterator[tuple[Route, str, object]]:
    """Yield route, variable name and text of each of `texts`, which are known names."""
    nested: dict[str, Any] = _Texts(texts)()
    for route in CATALOGUE:
        if variable(route) in texts:
            value = nested[route[0]] if len(route) == 1 else nested[route[0]][route[1]]
            yield route, variable(route), value


def from_overrides(overrides: Mapping[str, object], problems: list[str]) -> list[Leaf]:
    """Read values by dotted name from the command line; None is an option that was not given."""
    leaves = []
    for name, value in overrides.items():
        route = tuple(name.split("."))
        if route not in CATALOGUE:
            known = [".".join(known) for known in CATALOGUE]
            problems.append(f"command line: {speaking(name)}: {_unknown(name, known)}")
        elif value is not None:
            leaves.append(Leaf(route, value, "command line", f"command line: {name}"))
    return leaves


def merge(layers: Iterable[list[Leaf]]) -> dict[Route, Leaf]:
    """Lay later layers over earlier ones; topics are replaced as a whole."""
    merged: dict[Route, Leaf] = {}
    for layer in layers:
        if any(leaf.route[0] == "topics" for leaf in layer):
            merged = {route: leaf for route, leaf in merged.items() if route[0] != "topics"}
        merged |= {leaf.route: leaf for leaf in layer}
    return merged


def _unknown(name: str, known: Iterable[str], kind: str = "setting") -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"unknown {kind}" + (f" (did you mean {close[0]!r}?)" if close else "")
