"""The documentation names what is there: links, commands, options, settings, metrics, fields."""

import re
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from governor import telemetry
from governor.cli import app
from governor.core.business import BusinessEvent
from governor.core.positions import Start
from governor.core.usage import Reason, UsageEvent
from governor.formats import FORMATS, native
from governor.settings import reference

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
IN_THE_DOCS = {path.relative_to(ROOT).as_posix(): path for path in PAGES}
LOG_EVENTS = {"ingest.progressed", "kafka.failed", "store.waiting"}
OTHER_VARIABLES = {"GOVERNOR_CONFIG", "GOVERNOR_SECRETS_DIR"}

each_page = pytest.mark.parametrize("page", IN_THE_DOCS.values(), ids=IN_THE_DOCS.keys())


def read(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def first_column(name: str) -> list[str]:
    """Return the words in code style of the first cells of a page's table rows."""
    cells = [line.split("|")[1] for line in read(name).splitlines() if line.startswith("| `")]
    return [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]


def commands(command: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Return every command below and including this one, by its words."""
    found = {path: command}
    for name, below in getattr(command, "commands", {}).items():
        found |= commands(below, (*path, name))
    return found


COMMANDS = commands(typer.main.get_command(app))


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file, and every anchor a heading of it."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
            assert anchor in slugs, target


@each_page
def test_variables_are_settings(page: Path) -> None:
    """Every GOVERNOR_ variable is a setting, or names the settings file or the secrets."""
    known = set(re.findall(r"GOVERNOR_\w+", reference())) | OTHER_VARIABLES
    assert set(re.findall(r"\bGOVERNOR_[A-Z_]+[A-Z]\b", page.read_text("utf-8"))) <= known


@each_page
def test_settings_are_settings(page: Path) -> None:
    """Every dotted name in code style that begins with a group of settings is a setting."""
    known = set(re.findall(r"^\| `(\w+\.\w+)`", reference(), re.MULTILINE))
    named = re.findall(r"`((?:kafka|store|ingest|http|log)\.\w+)`", page.read_text("utf-8"))
    assert set(named) - LOG_EVENTS <= known


@each_page
def test_commands_are_commands(page: Path) -> None:
    """Every `governor ...` is a command, and every option given to it is one of its options."""
    text = page.read_text("utf-8")
    lines = re.findall(r"^\$ (?:\w+=\S+ )*governor (.+)$", text, re.MULTILINE)
    lines += re.findall(r"`governor ([^`\n]+)`", text)
    lines += re.findall(r"^## governor (.+)$", text, re.MULTILINE)
    for line in lines:
        words = re.sub(r"\".*?\"", "TEXT", line.partition(" #")[0]).split()
        if words == ["..."]:
            continue
        path: tuple[str, ...] = ()
        while len(path) < len(words) and (*path, words[len(path)]) in COMMANDS:
            path = (*path, words[len(path)])
        assert path, line
        command = COMMANDS[path]
        options = {option for parameter in command.params for option in parameter.opts}
        given = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert given <= options | {"--help"}, line


def test_every_command_and_option_is_in_the_reference() -> None:
    """A new command or option must be described."""
    text = read("reference/cli.md")
    for path, command in COMMANDS.items():
        if hasattr(command, "commands"):
            continue
        section = text.partition(f"## governor {' '.join(path)}\n")[2].partition("\n## ")[0]
        assert section, path
        options = {opt for parameter in command.params for opt in parameter.opts}
        for option in (opt for opt in options if opt.startswith("-")):
            assert f"`{option}`" in section, (path, option)


def test_the_example_of_the_native_format_decodes() -> None:
    """What the page shows is a usage event."""
    example = re.search(r"```json\n(.*?)```", read("reference/formats/native.md"), re.DOTALL)
    assert example is not None
    record = SimpleNamespace(partition=0, offset=0, value=example[1].encode())
    decoded = native.decode("usage", [record], 1_000_000)
    assert decoded.rejects == []
    (event,) = decoded.events
    assert event.event_time == datetime(2026, 11, 24, 7, 0, 0, 250_000, tzinfo=UTC)
    assert event.tags == {"experiment": "b"}


def test_every_field_is_in_the_native_format() -> None:
    """The page lists the fields of an event, in their order."""
    assert first_column("reference/formats/native.md") == list(UsageEvent.__struct_fields__)


def test_the_example_of_a_format_is_one() -> None:
    """The code of the how-to decodes what it is about, and sets the rest aside."""
    text = read("how-to/add-a-format.md")
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert example is not None
    module: dict[str, Any] = {}
    exec(textwrap.dedent("   " + example[1].lstrip(" ")), module)
    values = [b"2026-11-24T07:00:00Z gpt-4o 1000 200", b"gpt-4o 1000", b"now gpt-4o 1 x", b"\xff"]
    records = [
        SimpleNamespace(partition=0, offset=at, value=value, headers=(), timestamp=0)
        for at, value in enumerate(values)
    ]
    decoded = module["decoder"]({})("tally", records, 1_000)
    assert [(event.event_id, event.output_tokens) for event in decoded.events] == [
        ("tally-0-0", 200)
    ]
    assert [reject.reason.value for reject in decoded.rejects] == [
        "invalid",
        "malformed",
        "malformed",
    ]


def test_the_page_of_business_events_is_about_business_events() -> None:
    """Its example is one, and its table lists the fields; those that the how-to sends are, too."""
    page, how_to = read("reference/formats/business.md"), read("how-to/send-business-events.md")
    blocks = re.findall(r"```json\n(.*?)```", page + how_to, re.DOTALL)
    lines = [line for block in blocks[1:] for line in block.splitlines() if line.strip()]
    values = [blocks[0], *lines]
    records = [
        SimpleNamespace(partition=0, offset=0, value=value.encode(), headers=(), timestamp=0)
        for value in values
    ]
    decoded = FORMATS["business"]({})("business", records, 1_000_000)
    assert decoded.rejects == []
    assert len(decoded.business) == 6
    fields = set(BusinessEvent.__struct_fields__)
    assert set(first_column("reference/formats/business.md")) == fields


def test_every_reason_is_in_the_rejects() -> None:
    """The page lists every reason and no other."""
    assert first_column("reference/rejects.md") == [reason.value for reason in Reason]


def test_every_metric_is_in_the_reference() -> None:
    """The page lists every metric and no other."""
    exposed = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for registry in (telemetry.REGISTRY, telemetry.GATE_REGISTRY)
        for family in registry.collect()
    }
    assert set(first_column("reference/metrics.md")) == exposed


def test_every_start_is_in_the_explanation() -> None:
    """The page lists why a partition is read from where it is."""
    assert {start.value for start in Start} <= set(first_column("explanation/exactness.md"))


def test_the_code_map_is_complete() -> None:
    """Every module is on the map, and nothing else; an empty package needs no line."""
    package = ROOT / "governor"
    there = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if path.name != "__init__.py" or len(path.read_text("utf-8").splitlines()) > 5
    }
    for suffix in ("sql", "yaml", "json"):
        there |= {path.relative_to(package).as_posix() for path in package.rglob(f"*.{suffix}")}
    assert set(first_column("explanation/architecture.md")) - {
        "cli", "daemon", "demo", "gate", "settings", "rulebook", "pricebook", "rehearsal",
        "detection",
        "documents", "loops", "adapters",
        "telemetry", "formats", "core",
    } == there  # fmt: skip


def test_settings_reference_is_current() -> None:
    """The page is what the program prints."""
    assert read("reference/settings.md") == reference()
