"""The shape of the code: files that fit in a sitting, dependencies with an owner, pages for all."""

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from sys import stdlib_module_names
from typing import Any, Final

import duckdb
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from governor.formats import FORMATS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "governor"
SOURCES = sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.sql")])
MAX_LINES = 400

OWNERS: Final[dict[str, set[str]]] = {
    "apscheduler": {"daemon"},
    "jinja2": {"pages"},
    "crc32c": set(),  # kafka-python loads it
    "httptools": set(),  # uvicorn loads it
    "lz4": set(),  # kafka-python loads it
    "tzdata": set(),  # zoneinfo reads it
    "zstandard": set(),  # kafka-python loads it
    "websockets": {"demo"},
    "confluent-kafka": set(),  # the demo loads the C library out of its wheel
    "duckdb": {"adapters/duckdb"},
    "genai-prices": {"adapters"},
    "kafka-python": {"adapters/kafka"},
    "msgspec": {
        *("actions", "adapters/duckdb", "cli", "core", "daemon", "demo", "formats", "gate"),
        "loops",
    },
    "numpy": {"adapters/duckdb", "core", "core/gauges", "loops/evaluate"},
    "opentelemetry-proto": {"formats"},
    "prometheus-client": {"."},
    "protobuf": {"formats"},
    "pyarrow": {"adapters/duckdb", "core", "core/gauges"},
    "pydantic": {"cli", "daemon", "settings"},
    "pydantic-settings": {"settings"},
    "rich": {"cli"},
    "ruamel-yaml": {"documents"},
    "slack-sdk": {"actions/slack"},
    "structlog": {
        *(".", "actions", "actions/slack", "adapters", "daemon", "gate"),
        *("loops", "loops/evaluate", "loops/ingest", "rulebook"),
    },
    "altair": {"detection", "pictures", "rehearsal"},
    "typer": {"cli"},
    "limits": {"gate"},
    "pyjwt": {"gate"},
    "redis": set(),  # limits loads it
    "uvicorn": {"gate"},
    "vl-convert-python": {"pictures"},
    "uvloop": {"gate"},
}
"""The folders below `governor/` that may import a dependency; a new dependency gets a line here."""


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return found


def requirements(*extras: str) -> dict[str, Requirement]:
    lines = list(project()["dependencies"])
    for extra in extras:
        lines += project()["optional-dependencies"][extra]
    return {canonicalize_name(line.name): line for line in map(Requirement, lines)}


def imports() -> Iterator[tuple[str, str]]:
    """Yield each folder below `governor/` with the top of each foreign module it imports."""
    for source in PACKAGE.rglob("*.py"):
        folder = source.parent.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                top = name.partition(".")[0]
                if top not in stdlib_module_names and top != "governor":
                    yield folder, top


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_fits_in_a_sitting(source: Path) -> None:
    """Beyond 400 lines a file asks for a split."""
    assert len(source.read_text("utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_a_page(name: str) -> None:
    """Who adds a format also says what its fields become."""
    page = ROOT / "docs" / "reference" / "formats" / f"{name}.md"
    assert page.read_text("utf-8").startswith("# ")


def test_every_column_of_the_views_is_documented() -> None:
    """The views are the contract: each has its name and all its columns on the page of tables."""
    with duckdb.connect() as connection:
        connection.execute((PACKAGE / "adapters" / "duckdb" / "schema.sql").read_text("utf-8"))
        columns = connection.execute(
            "SELECT view_name, column_name FROM duckdb_views() JOIN duckdb_columns()"
            " ON table_oid = view_oid WHERE NOT duckdb_views.internal"
        ).fetchall()
    reference = ROOT / "docs" / "reference"
    page = (reference / "tables.md").read_text("utf-8")
    fields = (reference / "formats" / "native.md").read_text("utf-8")  # `usage` refers to it
    assert {view for view, _ in columns} >= {"usage", "spend_hourly", "spend_daily"}
    missing = [
        f"{view}.{column}"
        for view, column in columns
        if f"`{view}`" not in page or f"`{column}`" not in page + fields
    ]
    assert missing == []


def test_the_lock_pins_every_dependency() -> None:
    """Each dependency stands in the lock with one version that fits, and with hashes."""
    text = (ROOT / "requirements.lock").read_text("utf-8")
    pins = dict(
        re.findall(
            r"^([A-Za-z0-9._-]+)(?:\[.*\])?==(\S+) \\\n    --hash=sha256:", text, re.MULTILINE
        )
    )
    pinned = {canonicalize_name(name): Version(version) for name, version in pins.items()}
    unfit = [
        str(requirement)
        for name, requirement in requirements("demo", "dev").items()
        if name not in pinned or pinned[name] not in requirement.specifier
    ]
    assert unfit == []


def test_the_lock_names_no_index() -> None:
    """Where packages come from is up to who installs them; every line is a pin or a hash."""
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    odd = [
        line for line in lines if not re.match(r"(    --hash=sha256:|[A-Za-z0-9]\S*==|#|$)", line)
    ]
    assert odd == []


def test_every_dependency_has_an_owner() -> None:
    """What is declared is used, what is used is declared, and only by the folders it belongs to."""
    assert set(OWNERS) == set(requirements("demo", "charts", "redis", "tokens"))
    distributions = packages_distributions()
    users: dict[str, set[str]] = {name: set() for name in OWNERS}
    for folder, module in imports():
        (distribution, *_) = distributions.get(module.removesuffix("_core"), [module])
        users.setdefault(canonicalize_name(distribution), set()).add(folder)
    assert users == OWNERS
